"""The bench of unit ``uart_bridge``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from golden.axi import DECERR, OKAY, SLVERR
from golden.soc import registers
from golden.soc.bridge import (
    GAP,
    Access,
    BridgeSpec,
    Command,
    Device,
    Slave,
    Talk,
    request,
)
from golden.soc.descriptor import ADDRESS_BITS
from tb.transactions import Case, case_of, cases_of, in_time

BITS = {False: registers.ADDRESS_BITS, True: ADDRESS_BITS}


def bench(spec: BridgeSpec, seed: int) -> list[Case]:
    """All commands and lengths, first and last addresses, errors of the bus, every way to be no request, cuts in every
    place, all stalls, resets, a bus that does not answer."""
    rng = np.random.default_rng(seed)
    some = [random_talk(spec, rng) for _ in range(4)]
    short = _talk(spec, rng, *(_frame(spec, rng) for _ in range(3)))
    cases = [
        case_of(spec, "requests", [_talk(spec, rng, *_every(spec, rng))], seed=seed),
        case_of(spec, "alone", [_talk(spec, rng, request(Command(0), 8, 1))], seed=seed),
        case_of(spec, "errors-of-the-bus", [_talk(spec, rng, *_every(spec, rng), failing=3)], seed=seed),
        case_of(spec, "no-requests", [_talk(spec, rng, *_wrong(spec, rng))], seed=seed),
        case_of(spec, "one-bit", [_talk(spec, rng, *_one_bit())], seed=seed),
        case_of(spec, "cuts", [_talk(spec, rng, *_cuts(spec, rng))], seed=seed),
        *cases_of(spec, "mixed", some, seed=seed),
        *(case_of(spec, f"{p.name}-nearly-stuck", [short], seed=seed, stall={p.name: 200}) for p in spec.ports),
    ]
    for command in (c for c in _commands(spec) if not c & Command.FIXED):
        stuck = _unanswered(spec, rng, command)
        cases += [case_of(spec, f"stuck-{command:d}", [stuck], seed=seed)]
        cases += [case_of(spec, f"after-stuck-{command:d}", some[:1], seed=seed)]
    for at in (0, 5, 11, 14, 17, 25, 40):
        cut = case_of(spec, f"reset-in-cycle-{at}", some, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", some[1:2], seed=seed)]
    return in_time(cases, spec.patience, *(p.name for p in spec.ports[2:]))


def random_talk(spec: BridgeSpec, rng: np.random.Generator) -> Talk:
    """Requests of all kinds, good and bad ones."""
    frames = [_frame(spec, rng) for _ in range(6)]
    for at in rng.choice(6, 2, replace=False):
        frames[at] = [*_damaged(frames[at], rng), GAP]
    return _talk(spec, rng, *frames, failing=8)


Symbols = Sequence[int]


def _talk(spec: BridgeSpec, rng: np.random.Generator, *frames: Symbols, failing: int = 0) -> Talk:
    """Answers with random words; one in ``failing`` is an error."""

    def slave(access: Access) -> tuple[int, int]:
        wide = spec.bus if access.memory else 32
        data = 0 if access.write else int.from_bytes(rng.bytes(wide // 8), "little")
        fails = failing and not rng.integers(failing)
        return data, int(rng.choice([SLVERR, DECERR])) if fails else OKAY

    return recorded(spec, [symbol for frame in frames for symbol in frame], slave)


def recorded(spec: BridgeSpec, symbols: Sequence[int], slave: Slave) -> Talk:
    """The job in which the bus answers as ``slave`` does."""
    answers: dict[str, list[tuple[int, int]]] = {}

    def noted(access: Access) -> tuple[int, int] | None:
        answer = slave(access)
        if answer is not None:
            answers.setdefault(access.channels[-1], []).append(answer)
        return answer

    device = Device(spec, noted)
    for symbol in symbols:
        device.hear(symbol)
    return Talk(np.array(symbols, dtype=np.int64), answers)


def _commands(spec: BridgeSpec) -> list[Command]:
    return [Command(c) for c in range(8) if not c & ~spec.commands]


def _frame(spec: BridgeSpec, rng: np.random.Generator, command: int | None = None, count: int | None = None) -> Symbols:
    made = Command(int(rng.choice(_commands(spec))) if command is None else command)
    count = int(rng.integers(1, min(spec.words, 9), endpoint=True)) if count is None else count
    address = int(rng.integers(1 << BITS[bool(made & Command.MEMORY)] - 2)) << 2
    words = [int(word) for word in rng.integers(1 << 32, size=count)]
    return request(made, address, words if made & Command.WRITE else count)


def _every(spec: BridgeSpec, rng: np.random.Generator) -> Iterator[Symbols]:
    """Every command with the shortest and the longest frame; then the first and the last address, where addresses begin
    again."""
    for command, count in product(_commands(spec), (1, 2, spec.words)):
        yield _frame(spec, rng, command, count)
    for command in _commands(spec):
        last = (1 << BITS[bool(command & Command.MEMORY)]) - 4
        for address in (0, last):
            yield request(command, address, [5, 0xFFFFFFFF] if command & Command.WRITE else 2)


def _wrong(spec: BridgeSpec, rng: np.random.Generator) -> Iterator[Symbols]:
    """Each cause, with what follows dropped up to a gap; a good request after each."""
    good = bytes(request(Command.WRITE, 16, [1]))
    beyond = 1 << registers.ADDRESS_BITS
    for frame in (
        b"\0" + good[1:],
        good[:1] + bytes((spec.commands + 1,)) + good[2:],
        good[:1] + b"\xff" + good[2:],
        good[:2] + b"\0" + good[3:],
        good[:2] + bytes((spec.words + 1,)) + good[3:],
        good[:2] + b"\xff" + good[3:],
        request(Command(0), 1, 1),
        request(Command(0), 2, 1),
        request(Command.MEMORY, 2, 1),
        request(Command(0), beyond, 1),
        request(Command.WRITE, beyond << 27, [1]),
        good[:-1] + bytes((good[-1] ^ 1,)),
        good[:-2] + bytes((good[-2] ^ 0x80, good[-1])),
        good[:9] + bytes((good[9] ^ 1,)) + good[10:],
    ):
        yield [*frame, *good, GAP]
        yield good
    yield [GAP, GAP]
    yield [*rng.integers(0, 256, 20).tolist(), GAP, GAP]


def _one_bit() -> Iterator[Symbols]:
    """Each bit of a request is wrong, alone."""
    good = request(Command.WRITE, 16, [0x5A0FF0A5])
    for bit in range(8 * len(good)):
        yield [*(byte ^ (1 << bit % 8) * (place == bit // 8) for place, byte in enumerate(good)), GAP]


def _cuts(spec: BridgeSpec, rng: np.random.Generator) -> Iterator[Symbols]:
    """Gaps after every byte of a request with two words and of one without."""
    for command in _commands(spec)[-2:]:
        frame = _frame(spec, rng, command, 2)
        for n in range(len(frame) + 1):
            yield [*frame[:n], GAP]


def _damaged(frame: Symbols, rng: np.random.Generator) -> Symbols:
    at = int(rng.integers(len(frame)))
    return [*frame[:at], frame[at] ^ 1 << int(rng.integers(8)), *frame[at + 1 :]]


def _unanswered(spec: BridgeSpec, rng: np.random.Generator, command: Command) -> Talk:
    """One word is answered, the next is not; then nothing is asked for any more."""
    last = iter([(0, OKAY)])
    other = int(command) ^ (Command.MEMORY & spec.commands)
    frames = [*_frame(spec, rng, int(command), 2), *_frame(spec, rng, other, 1), 0, GAP]
    return recorded(spec, frames, lambda access: next(last, None))


def real(spec: BridgeSpec) -> tuple[Talk, int]:
    """Memory is filled with frames of full length."""
    rng = np.random.default_rng(0)
    frames = [_frame(spec, rng, _commands(spec)[-1], spec.words) for _ in range(4)]
    return _talk(spec, rng, *frames), 4 * spec.words
