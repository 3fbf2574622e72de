"""Icarus Verilog and Amaranth's simulator see the same as Verilator, in every cycle; and what they must notice."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from gen import toolchain
from gen.registry import UNITS
from hdl.mixpe.pe import PE
from tb import products, second
from tb.cosim import compile
from tb.faults import broken, rewritten
from tb.trace import Trace
from tb.transactions import CheckFailed
from tb.units import BENCHES

SHORT, LONG = 300, 20_000
"""Cycles from power-up, of the bench's cases in random order: some stall, some are cut by a reset."""

WHOLE = ("expert_ffn", "moe_ffn", "moe_resident", "kmeans_linear", "accelerator")
"""Whole layers, for which Amaranth's simulator takes longest; ``make test`` plays their parts."""


@functools.cache
def recorded(unit: str, cycles: int) -> Trace:
    spec = UNITS[unit].configure("tiny")
    return second.recording(compile(spec), BENCHES[unit](spec, 1), cycles)


@pytest.fixture
def icarus() -> None:
    """The one tool that pip does not bring."""
    try:
        toolchain.icarus()
    except toolchain.ToolError as e:
        pytest.skip(str(e))


def lengths(*late: str) -> pytest.MarkDecorator:
    """Every unit for a short time and, in ``make test-all``, for a long one."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        ("unit", "cycles"),
        [
            pytest.param(u, n, marks=[slow] if n == LONG or u in late else [], id=f"{u}-{n}")
            for n in (SHORT, LONG)
            for u in UNITS
        ],
    )


@lengths()
@pytest.mark.usefixtures("icarus")
def test_icarus_sees_the_same(unit: str, cycles: int) -> None:
    second.icarus(products.of(UNITS[unit].configure("tiny")), recorded(unit, cycles))


@lengths(*WHOLE)
def test_amaranth_sees_the_same(unit: str, cycles: int) -> None:
    second.amaranth(UNITS[unit].configure("tiny"), recorded(unit, cycles))


SPEC = UNITS["mixpe_pe"].configure("tiny")


@pytest.mark.usefixtures("icarus")
def test_icarus_notices_another_circuit() -> None:
    faulty = broken(products.of(SPEC), "free <= 3'h5", "free <= 3'h1")
    with pytest.raises(CheckFailed, match=r"^mixpe_pe: cycle \d+: s_axis_tready: Verilator 1, Icarus 0$"):
        second.icarus(faulty, recorded("mixpe_pe", SHORT))


@pytest.mark.usefixtures("icarus")
def test_icarus_notices_what_has_no_value() -> None:
    """Verilator knows no x: for it such a register starts like one that starts with 0."""
    unknown = broken(products.of(SPEC), "output reg         r_rdy = 1'h0", "output reg         r_rdy")
    with pytest.raises(CheckFailed, match=r"^mixpe_pe: cycle 0: m_axis_tvalid: Verilator 0, Icarus x$"):
        second.icarus(unknown, recorded("mixpe_pe", SHORT))


@pytest.mark.usefixtures("icarus")
def test_icarus_notices_what_was_read_before_there_was_anything() -> None:
    """A result that shows what the queue's read port held at first."""
    early = broken(products.of(SPEC), "assign r_port__en = inner_r_rdy & _2;", "assign r_port__en = 1'h0;")
    with pytest.raises(CheckFailed, match=r"^mixpe_pe: cycle \d+: m_axis_t(data|valid): Verilator \w+, Icarus \w+$"):
        second.icarus(early, recorded("mixpe_pe", SHORT))


def test_amaranth_notices_another_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PE, "elaborate", rewritten(PE, "total.eq(Cat(added", "total.eq(~Cat(added").elaborate)
    with pytest.raises(CheckFailed, match=r"^mixpe_pe: cycle \d+: m_axis_tdata: Verilator \w+, Amaranth \w+$"):
        second.amaranth(SPEC, recorded("mixpe_pe", SHORT))


@pytest.mark.parametrize("port", ["s_axis_tready", "m_axis_tvalid", "m_axis_tdata"])
def test_every_output_is_compared_in_the_last_cycle_too(port: str, icarus: None) -> None:
    trace = recorded("mixpe_pe", SHORT)
    trace = trace.first(int(np.flatnonzero(trace.flag("m_axis_tvalid"))[-1]) + 1)  # data means something here
    rows = trace.rows.copy()
    rows[-1, next(p.first for p in trace.ports if p.name == port)] ^= 1
    wrong = replace(trace, rows=rows)
    said = rf"^mixpe_pe: cycle {len(trace) - 1}: {port}: Verilator"
    with pytest.raises(CheckFailed, match=said):
        second.icarus(products.of(SPEC), wrong)
    with pytest.raises(CheckFailed, match=said):
        second.amaranth(SPEC, wrong)
