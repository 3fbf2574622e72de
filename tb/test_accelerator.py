"""Unit ``accelerator``: the exported Verilog with a memory and a host around it."""

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gen.registry import unit
from golden.moe import fixture as converted
from golden.soc import timing
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.image import Image, Job, lay_out
from golden.soc.registers import Error
from hdl.shared import Shared
from hdl.soc.accelerator import Accelerator
from hdl.soc.bursts import Allowance, Splitter
from hdl.soc.channels import Output
from hdl.soc.pack import Pack, Unpack
from hdl.soc.ports import Reader, Writer
from hdl.soc.registers import Registers
from hdl.soc.rows import Meter, Rows
from hdl.soc.sequencer import Sequencer
from scripts import moe_layer
from scripts.driver import Driver
from tb import mixpe
from tb.accelerator import bench
from tb.accelerator_errors import TROUBLES
from tb.accelerator_host import SMALL
from tb.axi import Memory
from tb.cosim import Session
from tb.faults import later, one_in, turns_red
from tb.runner import both_see_the_same, run_bulk

TINY = AcceleratorSpec(bus=64, burst=4, depth=8, outstanding=4, gemm="rows=2,cols=2")
WIDE = AcceleratorSpec(bus=256, burst=2, depth=4, outstanding=1, gemm=SMALL["gemm"], linear=SMALL["linear"])
ALL = AcceleratorSpec(burst=8, depth=16, **SMALL)


@pytest.mark.parametrize("spec", [WIDE, *later(ALL)], ids=lambda spec: str(spec.bus))
def test_bulk(spec: AcceleratorSpec) -> None:
    run_bulk(spec, bench(spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    names = ("registers", "both-jitter", "reset-40", "after-reset-40", "stopped-40", "slverr-on-a-write")
    both_see_the_same(TINY, [c for c in bench(TINY, 2) if c.name in (*names, "memory-never-answers")], 2)


def test_every_error_has_a_bench() -> None:
    assert {trouble.code for trouble in TROUBLES} == set(Error) - {Error.NONE}


# --- time ---


def cycles(spec: AcceleratorSpec, image: Image, latency: int) -> int:
    """What the register CYCLES says behind a list that is right."""
    room = np.zeros(len(image.before), np.uint8)
    memory = Memory(
        spec.ports, room, base=image.base, latency=latency, longest=spec.burst, outstanding=spec.outstanding
    )
    driver = Driver(spec, Session(spec, memory))
    assert image.findings(driver.execute(image)) == []
    return driver.counters()["CYCLES"]


@pytest.mark.parametrize(("bus", "burst"), [(64, 8), (128, 16), (256, 4)])
def test_formula_of_a_copy_is_exact(bus: int, burst: int) -> None:
    """From any address to any other."""
    spec = AcceleratorSpec(bus=bus, burst=burst, depth=64, outstanding=16)
    rng = np.random.default_rng(bus)
    for _ in range(40):
        words = rng.integers(0, 256, (int(rng.integers(1, 90)), spec.bus_bytes), np.uint8)
        image = lay_out(spec, [Job("copy", words)], 32 * int(rng.integers(0, 40)), rng)
        latency = int(rng.integers(1, 21))
        assert cycles(spec, image, latency) == timing.copy_cycles(spec, image, latency)


@pytest.mark.parametrize(("m", "k", "n"), [(2, 1500, 2), (4, 400, 6), (2, 200, 10)])
def test_formula_of_a_gemm(m: int, k: int, n: int) -> None:
    """Its unit's, and what stands around it: within 6 %."""
    spec = AcceleratorSpec(**TINY.values() | {"burst": 8, "depth": 64})
    job = Job("gemm", mixpe.random_job(spec.engine("gemm").spec, np.random.default_rng(1), m, k, n))
    image = lay_out(spec, [job])
    estimate = timing.job_cycles(spec, image, job, 20)
    assert estimate <= cycles(spec, image, 20) < 1.06 * estimate


def the_real_layer() -> tuple[AcceleratorSpec, Job]:
    """16 tokens of the fixture."""
    spec = unit("accelerator").configure("smollm2")
    assert isinstance(spec, AcceleratorSpec)
    return spec, Job("moe", moe_layer.real_batch(spec.engine("moe").spec, converted.load(), 16))


def test_the_real_layer_in_memory() -> None:
    """Its unit is the slower one: 133,944 cycles, 105,209 words."""
    spec, job = the_real_layer()
    image = lay_out(spec, [job])
    assert spec.engine("moe").spec.cycles(job.job) == 133_944
    assert timing.read_words(spec, image, job) == 105_209


@pytest.mark.slow
def test_the_real_layer_through_the_rtl() -> None:
    """Every bit; at least 85 % of the bound, and within 2 % of the formula."""
    spec, job = the_real_layer()
    image = lay_out(spec, [job])
    taken = cycles(spec, image, 20)
    bound = max(spec.engine("moe").spec.cycles(job.job), timing.read_words(spec, image, job))
    print(f"{taken} cycles, {bound / taken:.1%} of the bound, formula {timing.job_cycles(spec, image, job, 20)}")
    assert bound / taken > 0.85
    assert abs(taken / timing.job_cycles(spec, image, job, 20) - 1) < 0.02


# --- a reset of its own ---


class Count(wiring.Component):
    """Counts cycles."""

    kind = "count"

    def __init__(self) -> None:
        super().__init__({"o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.o + 1)
        return m


class Nested(wiring.Component):
    """One below another."""

    kind = "nested"

    def __init__(self) -> None:
        super().__init__({"o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.count = count = Shared(Count)
        m.d.comb += self.o.eq(count.o)
        return m


class Two(wiring.Component):
    """Of one kind; one of them has a reset of its own."""

    def __init__(self) -> None:
        super().__init__({"again": In(1), "a": Out(8), "b": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.a = a = Shared(Nested)
        m.submodules.b = b = Shared(Nested, reset=self.again)
        m.d.comb += [self.a.eq(a.o), self.b.eq(b.o)]
        return m


def test_a_placement_is_reset_alone_with_all_that_is_in_it() -> None:
    dut = Two()

    async def play(ctx: Any) -> None:
        await ctx.tick().repeat(5)
        ctx.set(dut.again, 1)
        await ctx.tick()
        ctx.set(dut.again, 0)
        await ctx.tick().repeat(3)
        assert (ctx.get(dut.a), ctx.get(dut.b)) == (9, 3)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()


# --- faults ---

FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "a burst across 4 KiB": (Splitter, "elaborate", "C(most) - word[: most.bit_length() - 1]", "C(most)"),
    "words without room": (Allowance, "elaborate", "words >= self.i.payload.length", "words.any()"),
    "words to another channel": (Reader, "elaborate", "come << order.o", "come << arbiter.o"),
    "all bytes of a word are written": (
        Pack,
        "_several_in_one",
        "lookup(upwards, size, edges.first[self.slot :]) & lookup(downwards, size, edges.end[self.slot :])",
        "(1 << size) - 1",
    ),
    "a burst's last word too early": (Writer, "_send", "number == head.length - 1", "number + 2 == head.length"),
    "a burst before its words": (Output, "elaborate", "rows.o.valid, 0,", "rows.o.valid, spec.depth,"),
    "the end before the answers": (Sequencer, "_run", "self.idle & ~self.writing &", "self.idle &"),
    "units that are not reset": (Accelerator, "elaborate", ", reset=sequencer.renew", ""),
    "a reset that does not wait": (Sequencer, "elaborate", "m.If(self.quiet)", "m.If(1)"),
    "bursts that begin while it stops": (Sequencer, "elaborate", "(step == Step.STOP) | ", ""),
    "rows end with their word": (Meter, "elaborate", "Mux(last, row.end, self.spec.bus_bytes - 1)", "~0"),
    "every beat ends its row": (Unpack, "_one_of_several", "edges.last & ends", "1"),
    "rows that come again are the next ones": (Rows, "elaborate", "Mux(ends, again, at", "Mux(0, again, at"),
    "an address without a register is OKAY": (Registers, "_write", "Mux(known, OKAY, SLVERR)", "OKAY"),
    "strobes are ignored": (Registers, "_write", "strobes[n].replicate(8)", "C(0xFF)"),
    "a start after an error": (Sequencer, "elaborate", "self.start & ~self.state.failed", "self.start"),
    "a stream twice": (Sequencer, "_entry", "twice | ", ""),
}


@pytest.mark.parametrize("name", one_in(6, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, TINY, *FAULTS[name])
