"""Proofs of the product cores and the element, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from golden.mixpe.formats import WEIGHTS
from golden.mixpe.pe import PESpec
from hdl.mixpe.cores import Booth, Multiply, ShiftAdd, TwoTerm
from hdl.mixpe.pe import PE
from tb.formal import Claim, Refuted, prove
from tb.formal.cores import CLAIMS, Agreement, Product, Sums
from tb.test_formal_stream import broken

# The solver has to regroup sums: seconds each, and 20 where no register stands between terms and accumulator.
QUICK = ("shift_add, stages 2, group 4", "multiply, stages 1, group 4")


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.subject != "PE"], ids=lambda c: f"{c.subject} {c.size}")
def test_cores(claim: Claim) -> None:
    assert prove(claim).result == "proved for all inputs"


def element(claim: Claim) -> Any:
    return pytest.param(claim, id=claim.size, marks=() if claim.size in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("claim", [element(c) for c in CLAIMS if c.subject == "PE"])
def test_element(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved by induction, ")


class NegatesNothing(ShiftAdd):
    def terms(self, x: Any, w: Any) -> Any:
        *terms, top = super().terms(x, w)
        return [*terms, -top]


class DropsTheCarry(Booth):
    def terms(self, x: Any, w: Any) -> Any:
        return super().terms(x, w)[:-1]


class DropsTheSecondCarry(TwoTerm):
    def terms(self, x: Any, w: Any) -> Any:
        return super().terms(x, w)[:-1]


class WrongAtOneCode(Multiply):
    def terms(self, x: Any, w: Any) -> Any:
        return [*super().terms(x, w), (w == 8) & (x == -128)]


@pytest.mark.parametrize("core", [NegatesNothing, DropsTheCarry, DropsTheSecondCarry, WrongAtOneCode])
@pytest.mark.parametrize("weight", ["int4", "uint4_zero"])
def test_broken_core(core: Any, weight: str) -> None:
    fmt = WEIGHTS[weight]
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(core.__name__, "as before", "all operands", lambda: Product(core, fmt)))
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(core.__name__, "agrees", "all operands", lambda: Agreement(core, core.__base__, fmt)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Mux(last, 0, total)", "total"),  # groups run into one another
        ("held.eq(total)", "held.eq(acc)"),  # the final product is missing
        ("with m.If(last):", "with m.If(1):"),  # the sum is not held
        ("acc[: spec.sum_width], product)", "acc[: spec.sum_width], product[:-1].as_signed())"),  # the product's width
    ],
)
def test_broken_element(old: str, new: str) -> None:
    faulty, spec = broken(PE, old, new), PESpec.from_values({"stages": 2, "group": 4})
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim("PE", "as before", "stages 2", lambda: Sums(faulty(spec))))
    with pytest.raises(Refuted, match="Signal Name"):  # seen from outside alone
        prove(Claim("PE", "as before", "stages 2", lambda: Sums(faulty(spec), False), 6))
