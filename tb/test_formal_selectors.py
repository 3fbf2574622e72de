"""Proofs of the top-k engine's selectors, whole, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.orizuru.bitonic import Bitonic
from hdl.orizuru.memory import Roots
from hdl.orizuru.queue import Queue
from hdl.orizuru.radix import Radix
from hdl.orizuru.threshold import Thresholds
from hdl.orizuru.tree import Pair, RegisterTrees
from tb.faults import later, one_in, rewritten
from tb.formal import Claim, Refuted, prove, selectors
from tb.formal.selectors import CLAIMS, claim


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.size)
def test_bounded(claim: Claim) -> None:
    assert prove(claim).result == f"bounded, {claim.cycles} cycles"


@pytest.mark.parametrize("variant", ["queue", *later("systolic", "bitonic")])
def test_bounded_with_four_values(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of two bits: all of what eight keys can be like with ties among them."""
    monkeypatch.setattr(selectors, "BITS", 2)
    small = claim(variant)
    assert prove(small).result == f"bounded, {small.cycles} cycles"


# name: variant, rule for ties, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[str, str, Any, str, str, str]] = {
    "the shared comparison without its equality": (
        "systolic",
        "paper",
        Pair,
        "outcomes",
        "[held, ~held & ~equal]",
        "[held, ~held]",
    ),
    "a popped key stays": ("comb", "order", Pair, "_tree", "Cat(right, ~right)", "3"),
    "winners before they are compared": ("level", "order", RegisterTrees, "_climb", "& ~update.any()", ""),
    "refills are lost": ("memory", "order", Roots, "_refill", "| self.take", "& self.take"),
    "the list is too short": ("queue", "order", Queue, "elaborate", "self.key.valid & ahead_of_above", "0"),
    "a beat too early": ("bitonic", "order", Bitonic, "elaborate", "~valid[1:].any()", "1"),
    "tied keys without end": ("radix", "order", Radix, "_winner", "wanted - 1", "wanted"),
    "beyond both twice": ("threshold", "order", Thresholds, "_hits", "there & ~found", "there"),
}


@pytest.mark.parametrize("name", one_in(2, FAULTS))
def test_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant, ties, unit, method, old, new = FAULTS[name]
    monkeypatch.setattr(unit, method, getattr(rewritten(unit, old, new, method), method))
    with pytest.raises(Refuted, match="was asserted in frame"):
        prove(claim(variant, ties))
