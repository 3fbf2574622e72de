"""Random simulation of the stream kit: contents, latency and throughput."""

import gc
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from amaranth.hdl import Cat, Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from golden.ports import Field, StatusPort, StreamPort
from golden.spec import SpecError
from hdl.shared import Shared
from hdl.stream.axi import AxiShell
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import stream_signature
from hdl.stream.skid import Skid
from hdl.stream.width import Narrow, Widen

ITEM = data.StructLayout({"data": 7, "last": 1})


@dataclass
class Played:
    """What left ``o``, and the cycles of transfer on both sides."""

    items: list[int] = field(default_factory=list)
    cycles_in: list[int] = field(default_factory=list)
    cycles_out: list[int] = field(default_factory=list)


def simulate(dut: Any, bench: Any, clock: bool = True) -> None:
    sim = Simulator(dut)
    if clock:
        sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def play(dut: Any, items: Sequence[int], expect: int, idle: float = 0, stall: float = 0, seed: int = 0) -> Played:
    """Send ``items`` (bit patterns), take ``expect``, then look for 10 more cycles; pause either side at random."""
    played, rng = Played(), random.Random(seed)
    payload_i, payload_o = Value.cast(dut.i.payload), Value.cast(dut.o.payload)

    async def bench(ctx: Any) -> None:
        sent, offered, ends = 0, False, 20 * (len(items) + expect)
        cycle = 0
        while cycle < ends:
            offered = offered or (sent < len(items) and rng.random() >= idle)
            ctx.set(dut.i.valid, offered)
            ctx.set(payload_i, items[sent] if offered else rng.getrandbits(len(payload_i)))
            ctx.set(dut.o.ready, rng.random() >= stall)
            put = offered and ctx.get(dut.i.ready)
            if ctx.get(dut.o.valid & dut.o.ready):
                played.items.append(ctx.get(payload_o))
                played.cycles_out.append(cycle)
                if len(played.items) == expect:
                    ends = cycle + 10
            if put:
                played.cycles_in.append(cycle)
                sent, offered = sent + 1, False
            await ctx.tick()
            cycle += 1

    simulate(dut, bench)
    assert len(played.cycles_in) == len(items), "i must take every item"
    return played


def randoms(seed: int, n: int, width: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(width) for _ in range(n)]


def split(value: int, width: int, n: int) -> list[int]:
    return [value >> k * width & (1 << width) - 1 for k in range(n)]


def join(items: Iterable[int], width: int) -> int:
    return sum(item << k * width for k, item in enumerate(items))


STALLS = [(idle, stall) for idle in (0, 0.3, 0.8) for stall in (0, 0.3, 0.8)]
QUEUES = [(Skid, ()), *((StreamFIFO, (depth,)) for depth in (1, 2, 3, 8))]


@pytest.mark.parametrize(("idle", "stall"), STALLS)
@pytest.mark.parametrize(("unit", "args"), QUEUES)
def test_queue(unit: Any, args: tuple[int, ...], idle: float, stall: float) -> None:
    items = randoms(1, 60, 8)
    assert play(Shared(unit, ITEM, *args), items, 60, idle, stall).items == items


@pytest.mark.parametrize(("unit", "args"), QUEUES)
def test_queue_cycles(unit: Any, args: tuple[int, ...]) -> None:
    played = play(unit(ITEM, *args), randoms(2, 20, 8), 20)
    period = 2 if args == (1,) else 1
    assert played.cycles_in == list(range(0, 20 * period, period))
    assert played.cycles_out == [cycle + unit.latency for cycle in played.cycles_in]


@pytest.mark.parametrize(("unit", "args"), QUEUES)
def test_queue_depth(unit: Any, args: tuple[int, ...]) -> None:
    """With nobody taking, exactly ``depth`` items are accepted, one per cycle."""
    dut = unit(8, *args)
    accepted = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.i.valid, 1)
        for _ in range(12):
            accepted.append(ctx.get(dut.i.ready))
            await ctx.tick()

    simulate(dut, bench)
    assert accepted == [1] * dut.depth + [0] * (12 - dut.depth)


def test_wide_queue() -> None:
    items = randoms(3, 30, 2048)
    assert play(StreamFIFO(2048, 5), items, 30, 0.2, 0.4).items == items


RATIOS = (1, 2, 3, 4, 7)


@pytest.mark.parametrize(("idle", "stall"), STALLS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_widths(ratio: int, idle: float, stall: float) -> None:
    items = randoms(4, 20 * ratio, 5)
    beats = [join(items[n : n + ratio], 5) for n in range(0, len(items), ratio)]
    assert play(Shared(Widen, 5, ratio), items, 20, idle, stall).items == beats
    assert play(Shared(Narrow, 5, ratio), beats, len(items), idle, stall).items == items


@pytest.mark.parametrize(("idle", "stall"), STALLS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_widths_last(ratio: int, idle: float, stall: float) -> None:
    """Groups of any length: the short final beat is filled with zeros, and narrowing it hands these out too."""
    rng = random.Random(5)
    narrow, wide, padded = [], [], []
    for _ in range(15):
        group = [rng.getrandbits(5) for _ in range(rng.randint(1, 2 * ratio + 1))]
        narrow += [item | (n == len(group) - 1) << 5 for n, item in enumerate(group)]
        group += [0] * (-len(group) % ratio)
        beats = [join(group[n : n + ratio], 5) for n in range(0, len(group), ratio)]
        wide += [beat | (n == len(beats) - 1) << 5 * ratio for n, beat in enumerate(beats)]
        padded += [item | (n == len(group) - 1) << 5 for n, item in enumerate(group)]
    assert play(Widen(5, ratio, last=True), narrow, len(wide), idle, stall).items == wide
    assert play(Narrow(5, ratio, last=True), wide, len(padded), idle, stall).items == padded


@pytest.mark.parametrize("ratio", RATIOS)
def test_widths_cycles(ratio: int) -> None:
    n = 12
    widened = play(Widen(5, ratio), randoms(6, n * ratio, 5), n)
    assert widened.cycles_in == list(range(n * ratio))
    assert widened.cycles_out == [k * ratio + ratio - 1 + Widen.latency for k in range(n)]

    narrowed = play(Narrow(5, ratio), randoms(7, n, 5 * ratio), n * ratio)
    assert narrowed.cycles_out == [k + Narrow.latency for k in range(n * ratio)]
    assert narrowed.cycles_in == [k * ratio for k in range(n)]


def test_short_beats_cost_one_cycle_per_item() -> None:
    played = play(Widen(5, 4, last=True), [1 | 1 << 5] * 10, 10)
    assert played.cycles_in == list(range(10))
    assert played.cycles_out == list(range(1, 11))


LANE = (Field("a", 4, "uint4"), Field("b", 3, "int3"))
PORTS = (StreamPort("i", "in", 3, LANE, "tile", ""), StreamPort("sum", "out", 3, LANE, "tile", ""))
STATUS = (StatusPort("error", ("one", "other")),)


class Inner(wiring.Component):
    """Passes ``i`` to ``sum``; its status shows the lowest bits of lanes 0 and 1."""

    def __init__(self, ports: Sequence[StreamPort]):
        i, o = (stream_signature(port) for port in ports)
        super().__init__({"i": In(i), "sum": Out(o), "sts_error": Out(2)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        wiring.connect(m, wiring.flipped(self.i), wiring.flipped(self.sum))
        m.d.comb += self.sts_error.eq(Cat(self.i.payload.data[k].a[0] for k in range(2)))
        return m


@pytest.mark.parametrize("ends", ["tile", ""])
def test_shell(ends: str) -> None:
    ports = [replace(port, last=ends) for port in PORTS]
    dut = AxiShell(Inner(ports), ports, STATUS)
    members = {"tdata": 24, "tvalid": 1, "tready": 1} | ({"tlast": 1} if ends else {})
    streams = {f"{prefix}_{name}": w for prefix in ("s_axis", "m_axis_sum") for name, w in members.items()}
    assert {name: len(getattr(dut, name)) for name in dut.signature.members} == streams | {"sts_error": 2}

    async def bench(ctx: Any) -> None:
        rng = random.Random(8)
        for _ in range(50):
            tdata, last, valid, ready = rng.getrandbits(24), rng.getrandbits(1), rng.getrandbits(1), rng.getrandbits(1)
            ctx.set(dut.s_axis_tdata, tdata)
            if ends:
                ctx.set(dut.s_axis_tlast, last)
            ctx.set(dut.s_axis_tvalid, valid)
            ctx.set(dut.m_axis_sum_tready, ready)
            assert ctx.get(dut.m_axis_sum_tdata) == tdata & 0x1FFFFF  # 21 bits of data, pads ignored and 0
            assert not ends or ctx.get(dut.m_axis_sum_tlast) == last
            assert ctx.get(dut.m_axis_sum_tvalid) == valid
            assert ctx.get(dut.s_axis_tready) == ready
            assert ctx.get(dut.sts_error) == (tdata & 1) | (tdata >> 7 & 1) << 1

    simulate(dut, bench, clock=False)


@pytest.mark.filterwarnings("ignore:.*created but never used")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StreamFIFO(8, 0), "depth must be at least 1, not 0"),
        (lambda: Widen(8, 0), "ratio must be at least 1, not 0"),
        (lambda: Narrow(8, -1), "ratio must be at least 1, not -1"),
    ],
)
def test_refused(make: Any, message: str) -> None:
    with pytest.raises(SpecError) as e:
        make()
    assert str(e.value) == message
    del e
    gc.collect()  # here, where the warning about a component that was never used is filtered
