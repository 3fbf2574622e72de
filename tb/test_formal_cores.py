"""Proofs of the product cores and the element, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from golden.mixpe.pe import PESpec
from hdl.mixpe.cores import Booth, Multiply, ShiftAdd
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
    @staticmethod
    def terms(x: Any, w: Any) -> Any:
        *terms, top = ShiftAdd.terms(x, w)
        return [*terms, -top]


class DropsTheCarry(Booth):
    @staticmethod
    def terms(x: Any, w: Any) -> Any:
        return Booth.terms(x, w)[:-1]


class WrongAtOneCode(Multiply):
    @staticmethod
    def terms(x: Any, w: Any) -> Any:
        return [*Multiply.terms(x, w), (w == 8) & (x == -128)]


@pytest.mark.parametrize("core", [NegatesNothing, DropsTheCarry, WrongAtOneCode])
@pytest.mark.parametrize("offset", [0, 8])
def test_broken_core(core: Any, offset: int) -> None:
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(core.__name__, "as before", "all operands", lambda: Product(core, offset)))
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(core.__name__, "agrees", "all operands", lambda: Agreement(core, core.__base__, offset)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Mux(last, 0, total)", "total"),  # groups run into one another
        ("held.eq(total)", "held.eq(acc)"),  # the final product is missing
        ("with m.If(last):", "with m.If(1):"),  # the sum is not held
        ("add_modulo(len(product), *terms)", "add_modulo(11, *terms)"),  # the product's width
    ],
)
def test_broken_element(old: str, new: str) -> None:
    faulty, spec = broken(PE, old, new), PESpec.from_values({"stages": 2, "group": 4})
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim("PE", "as before", "stages 2", lambda: Sums(faulty(spec))))
    with pytest.raises(Refuted, match="Signal Name"):  # seen from outside alone
        prove(Claim("PE", "as before", "stages 2", lambda: Sums(faulty(spec), False), 6))
