"""Proofs of the unit ``kmeans_function``, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.kmeans.function_histogram import Histogram
from hdl.kmeans.function_moments import Moments
from hdl.kmeans.function_turns import Turns
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.kmeans_function import CLAIMS, Counts, Sums, Tables, spec

SMALL = spec(1, 1, 1, 2)
PROPERTIES = {Turns: Tables, Histogram: Counts, Moments: Sums}


# of sums all but the smallest take long
@pytest.mark.parametrize(
    "claim",
    [*CLAIMS[:-2], *(pytest.param(c, marks=pytest.mark.slow) for c in CLAIMS[-2:])],
    ids=lambda c: f"{c.subject} {c.size}",
)
def test_proved(claim: Claim) -> None:
    assert prove(claim).result.startswith(f"bounded, {claim.cycles}" if claim.cycles else "proved by induction")


@pytest.mark.parametrize(
    ("unit", "method", "old", "new"),
    [
        (Turns, "elaborate", "(~other | complete)", "1"),  # used before it is complete
        (Turns, "elaborate", "| ~some", ""),  # a vector without a table
        (Turns, "elaborate", "Cat(place, ~self.bank)", "Cat(place, self.bank)"),  # written while it is used
        (Turns, "elaborate", "& ~self.hold", ""),
        (Histogram, "elaborate", "lane.valid & (lane.index == j)", "(lane.index == j)"),
        (Histogram, "_counter", "Mux(self.ended, 0, total)", "total"),
        (Histogram, "_counter", "Mux(self.accept, count_ones(hits), 0)", "count_ones(hits)"),
        (Histogram, "_counter", "with m.If(~self.ended | self.taken):", "with m.If(1):"),
        (Moments, "_sum", "Mux(begins, 0, total)", "total"),
        (Moments, "elaborate", "(left <= 1)", "(left <= 2)"),
        (Moments, "elaborate", "~self.o.valid | self.o.ready", "Value.cast(1)"),
        (Moments, "_count", "with m.If(moves):", "with m.If(1):"),
        (Moments, "elaborate", "self.reads.eq(self.bank)", "self.reads.eq(~self.bank)"),
    ],
)
def test_rewritten(unit: Any, method: str, old: str, new: str) -> None:
    part = getattr(rewritten(unit, old, new, method), method)
    faulty = type(unit.__name__, (unit,), {method: part})
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(unit.__name__, "as before", "as before", lambda: PROPERTIES[unit](faulty(SMALL)), 10))


@pytest.mark.parametrize("unit", PROPERTIES)
def test_bounded(unit: Any) -> None:
    """What the faults fail holds for the sound unit."""
    claim = Claim(unit.__name__, "as before", "as before", lambda: PROPERTIES[unit](unit(SMALL)), 10)
    assert prove(claim).result == "bounded, 10 cycles"
