"""Unit ``accelerator``: the exported Verilog with a memory and a host around it."""

from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.registers import Error
from hdl.shared import Shared
from hdl.soc.accelerator import Accelerator
from hdl.soc.bursts import Allowance, Splitter
from hdl.soc.channels import Output
from hdl.soc.datapath import Datapath
from hdl.soc.lent import Lent
from hdl.soc.pack import Pack, Unpack
from hdl.soc.ports import Reader, Writer
from hdl.soc.registers import Registers
from hdl.soc.rows import Meter, Rows
from hdl.soc.sequencer import Sequencer
from tb.accelerator import bench
from tb.accelerator_errors import TROUBLES
from tb.accelerator_host import ALL, TINY, WIDE
from tb.faults import later, one_in, turns_red
from tb.runner import both_see_the_same, run_bulk


@pytest.mark.parametrize("spec", [WIDE, *later(ALL)], ids=lambda spec: str(spec.bus))
def test_bulk(spec: AcceleratorSpec) -> None:
    run_bulk(spec, bench(spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    names = ("registers", "both-jitter", "reset-40", "after-reset-40", "stopped-40", "slverr-on-a-write")
    both_see_the_same(TINY, [c for c in bench(TINY, 2) if c.name in (*names, "memory-never-answers")], 2)


def test_every_error_has_a_bench() -> None:
    assert {trouble.code for trouble in TROUBLES} == set(Error) - {Error.NONE}


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


SHARED_FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "a unit that changes hands with what is left in it": (Lent, "elaborate", "reset=changes", "reset=changes & 0"),
    "lent to the wrong unit": (Datapath, "_lend", "host.mine", "~host.mine"),
    "results to both": (Lent, "elaborate", "valid.eq(inner.valid & self.lends)", "valid.eq(inner.valid)"),
    "rows are counted from an entry before it came": (
        Sequencer,
        "elaborate",
        "complete.eq(step == Step.RUN)",
        "complete.eq(1)",
    ),
}
"""Where a unit is shared, and asks for rows."""


@pytest.mark.parametrize("name", one_in(6, SHARED_FAULTS))
def test_fault_of_shared_units_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, WIDE, *SHARED_FAULTS[name])
