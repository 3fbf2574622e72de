"""Proofs of the unit ``dispatch``, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.moe.buckets import Buckets
from hdl.moe.collect import Collect
from hdl.moe.dispatch import Dispatch
from hdl.moe.walk import Walk
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.dispatch import CLAIMS, Sorted, Walked, spec

WALKS, SORTS = CLAIMS[:3], CLAIMS[3:]


@pytest.mark.parametrize("claim", WALKS, ids=lambda c: c.size)
def test_walks(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved by induction")


@pytest.mark.slow
@pytest.mark.parametrize("claim", SORTS, ids=lambda c: c.size)
def test_sorts(claim: Claim) -> None:
    assert prove(claim).result == f"bounded, {claim.cycles} cycles"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("in reversed(range(self.experts))", "in range(self.experts)"),
        ("rest.eq(left & (left - 1))", "rest.eq(left >> 1 << 1)"),
        ("self.last.eq(~rest.any())", "self.last.eq(1)"),
        ("with m.Elif(self.go):", "with m.Else():"),
    ],
)
def test_broken_walks(old: str, new: str) -> None:
    faulty = rewritten(Walk, old, new)
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim("walk", "as before", "as before", lambda: Walked(faulty(3)), 10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "method", "old", "new"),
    [
        (Collect, "elaborate", "& ~beat.pruned", ""),
        (Collect, "elaborate", "names & seen.bit_select(beat.expert, 1)", "0"),
        (Collect, "elaborate", "seen.eq(Mux(last, 0,", "seen.eq(Mux(0, 0,"),
        (Buckets, "_count", "Mux(choose(marks, 1, expert), read.data, 0)", "read.data"),
        (Buckets, "_entries", "self.write & ~self.dropped", "self.write"),
        (Buckets, "elaborate", "count >= spec.depth", "count > spec.depth"),
        (Dispatch, "_jobs", "first.eq(0)", "first.eq(first)"),
        (Dispatch, "_turns", "~choose(full, 1, writes)", "1"),
        (Dispatch, "_entries", "~there | o.ready", "Value.cast(1)"),
        (Dispatch, "_entries", "Mux(final, 0, rank + 1)", "rank + 1"),
    ],
)
def test_rewritten(unit: Any, method: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, method, getattr(rewritten(unit, old, new, method), method))
    with pytest.raises(Refuted):
        prove(
            Claim(
                "dispatch",
                "as before",
                "as before",
                lambda: Sorted(Dispatch(spec(2, 2, 2, 1)), 3),
                13,
                CLAIMS[-1].engine,
            )
        )
