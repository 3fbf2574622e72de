"""The bench of unit ``axi_memory``: masters, each with a script of bursts, as the world around it."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golden.axi import INCR, OKAY, PAGE
from golden.ports import Beats
from golden.soc.memory import MemorySpec
from tb.axi import Channel
from tb.transactions import Case, CheckFailed, Gift, World

LEVEL = 96
"""Of stalls."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A burst of ``words`` words to or from ``address``; ``data`` and ``strobes`` of a write, an integer per word. With
    ``more`` the next one does not wait for its answer."""

    address: int
    words: int
    size: int
    burst: int = INCR
    data: tuple[int, ...] = ()
    strobes: tuple[int, ...] = ()
    number: int = 0
    more: bool = False

    @property
    def write(self) -> bool:
        return bool(self.data)


@dataclass
class Masters(World):
    """Each master has its script: the next burst when those before are answered.

    ``finished``: the cycle of each one's last answer so far.

    It finds: answers that no burst asked for; words, responses, ``last`` and ``id`` that are not as they should be.
    What is read must be what the same master wrote last: no two may use the same bytes.
    """

    spec: MemorySpec
    scripts: Sequence[Sequence[Transfer]]
    _left: list[deque[Transfer]] = field(init=False)
    _asked: list[deque[Transfer]] = field(init=False)
    _words: list[list[dict[str, int]]] = field(init=False)

    def __post_init__(self) -> None:
        ports = self.spec.ports
        self._left = [deque(script) for script in self.scripts]
        self._asked = [deque() for _ in self.scripts]
        self._words = [[] for _ in self.scripts]
        self._bytes: dict[int, int] = {}
        self.finished = [0 for _ in self.scripts]
        self._channels = {port.name: Channel(ports, port.name) for port in ports}
        self._of = {f"{of}_{name}": n for n, of in enumerate(self.spec.prefixes) for name in ("r", "b")}
        self.answers = frozenset(self._of)

    @property
    def over(self) -> bool:
        return not any(self._left) and not any(self._asked)

    def begins(self) -> Iterator[Gift]:
        for n in range(len(self.scripts)):
            yield from self._ask(n, 0)

    def _ask(self, n: int, cycle: int) -> Iterator[Gift]:
        while self._left[n] and (not self._asked[n] or self._asked[n][-1].more):
            transfer = self._left[n].popleft()
            self._asked[n].append(transfer)
            address = {"addr": transfer.address, "len": transfer.words - 1, "size": transfer.size}
            address |= {"burst": transfer.burst, "id": transfer.number}
            prefix = self.spec.prefixes[n]
            yield self._channels[f"{prefix}_{'aw' if transfer.write else 'ar'}"].gift(cycle, **address)
            for i, (data, strb) in enumerate(zip(transfer.data, transfer.strobes, strict=True)):
                last = int(i == transfer.words - 1)
                yield self._channels[f"{prefix}_w"].gift(cycle, data=data, strb=strb, last=last)

    def sees(self, cycle: int, stream: str, beat: int) -> Iterable[Gift]:
        n, write = self._of[stream], stream.endswith("b")
        if not self._asked[n] or self._asked[n][0].write != write:
            raise CheckFailed(f"{stream}: an answer in cycle {cycle} to what was not asked")
        transfer, channel = self._asked[n][0], self._channels[stream]
        resp = self.spec.response(transfer.address, transfer.words - 1, transfer.size, transfer.burst)
        last = write or len(self._words[n]) == transfer.words - 1
        wanted = {"resp": resp, "id": transfer.number}
        if not write:
            wanted |= {"last": int(last)}
            word = len(self._words[n])
            got = channel.get(beat, "data")
            if resp == OKAY and got != self._word(transfer.address // self.spec.bus_bytes + word):
                raise CheckFailed(f"{stream}: word {word} of {transfer.address:#x} is {got:#x} in cycle {cycle}")
            self._words[n].append({})
        for name, value in wanted.items():
            if channel.get(beat, name) != value:
                raise CheckFailed(f"{stream}: {name} must be {value}, not {channel.get(beat, name)} in cycle {cycle}")
        if not last:
            return ()
        self._asked[n].popleft()
        self.finished[n] = cycle
        self._words[n].clear()
        if write and resp == OKAY:
            self._store(transfer)
        return self._ask(n, cycle + 1)

    def _word(self, index: int) -> int:
        width = self.spec.bus_bytes
        return sum(self._bytes[index * width + i] << 8 * i for i in range(width))

    def _store(self, transfer: Transfer) -> None:
        first = transfer.address // self.spec.bus_bytes * self.spec.bus_bytes
        for i, (data, strb) in enumerate(zip(transfer.data, transfer.strobes, strict=True)):
            for byte in range(self.spec.bus_bytes):
                if strb >> byte & 1:
                    self._bytes[first + i * self.spec.bus_bytes + byte] = data >> 8 * byte & 0xFF

    def ends(self) -> Iterator[str]:
        if not self.over:
            yield f"{sum(map(len, self._asked))} bursts are not answered"


def bench(spec: MemorySpec, seed: int) -> list[Case]:
    """Bursts of every length to 16 and of 256, strobes, single words narrower than the bus, both ends of memory, what
    is refused, all masters at once, all stalls, resets."""
    rng = np.random.default_rng(seed)
    scripts = [_script(spec, rng, n) for n in range(spec.masters)]
    cases = [
        case(spec, f"alone-{n}", [scripts[n] if m == n else [] for m in range(spec.masters)], seed)
        for n in range(spec.masters)
    ]
    cases += [case(spec, "all", scripts, seed)]
    for names in (("r", "b"), ("ar", "aw", "w"), ("ar", "aw", "w", "r", "b")):
        stall = {p.name: LEVEL for p in spec.ports if p.name.rpartition("_")[2] in names}
        cases.append(case(spec, f"all-stalled-{'-'.join(names)}", scripts, seed, stall=stall))
    cases.append(case(spec, "refused", [_refused(spec, rng, n) for n in range(spec.masters)], seed))
    for at in (3, 20, 75, 130):
        cases.append(
            case(spec, f"reset-in-cycle-{at}", scripts, seed, stall={p.name: 64 for p in spec.ports}, reset_at=at)
        )
        cases.append(case(spec, f"after-reset-in-cycle-{at}", scripts, seed))
    return cases


def case(spec: MemorySpec, name: str, scripts: Sequence[Sequence[Transfer]], seed: int, **values: Any) -> Case:
    """All of a case is its world's."""
    nothing = {p.name: Beats(np.zeros((0, p.bytes), np.uint8), np.zeros(0, np.bool_)) for p in spec.ports}
    inputs = {p.name: nothing[p.name] for p in spec.ports if p.direction == "in"}
    return Case(name, spec.ports, inputs, {}, seed=seed, world=Masters(spec, scripts), **values)


def region(spec: MemorySpec, master: int) -> range:
    """The bytes that a master uses: a part of memory each, the first from the first byte, the last to the last."""
    size = spec.bytes // spec.masters // PAGE * PAGE or spec.bytes // 4
    start = spec.bytes - size if master == spec.masters - 1 else master * size
    return range(start, start + size)


def write(spec: MemorySpec, rng: np.random.Generator, address: int, words: int, full: bool = True) -> Transfer:
    size, strobes = spec.bus_bytes.bit_length() - 1, (1 << spec.bus_bytes) - 1
    return Transfer(
        address=address,
        words=words,
        size=size,
        data=tuple(int.from_bytes(rng.bytes(spec.bus_bytes), "little") for _ in range(words)),
        strobes=tuple(strobes if full else int(s) for s in rng.integers(0, strobes, words, endpoint=True)),
        number=int(rng.integers(2)),
    )


def read(spec: MemorySpec, rng: np.random.Generator, address: int, words: int) -> Transfer:
    size = spec.bus_bytes.bit_length() - 1
    return Transfer(address=address, words=words, size=size, number=int(rng.integers(2)))


def _script(spec: MemorySpec, rng: np.random.Generator, master: int) -> list[Transfer]:
    """Fills a piece at each end of the master's bytes, then writes and reads pieces of it."""
    own, width = region(spec, master), spec.bus_bytes
    most = min(32, len(own) // width // 2)
    starts = (own.start, own.stop - most * width)
    made = [write(spec, rng, start, most) for start in starts]
    for n, words in enumerate([*range(1, 17), 1, 1, 1]):
        words = min(words, most)
        at = starts[n % 2] + int(rng.integers(most - words, endpoint=True)) * width
        made.append(write(spec, rng, at, words, full=n % 3 == 0))
        made.append(read(spec, rng, at, words))
    made += [_narrow(spec, rng, starts[0] + 4 * n) for n in range(min(4, width // 4 + 1))]
    made += [read(spec, rng, start, most) for start in starts]
    return made


def _narrow(spec: MemorySpec, rng: np.random.Generator, address: int) -> Transfer:
    """One word of 32 bits."""
    lane = address % spec.bus_bytes
    data = (int(rng.integers(1 << 32)) << 8 * lane,)
    return Transfer(address=address, words=1, size=2, data=data, strobes=(0xF << lane,))


def _refused(spec: MemorySpec, rng: np.random.Generator, master: int) -> list[Transfer]:
    """Beyond the last byte, far beyond it, other kinds of bursts, narrow ones; nothing is written."""
    at, made = region(spec, master).start, []
    made.append(write(spec, rng, at, 4))
    for address, values in (
        (spec.bytes, {}),
        (1 << 39, {}),
        (spec.bytes + at, {}),
        (at, {"burst": 0}),
        (at, {"burst": 2}),
        *(((at, {"size": 0}),) if spec.bus_bytes > 1 else ()),
    ):
        for one in (write(spec, rng, address, 2), read(spec, rng, address, 2)):
            made.append(Transfer(**{**vars(one), **values}))
        made.append(read(spec, rng, at, 4))
    return made
