"""Every listed point is reached by the unit's bench, every branch taken or excused; and what was missed is told."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from gen.registry import UNITS
from scripts import coverage as command
from tb import coverage, line_coverage
from tb.command import Capture
from tb.coverage import Covered, Seen, holes, reasons
from tb.points import OWN, UNREACHED, UNTAKEN
from tb.units import BENCHES

QUICK = ("mixpe_pe", "orizuru", "load_balance")


@functools.cache
def measured(unit: str) -> tuple[Covered, line_coverage.Lines]:
    rtl = line_coverage.counting(coverage.tiny(unit))
    return coverage.measure(rtl, BENCHES[unit](rtl.spec, 1)), line_coverage.read(rtl)


def test_tables_are_of_units() -> None:
    assert {*OWN, *UNREACHED, *UNTAKEN} <= set(UNITS)


units = pytest.mark.parametrize("unit", [pytest.param(u, marks=[] if u in QUICK else pytest.mark.slow) for u in UNITS])


@units
def test_every_point_is_reached(unit: str) -> None:
    points, _ = measured(unit)
    assert holes(points.missed, UNREACHED.get(unit, {})) == []


@units
def test_every_branch_is_taken_or_has_a_reason(unit: str) -> None:
    _, lines = measured(unit)
    assert holes(lines.missed, UNTAKEN.get(unit, {})) == []


def test_the_page_is_what_was_counted() -> None:
    found = command.kept()
    assert list(found) == list(UNITS)
    assert not any(c.holes for c in found.values())
    assert command.PAGE.read_text(encoding="utf-8") == command.page(found)


def test_a_bench_without_stalls_is_told_what_it_misses() -> None:
    rtl = line_coverage.counting(coverage.tiny("mixpe_pe"))
    free = [c for c in BENCHES["mixpe_pe"](rtl.spec, 1) if not any(c.stall.values()) and c.reset_at is None]
    missed = coverage.measure(rtl, free).missed
    assert "o is stalled" in missed
    assert "o stalls while i moves" in missed
    assert "reset in mid-job" in missed
    assert "i.x is -128" not in missed


def test_a_branch_that_nothing_takes_is_named_with_its_python_line() -> None:
    rtl = line_coverage.counting(coverage.tiny("mixpe_pe"))
    rtl.play(replace(BENCHES["mixpe_pe"](rtl.spec, 1)[0], inputs={}, outputs={}, judged=False))
    missed = line_coverage.read(rtl).missed
    assert any(b.endswith("Mux(taken, x, 0), weights, ends)]") for b in missed), missed


def test_a_reason_for_what_is_not_missed_is_a_hole() -> None:
    assert reasons(["a: x", "b"], {"a: *": "why"}) == {"a: x": "why"}
    assert holes(["a: x", "b"], {"a: *": "why", "c*": "why"}) == ["b", "no reason needed: c*"]


def test_fields_are_those_of_the_beats() -> None:
    """Of a stream of one signal, as the case's own packing has them."""
    spec = coverage.tiny("load_balance")
    rtl = line_coverage.counting(spec)
    case = BENCHES["load_balance"](spec, 1)[0]
    rtl.record()
    rtl.play(case)
    seen = Seen(spec, rtl.trace())
    for name, values in spec.port("i").unpack(case.inputs["i"]).items():
        assert np.array_equal(seen.values("i")[name], values)
    assert seen.lengths("i").tolist() == np.diff(np.flatnonzero(case.inputs["i"].last), prepend=-1).tolist()


def test_the_command(capsys: Capture) -> None:
    assert command.main(["zzz"]) == 2
    assert capsys.readouterr().err.startswith("'zzz' is not a unit; it must be one of ")
