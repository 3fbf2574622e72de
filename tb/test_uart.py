"""The serial line: the receiver against levels of an independent sender, the transmitter by an independent look."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from golden.soc.bridge import GAP
from golden.soc.uart import BITS, Line, divisor, levels, received
from golden.spec import SpecError
from hdl.soc.uart import Receiver, Transmitter
from tb.faults import rewritten

LINES = [Line(divisor=4, silence=20), Line(divisor=7, silence=12), Line(divisor=16, silence=30)]
DATA = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, 0xA5]
LATENCY = 3


def hear(line: Line, level: Sequence[int], unit: Any = Receiver, busy: range = range(0)) -> list[tuple[int, int]]:
    """Cycle and symbol of what leaves the receiver, whose ``o`` is not taken in the cycles ``busy``."""
    found: list[tuple[int, int]] = []
    dut = unit(line)

    async def bench(ctx: Any) -> None:
        for cycle, bit in enumerate([*level, *[1] * LATENCY]):
            ctx.set(dut.rx, int(bit))
            ctx.set(dut.o.ready, cycle not in busy)
            if ctx.get(dut.o.valid & dut.o.ready):
                found.append((cycle - LATENCY, GAP if ctx.get(dut.o.payload.gap) else ctx.get(dut.o.payload.byte)))
            await ctx.tick()

    run(dut, bench)
    return found


def tell(line: Line, data: Sequence[int], unit: Any = Transmitter) -> list[int]:
    """The levels of the line from reset on, until all bytes have left."""
    dut, seen = unit(line), list[int]()

    async def bench(ctx: Any) -> None:
        rest = list(data)
        for _ in range((len(data) * (BITS + 1) + 3) * line.divisor):
            ctx.set(dut.i.valid, bool(rest))
            ctx.set(dut.i.payload, rest[0] if rest else 0xFF)
            seen.append(ctx.get(dut.tx))
            if rest and ctx.get(dut.i.ready):
                rest.pop(0)
            await ctx.tick()

    run(dut, bench)
    return seen


def run(dut: Any, bench: Any) -> None:
    m = Module()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def silence(cycles: int) -> list[int]:
    return [1] * cycles


def bytes_of(heard: Sequence[tuple[int, int]]) -> list[int]:
    return [symbol for _, symbol in heard if symbol != GAP]


def lines(line: Line) -> list[int]:
    """Bytes one after the other and apart, a low pulse that is no start, a low one that is a byte, breaks, gaps."""
    bit, byte = line.divisor, [*levels(DATA, line.divisor)]
    pulse = [0] * max(1, bit // 2 - 1)
    parts: list[list[int]] = [
        silence(5), byte, silence(3 * bit), [*levels([0x3C], bit)], silence(line.quiet + 9), [*levels([0xC3], bit)],
        pulse, silence(2 * bit), [*levels([1, 2], bit)], [0] * (15 * bit), silence(bit), [*levels([7, 8], bit)],
        silence(line.quiet + 9), [*levels([9], bit)], [0] * (3 * bit), silence(BITS * bit), [*levels([10], bit)],
        silence(2 * line.quiet), [*levels([11, 12], bit)], [0] * (2 * line.quiet), silence(bit), [*levels([13], bit)],
        silence(line.quiet + 20), [*levels([14], bit)], silence(line.quiet + 20),
    ]  # fmt: skip
    return list(itertools.chain(*parts))


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line.divisor))
def test_receiver_equals_the_model(line: Line) -> None:
    level = lines(line)
    assert hear(line, level) == list(received(line, level))


def test_the_model_hears_what_was_sent() -> None:
    """What the levels of :func:`lines` mean, by hand."""
    heard = [symbol for _, symbol in received(LINES[2], lines(LINES[2]))]
    assert heard == [*DATA, 0x3C, GAP, 0xC3, 1, 2, GAP, 9, 0xFC, 10, GAP, 11, 12, GAP, 14, GAP]


@pytest.mark.parametrize("drift", (-0.04, -0.02, 0.02, 0.04))
def test_receiver_bears_a_wrong_bit_rate(drift: float) -> None:
    line = Line(divisor=20, silence=20)
    level = [*silence(9), *levels(range(0, 256, 5), line.divisor * (1 + drift)), *silence(99)]
    assert bytes_of(hear(line, level)) == list(range(0, 256, 5))


def test_receiver_at_random() -> None:
    """Levels that are noise: whatever they mean, model and receiver agree."""
    rng = np.random.default_rng(3)
    line = Line(divisor=5, silence=11)
    level = np.repeat(rng.integers(0, 2, 700), rng.integers(1, 14, 700))
    level = np.concatenate([[1, 1], level, np.ones(400, dtype=int)])
    assert hear(line, level.tolist()) == list(received(line, level.tolist()))


def test_a_byte_too_many_is_dropped_with_all_up_to_the_gap() -> None:
    line = Line(divisor=4, silence=12)
    level = [*silence(3), *levels([1, 2, 3], 4), *silence(100), *levels([4], 4), *silence(100)]
    assert [symbol for _, symbol in hear(line, level, busy=range(90))] == [1, GAP, 4, GAP]


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line.divisor))
def test_transmitter(line: Line) -> None:
    """Looked at in every cycle: bytes one after the other, a cycle between them."""
    seen = tell(line, DATA)
    wanted = [1, *itertools.chain(*([*levels([byte], line.divisor), 1] for byte in DATA))]
    assert seen == wanted + silence(len(seen) - len(wanted))


@pytest.mark.parametrize(
    ("clock", "baud", "cycles"),
    ((25e6, 1_000_000, 25), (12e6, 115200, 104), (50e6, 3_000_000, 17), (100e6, 9600, 10417)),
)
def test_divisor(clock: float, baud: int, cycles: int) -> None:
    assert divisor(clock, baud) == cycles


def test_refusals() -> None:
    with pytest.raises(SpecError) as e:
        divisor(25e6, 10_000_000)
    assert str(e.value) == "baud must be between 381 and 6250000 at 25000000 Hz, not 10000000"
    with pytest.raises(SpecError) as e:
        divisor(12e6, 921600 * 2)
    assert str(e.value) == "baud must be within 2% of 12000000 Hz divided by an integer, not 1843200"
    with pytest.raises(SpecError) as e:
        Line(divisor=3)
    assert str(e.value) == "divisor must be an integer between 4 and 65535, not 3"


# name: class, what stands there, what stands there instead
FAULTS: dict[str, tuple[Any, str, str]] = {
    "first bit too late": (Receiver, "self.line.divisor // 2 - 1", "self.line.divisor // 2"),
    "highest bit first": (Receiver, "Cat(byte[1:], level)", "Cat(level, byte[:-1])"),
    "a pulse is a start": (Receiver, "ends | (~bit.any() & level)", "ends"),
    "a low stop bit is none": (Receiver, "ends & level & ~deaf", "ends & ~deaf"),
    "not deaf after a break": (Receiver, "ends & (~level | ~free)", "ends & ~free"),
    "not deaf when a byte was lost": (Receiver, "ends & (~level | ~free)", "ends & ~level"),
    "deaf for ever": (Receiver, "[heard.eq(0), deaf.eq(0)]", "heard.eq(0)"),
    "gaps without end": (Receiver, "[heard.eq(0), deaf.eq(0)]", "deaf.eq(0)"),
    "a low line is silent": (Receiver, "busy | ~level", "busy"),
    "starts while it is low": (Receiver, "~busy & before & ~level", "~busy & ~level"),
    "bits too long": (Transmitter, "with m.If(~timer.any()):", "with m.If(timer == 1):"),
    "no stop bit": (Transmitter, "left.eq(BITS)", "left.eq(BITS - 1)"),
    "highest bit sent first": (Transmitter, "self.i.payload, 1", "self.i.payload[::-1], 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str) -> None:
    unit, old, new = FAULTS[name]
    wrong = rewritten(unit, old, new)
    with pytest.raises(AssertionError):
        if unit is Transmitter:
            assert tell(LINES[1], DATA, wrong) == tell(LINES[1], DATA)
        else:
            level = lines(LINES[1])
            assert hear(LINES[1], level, wrong) == hear(LINES[1], level)
            line = Line(divisor=4, silence=12)
            level = [*silence(3), *levels([1, 2, 3], 4), *silence(100)]
            assert hear(line, level, wrong, range(90)) == hear(line, level, busy=range(90))
