"""What keys look like inside the engine, and which of two wins."""

from dataclasses import dataclass
from typing import Any, Self

from amaranth.hdl import Value
from amaranth.lib import data

from golden.orizuru.engine import OrizuruSpec
from hdl.orizuru.keys import word_width

LARGER, NOT_LARGER, SMALLER = "larger", "not_larger", "smaller"
"""When the right one of two keys wins: for the largest; for the last in that order; for the smallest, left first."""


@dataclass(frozen=True)
class Shape:
    """What a tree is built from. Words have ``word`` bits, the upper ``key`` of which are compared; one tree per rule
    of ``rules``; ``lanes`` keys come per beat; ``depth`` levels in all."""

    word: int
    key: int
    lanes: int
    depth: int
    rules: tuple[str, ...]
    variant: str

    @classmethod
    def of(cls, spec: OrizuruSpec) -> Self:
        last = NOT_LARGER if spec.ties == "order" else SMALLER
        rules = {"both": (LARGER, last), "smallest": (last,)}.get(spec.sides, (LARGER,))
        word = word_width(spec.key_format, spec.sides == "magnitude")
        return cls(word, spec.key_format.bits, spec.lanes, spec.depth, rules, spec.variant)

    @property
    def lane_bits(self) -> int:
        """Levels over the lanes of one beat."""
        return (self.lanes - 1).bit_length()

    def leaves(self, level: int) -> int:
        """Leaves of a full branch of that level."""
        above = level - self.lane_bits
        return 1 << level if above < 0 else self.lanes << above

    def row_bits(self, level: int) -> int:
        """Bits that choose a beat's place in a branch of that level."""
        return max(0, level - self.lane_bits)

    @property
    def slot(self) -> data.StructLayout:
        """A key on its way to a leaf."""
        return data.StructLayout({"word": self.word, "valid": 1})

    def winner(self, level: int) -> data.StructLayout:
        """A key on its way to the root, with its place in the branch."""
        return data.StructLayout({"word": self.word, "valid": 1, "index": level})

    def right_wins(self, rule: str, left: Value, right: Value) -> Value:
        """Which of two valid words it is."""
        a, b = left[-self.key :], right[-self.key :]
        return {LARGER: b > a, NOT_LARGER: ~(b > a), SMALLER: b < a}[rule]


def choose(shape: Shape, rule: str, left: Any, right: Any) -> Value:
    """Whether the right one of two winners, valid or not, is theirs."""
    return right.valid & (~left.valid | shape.right_wins(rule, left.word, right.word))
