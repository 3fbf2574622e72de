"""Proofs of the top-k engine's nodes, leaves and small trees, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.orizuru.shape import LARGER, NOT_LARGER, SMALLER
from hdl.orizuru.tree import Holding, Node, Pair, Shifting
from tb.faults import rewritten
from tb.formal import Claim, Refuted, Undecided, prove
from tb.formal.orizuru import CLAIMS, LEAVES_KEY, Choice, Leaves, Merge, shape


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.size)
def test_proved(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved ")


@pytest.mark.parametrize(
    ("ties", "old", "new"),
    [
        ("paper", "[held, ~held & ~equal]", "[held, ~held]"),  # inverted alone, the right one of equal keys wins
        ("order", "[held, ~held]", "[held, held]"),
        ("order", "(first, left, right)", "(first, right, left)"),
    ],
)
def test_broken_comparison_of_leaves(ties: str, old: str, new: str) -> None:
    faulty = rewritten(Pair, old, new, "outcomes")
    with pytest.raises(Refuted, match="Signal Name"):  # seen from outside
        circuit = Leaves(faulty(shape(LEAVES_KEY, 2, 1, ties=ties), 2, 1), invariant=False)
        prove(Claim("Pair", "as before", "as before", lambda: circuit, 5))


@pytest.mark.parametrize(
    ("kind", "base", "old", "new", "method"),
    [
        (Holding, Node, "take & right", "take & ~right", "pull"),  # the loser is gone
        (Holding, Node, "self.right.word, self.left.word", "self.left.word, self.right.word", "pick"),
        (Holding, Holding, "with m.Elif(empty):", "with m.Elif(empty | self.take):", "elaborate"),
        (Shifting, Shifting, "| self.take", "", "empty"),  # bubbles
        (Shifting, Shifting, "~self.winner.valid |", "", "empty"),  # never begins
    ],
)
def test_broken_node(kind: Any, base: Any, old: str, new: str, method: str) -> None:
    part = getattr(rewritten(base, old, new, method), method)
    faulty = type(kind.__name__, (kind,), {method: part})
    with pytest.raises((Refuted, Undecided)):
        prove(Claim("node", "as before", "as before", lambda: Merge(faulty(shape(4, 4, 2), LARGER, 2, False))))


CHOICES = {
    "a missing right one": lambda s, left, right: ~left.valid | s.right_wins(NOT_LARGER, left.word, right.word),
    "a missing left one": lambda s, left, right: right.valid & s.right_wins(NOT_LARGER, left.word, right.word),
    "another rule": lambda s, left, right: right.valid & (~left.valid | s.right_wins(SMALLER, left.word, right.word)),
}


@pytest.mark.parametrize("name", CHOICES)
def test_broken_choice(name: str) -> None:
    class Faulty(Choice):
        def decision(self) -> Any:
            return CHOICES[name](self.shape, *self.children)

    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim("choose", "as before", "as before", lambda: Faulty(NOT_LARGER, 4)))
