"""Proofs of the blocks of gate and load balance, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from golden.moe.gate import GateSpec
from hdl.moe.balance import Compare, Gather
from hdl.moe.divide import Divide
from hdl.moe.select import Select
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.moe import CLAIMS, GATHERED, MEAN, Gathered, Mean, Quotient, Selected, balance

QUICK = [c for c in CLAIMS if c.text == MEAN or (c.text == GATHERED and c.size.startswith("1 "))]
LONG = [c for c in CLAIMS if c not in QUICK]

BROKEN: dict[Any, Any] = {
    Divide: lambda unit: Quotient(unit(2, 2)),
    Select: lambda unit: Selected(unit(GateSpec(experts=2)), 4),
    Compare: lambda unit: Mean(unit(balance(3, 7))),
    Gather: lambda unit: Gathered(unit(balance(2, 1))),
}
"""The property of each block, small."""


@pytest.mark.parametrize(
    "claim", [*QUICK, *(pytest.param(c, marks=pytest.mark.slow) for c in LONG)], ids=lambda c: f"{c.subject} {c.size}"
)
def test_proved(claim: Claim) -> None:
    assert prove(claim).result == (f"bounded, {claim.cycles} cycles" if claim.cycles else "proved for all inputs")


@pytest.mark.parametrize(
    ("unit", "old", "new"),
    [
        (Compare, "mine > self.total", "mine >= self.total"),
        (Compare, "self.count * self.spec.experts", "self.count * (self.spec.experts - 1)"),
        *(
            pytest.param(*fault, marks=pytest.mark.slow)
            for fault in (
                (Divide, "rest >= self.b", "rest > self.b"),
                (Divide, "Mux(enough, self.b, 0)", "0"),
                (Divide, "left.eq(self.fraction + 1)", "left.eq(self.fraction)"),
                (Select, "(rank != self.k_min) | above", "(rank == 0) | above"),
                (Select, "there.eq(keep | (there & ~ended))", "there.eq(keep | there)"),
                (Select, "~(ended | (there & keep))", "1"),
                (Select, "Mux(coming.last, 0, rank", "Mux(0, 0, rank"),
                (Gather, "Mux(some, self.total, 0)", "self.total"),
                (Gather, "(over | ~ends)", "over"),
                (Gather, "accept & ~over", "accept"),
            )
        ),
    ],
)
def test_rewritten(unit: Any, old: str, new: str) -> None:
    faulty = rewritten(unit, old, new)
    cycles = None if unit is Compare else 9
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(unit.__name__, "as before", "as before", lambda: BROKEN[unit](faulty), cycles))
