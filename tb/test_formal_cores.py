"""Proofs of the product cores and the element, and that the same proofs refute broken ones."""

from typing import Any

import pytest
from amaranth.hdl import C, Cat

from golden.mixpe.formats import WEIGHTS
from golden.mixpe.pe import PESpec
from hdl.arith.bits import extend
from hdl.mixpe.cores import Booth, Composed, Multiply, Packed, ShiftAdd, TwoTerm
from hdl.mixpe.pe import PE
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.cores import CLAIMS, Agreement, Halves, Pair, Product, Sums

# The solver has to regroup sums: seconds each, and 20 where no register stands between terms and accumulator.
QUICK = ("shift_add, stages 2, group 4", "multiply, stages 1, group 4")


def core(claim: Claim) -> Any:
    marks = pytest.mark.slow if "high half" in claim.size else ()
    return pytest.param(claim, id=f"{claim.subject} {claim.size}", marks=marks)


@pytest.mark.parametrize("claim", [core(c) for c in CLAIMS if c.subject != "PE"])
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


class CutsWithoutCarry(Composed):
    @staticmethod
    def halves(w: Any) -> Any:
        return w[:4].as_signed(), w[4:].as_signed()


class ShiftsTooLittle(Composed):
    def terms(self, x: Any, w: Any) -> Any:
        *terms, _ = super().terms(x, w)
        return [*terms, terms[-1]]


class BorrowsNothing(Packed):
    def pack(self, shift: int, w0: Any, w1: Any) -> Any:
        return Cat(extend(w0, shift), w1[-1], w1).as_signed()


class LosesTheBorrow(Packed):
    @staticmethod
    def split(shift: int, word: Any) -> Any:
        low, high, _ = Packed.split(shift, word)
        return low, high, C(0, 1)


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
    ("core", "claim"),
    [
        (CutsWithoutCarry, Halves),
        (ShiftsTooLittle, Halves),
        (BorrowsNothing, Pair),
        (LosesTheBorrow, Pair),
    ],
)
def test_broken_core_of_two(core: Any, claim: Any) -> None:
    fmt = WEIGHTS["int8" if claim is Halves else "int4"]
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(core.__name__, "as before", "all operands", lambda: claim(core, fmt)))


@pytest.mark.parametrize(
    ("old", "new", "method"),
    [
        ("Mux(last, 0, total)", "total", "accumulate"),  # groups run into one another
        ("held.eq(total)", "held.eq(acc)", "accumulate"),  # the final product is missing
        ("with m.If(last):", "with m.If(1):", "accumulate"),  # the sum is not held
        (
            "acc[: spec.sum_width], product)",
            "acc[: spec.sum_width], product[:-1].as_signed())",
            "elaborate",
        ),  # the product's width
    ],
)
def test_broken_element(old: str, new: str, method: str) -> None:
    faulty, spec = rewritten(PE, old, new, method), PESpec.from_values({"stages": 2, "group": 4})
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim("PE", "as before", "stages 2", lambda: Sums(faulty(spec))))
    with pytest.raises(Refuted, match="Signal Name"):  # seen from outside alone
        prove(Claim("PE", "as before", "stages 2", lambda: Sums(faulty(spec), False), 6))
