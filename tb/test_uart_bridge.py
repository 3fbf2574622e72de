"""Unit ``uart_bridge``: the protocol by hand, the exported Verilog against the golden model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.axi import DECERR, OKAY, SLVERR
from golden.soc.bridge import GAP, Access, BridgeSpec, Command, Device, Status, Talk, reply, request
from golden.spec import SpecError
from hdl.soc.access import Access as AccessUnit
from hdl.soc.bridge import Bridge, Executor, Listener, Teller
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = BridgeSpec(bus=32, words=4, patience=100)
MORE = [BridgeSpec(bus=0, words=2, patience=9), BridgeSpec(), BridgeSpec(bus=256, words=8)]


def test_frames_by_hand() -> None:
    """The bytes as the datasheet has them; the check by a division that is written out."""
    frame = request(Command.WRITE | Command.MEMORY, 0x12_3456_7890, [0x04030201])
    assert frame[:-2].hex(" ") == "a5 03 01 90 78 56 34 12 01 02 03 04"
    assert frame[-2:] == bytes(divmod(crc(frame[:-2]), 256))
    assert request(Command(0), 8, 3)[:-2].hex(" ") == "a5 00 03 08 00 00 00 00"
    assert reply(Status.OK, [1])[:-2].hex(" ") == "5a 00 01 01 00 00 00"
    assert reply(Status.SLVERR)[:-2].hex(" ") == "5a 07 00"


def crc(data: bytes) -> int:
    state = 0xFFFF
    for bit in (byte >> n & 1 for byte in data for n in range(7, -1, -1)):
        state = state << 1 ^ (0x1021 if state >> 15 ^ bit else 0)
        state &= 0xFFFF
    return state


class Ram:
    """Words at addresses; what is wrong at some."""

    def __init__(self) -> None:
        self.words: dict[tuple[bool, int], int] = {}
        self.wrong: dict[int, int] = {}

    def __call__(self, access: Access) -> tuple[int, int] | None:
        key = (access.memory, access.address)
        if access.write and access.address not in self.wrong:
            self.words[key] = access.data
        return 0 if access.write else self.words.get(key, 0), self.wrong.get(access.address, OKAY)


def say(device: Device, *symbols: int) -> bytes:
    return b"".join(map(device.hear, symbols))


def test_the_model_reads_what_it_wrote() -> None:
    device = Device(TINY, Ram())
    for memory in (Command(0), Command.MEMORY):
        assert say(device, *request(memory | Command.WRITE, 16, [5, 6, 7])) == reply(Status.OK)
        assert say(device, *request(memory, 12, 4)) == reply(Status.OK, [0, 5, 6, 7])
        assert say(device, *request(memory | Command.WRITE | Command.FIXED, 16, [8, 9])) == reply(Status.OK)
        assert say(device, *request(memory, 16, 2)) == reply(Status.OK, [9, 6])


def test_the_model_names_the_error() -> None:
    ram = Ram()
    ram.wrong = {32: SLVERR, 36: DECERR}
    device = Device(TINY, ram)
    good = request(Command(0), 0, 1)
    assert say(device, *request(Command.WRITE, 24, [1, 2, 3, 4])) == reply(Status.SLVERR)
    assert ram.words == {(False, 24): 1, (False, 28): 2}
    assert say(device, *request(Command(0), 36, 1)) == reply(Status.DECERR)
    for frame, status in (
        (b"\x00", Status.BEGIN),
        (b"\xa5\x08", Status.COMMAND),
        (b"\xa5\x00\x00", Status.COUNT),
        (b"\xa5\x00\x05", Status.COUNT),
        (request(Command(0), 2, 1), Status.ADDRESS),
        (request(Command(0), 4096, 1), Status.ADDRESS),
        (good[:-1] + b"\x00", Status.CHECKSUM),
        (good[:-1], Status.CUT),
    ):
        dropped = good if status != Status.CUT else b""
        assert say(device, *frame, *dropped) == b""
        assert say(device, GAP, GAP) == reply(status)
        assert say(device, *good) == reply(Status.OK, [0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_disturbed_write_changes_nothing(seed: int) -> None:
    """Any one burst of up to 16 wrong bits in a frame: no word is written, and after a gap all is well."""
    rng, ram = np.random.default_rng(seed), Ram()
    device = Device(BridgeSpec(), ram)
    frame = request(Command.WRITE | Command.MEMORY, 64, rng.integers(1 << 32, size=5).tolist())
    bits = np.unpackbits(np.frombuffer(frame, np.uint8))
    at = int(rng.integers(len(bits) - 15))
    burst = rng.integers(0, 2, 16, dtype=np.uint8)
    burst[0] = 1
    bits[at : at + 16] ^= burst
    say(device, *np.packbits(bits).tolist(), GAP)
    assert not ram.words
    assert say(device, *frame) == reply(Status.OK) and len(ram.words) == 5


@pytest.mark.parametrize(
    "spec", [TINY, *(pytest.param(s, marks=pytest.mark.slow, id=str(s.bus)) for s in MORE)], ids=lambda s: s.bus
)
def test_bulk(spec: BridgeSpec) -> None:
    run_bulk(spec, BENCHES["uart_bridge"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["uart_bridge"](TINY, 2) if c.name in ("no-requests", "mixed-both", "stuck-3")]
    both_see_the_same(TINY, cases, 2)


def test_latency() -> None:
    for words in (1, 3):
        job = Talk(np.array(list(request(Command(0), 0, words))), {"m_axil_r": [(7, OKAY)] * words})
        played = compile(TINY).play(case_of(TINY, "one", [job]))
        assert played.last_out is not None and TINY.latency == 7
        said = len(played.outputs["o"]) + 1 + words  # cycles: before each word and the check there is one without
        assert played.last_out - said + 1 == len(job.symbols) - 1 + 7 + 4 * (words - 1)


def test_refusals() -> None:
    for values, said in refused():
        with pytest.raises(SpecError) as e:
            BridgeSpec(**values)
        assert str(e.value) == said


def refused() -> Iterator[tuple[dict[str, int], str]]:
    yield {"words": 3}, "words must be a power of two, not 3"
    yield {"words": 256}, "words must be an integer between 2 and 128, not 256"
    yield {"bus": 96}, "bus must be one of 0, 32, 64, 128, 256, not 96"


WORDS = "self._words(m, place, byte, symbol.byte)"

# name: class, method, what stands there, what stands there instead; all of the configuration TINY
FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "a wrong check is right": (Listener, "elaborate", "with m.If(~crc.match_detected):", "with m.If(0):"),
    "any byte begins": (Listener, "_header", "byte != START", "byte == 0"),
    "any command": (Listener, "_header", "byte & ~self.spec.commands & 0xFF", "byte & 0x80"),
    "no words": (Listener, "_header", "~byte.any() | (byte", "(byte"),
    "a word too many": (Listener, "_header", "byte > self.spec.words", "byte > self.spec.words + 1"),
    "odd addresses": (Listener, "_header", "address[:2].any() | beyond", "address[:1].any() | beyond"),
    "beyond the registers": (Listener, "_header", "address[:2].any() | beyond", "address[:2].any()"),
    "the check of the request before": (Listener, "elaborate", "~place.any()", "0"),
    "no gap heard among words": (Listener, "elaborate", f"{WORDS}\n            self._cut(m, gap)", WORDS),
    "words in the wrong order": (Listener, "_words", "Cat(word, byte)[8:]", "Cat(byte, word)[:24]"),
    "as many words as before": (Listener, "_header", "m.d.sync += place.eq(0)", "pass"),
    "an address without a step": (Executor, "elaborate", "Mux(now.fixed, 0, done << 2)", "0"),
    "always a step": (Executor, "elaborate", "Mux(now.fixed, 0, done << 2)", "done << 2"),
    "errors are told as done": (Executor, "elaborate", "with m.If(answer.resp[1]):", "with m.If(0):"),
    "SLVERR for DECERR": (Executor, "elaborate", "answer.resp == DECERR", "0"),
    "never late": (Executor, "elaborate", "with m.Elif(late):", "with m.Elif(0):"),
    "stuck and forgotten": (Executor, "elaborate", "stuck.eq(1), ", ""),
    "words after an error": (Executor, "elaborate", "    self.o.payload.count.eq(0),\n", ""),
    "a check over too much": (Teller, "elaborate", "crc.start.eq(1)", "crc.start.eq(0)"),
    "the highest byte first": (Teller, "elaborate", "choose(self.word, 8, part)", "choose(self.word, 8, ~part)"),
    "an answer before the word went": (AccessUnit, "elaborate", "busy & ~address & ~word", "busy & ~address"),
    "all addresses read": (AccessUnit, "elaborate", "mine & address & now.write", "mine & address & 0"),
    "the wrong bus": (AccessUnit, "elaborate", "now.memory == memory", "now.memory != memory"),
    "half a word": (AccessUnit, "_fields", "((1 << WORD) - 1)", "3"),
    "the words of the request before": (Bridge, "elaborate", "write.en, write.addr", "Signal(), write.addr"),
}


@pytest.mark.parametrize("name", one_in(12, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, TINY, *FAULTS[name])
