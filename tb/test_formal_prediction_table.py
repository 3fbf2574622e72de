"""Proofs of the unit ``expert_table``, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.moe.prediction_table import ExpertTable
from tb.faults import rewritten
from tb.formal import ABC, Claim, Refuted, prove
from tb.formal.prediction_table import CLAIMS, SIZES, Named, Ring, Told, spec


@pytest.mark.parametrize(
    "claim",
    [pytest.param(claim, marks=pytest.mark.slow if i % len(SIZES) else ()) for i, claim in enumerate(CLAIMS)],
    ids=lambda claim: f"{claim.text}; {claim.size}",
)
def test_claims(claim: Claim) -> None:
    assert prove(claim).result == "proved by induction, 1"


@pytest.mark.parametrize(
    ("kind", "method", "old", "new"),
    [
        (Ring, "_fill", "[:BATCH_BITS] != 2", "[:BATCH_BITS] != 3"),
        (Ring, "_ask", "~absent & (ahead >= ", "~absent & (ahead > "),
        (Ring, "_ask", "early & asks.wait", "C(0)"),
        (Told, "_bank", "Mux(bank, self.spec.depth, 0)", "0"),
        (Told, "_fill", "accept & (token == 0) & (slot == 0)", "accept & (slot == 0)"),
        (Told, "_tell", "runs & may_o & may_hint", "runs & may_hint"),
        (Named, "_hints", "& ~choose(seen, 1, entry.expert)", ""),
        (Named, "_hints", "seen.eq(0), some.eq(0)", "some.eq(0)"),
        (Named, "_tell", "runs & may_o & may_hint", "runs & may_o"),
    ],
)
def test_broken(kind: Any, method: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExpertTable, method, getattr(rewritten(ExpertTable, old, new, method), method))
    size = spec(layers=1, experts=2, tokens=2, slots=1)
    with pytest.raises(Refuted):
        prove(Claim("table", "as before", "as before", lambda: kind(ExpertTable(size), False), 16, ABC))
