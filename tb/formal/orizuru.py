"""What is proved of the top-k engine's trees for all time: who wins at a node and at a pair of leaves, and that order
is kept from level to level."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from amaranth.hdl import Assert, Assume, C, Cat, Module, Mux, Signal, Value

from golden.orizuru.engine import TIES
from hdl.orizuru.shape import LARGER, NOT_LARGER, SMALLER, Shape, choose
from hdl.orizuru.tree import Holding, Node, Pair, Shifting
from tb.formal import Claim, Property

RULES = (LARGER, NOT_LARGER, SMALLER)
LAST = {"order": NOT_LARGER, "paper": SMALLER}


def shape(key: int, lanes: int, depth: int, ties: str = "order") -> Shape:
    """Both sides of keys of ``key`` bits."""
    return Shape(key, key, lanes, depth, (LARGER, LAST[ties]), "systolic")


def larger(a: Value, b: Value) -> Value:
    """a > b by the definition: at the highest place where they differ, a has the one."""
    found: Value = C(0, 1)
    for i in range(len(a)):
        found = Mux(a[i] == b[i], found, a[i])
    return found


def beats(rule: str, right: Value, left: Value) -> Value:
    """Whether the right one of two keys comes out before the left one."""
    if rule == SMALLER:
        return larger(left, right)
    return larger(right, left) if rule == LARGER else ~larger(right, left)


def naive(rule: str, keys: Sequence[Value], there: Value) -> tuple[Value, Value]:
    """Who wins among those that are there, one after another: the index and the key."""
    index, best, any_there = C(0, 1), keys[0], there[0]
    for i, key in enumerate(keys[1:], 1):
        wins = there[i] & (~any_there | beats(rule, key, best))
        index, best, any_there = Mux(wins, i, index), Mux(wins, key, best), any_there | there[i]
    return index, best


class Choice(Property):
    """A node's decision is the naive one, for all keys, there or not."""

    def __init__(self, rule: str, key: int):
        super().__init__()
        self.rule = rule
        self.shape = shape(key, 1, 1)
        self.children = [Signal(self.shape.winner(1), name=name) for name in ("left", "right")]
        self.inputs += [child.as_value() for child in self.children]

    def decision(self) -> Value:
        return choose(self.shape, self.rule, *self.children)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        left, right = self.children
        index, _ = naive(self.rule, [left.word, right.word], Cat(left.valid, right.valid))
        m.d.comb += Assert(self.decision() == index)
        return m


class Leaves(Property):
    """A pair of leaves, written, exchanged and taken at any time: beside it the definition keeps the keys that were
    written, exchanged and not yet taken. ``invariant``: also what its registers hold, so that induction closes."""

    def __init__(self, dut: Pair, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.inputs += [dut.slots.as_value(), dut.write, dut.swap, dut.take]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        loaded, words = (
            [Signal(dut.shape.word, name=f"their_{what}_{i}") for i in range(2)] for what in ("loaded", "word")
        )
        there = Signal(2)
        with m.If(dut.swap):
            m.d.sync += [there.eq(0), *(w.eq(a) for w, a in zip(words, loaded, strict=True))]
        with m.If(dut.write):
            m.d.sync += there.eq(Cat(slot.valid for slot in dut.slots))
            m.d.sync += [a.eq(slot.word) for a, slot in zip(loaded, dut.slots, strict=True)]
        live = [self._tree(m, t, rule, words, there) for t, rule in enumerate(dut.shape.rules)]
        if self.invariant:
            self._invariant(m, loaded, words, there, live)
        return m

    def _tree(self, m: Module, t: int, rule: str, words: list[Signal], there: Value) -> Signal:
        """Asserts that the winner is the naive one. Returns the keys that are still in the tree."""
        take, winner = self.dut.take[t], self.dut.winners[t]
        live = Signal(2, name=f"their_live_{t}")
        index, best = naive(rule, words, live)
        with m.If(take):
            m.d.sync += live.eq(live & ~(C(1, 2) << index))
        with m.If(self.dut.swap):
            m.d.sync += live.eq(there)
        m.d.comb += [
            Assume(~take | winner.valid),
            Assert(winner.valid == live.any()),
            Assert(~winner.valid | ((winner.word == best) & (winner.index == index))),
        ]
        return live

    def _invariant(
        self, m: Module, loaded: list[Signal], words: list[Signal], there: Value, theirs: list[Signal]
    ) -> None:
        live = [self.probe(f"dut.live_{t}", 2) for t in range(2)]
        in_a_tree = live[0] | live[1]
        m.d.comb += [Assert(a == b) for a, b in zip(live, theirs, strict=True)]
        for i, (a, w) in enumerate(zip(loaded, words, strict=True)):
            m.d.comb += [
                Assert(self.probe(f"dut.loaded_{i}_valid") == there[i]),
                Assert(~there[i] | (self.probe(f"dut.loaded_{i}", len(a)) == a)),
                Assert(~in_a_tree[i] | (self.probe(f"dut.word_{i}", len(w)) == w)),
            ]
        m.d.comb += Assert(~in_a_tree.all() | (self.probe("dut.right_wins") == larger(words[1], words[0])))
        if SMALLER in self.dut.shape.rules:
            m.d.comb += Assert(~in_a_tree.all() | (self.probe("dut.equal") == (words[1] == words[0])))


def first(rule: str, a: Any, b: Any) -> Value:
    """Whether winner a comes before winner b of the same branch: by key, and of equal keys by place."""
    ahead = larger(a.word, b.word) if rule == LARGER else larger(b.word, a.word)
    sooner = larger(a.index, b.index) if rule == NOT_LARGER else larger(b.index, a.index)
    return ahead | ((a.word == b.word) & sooner)


@dataclass(frozen=True)
class Offer:
    """What a link has seen: a winner, the one that was taken last, and the cycle before."""

    winner: Any
    last: Any
    some: Value
    """One was taken before."""
    before: Any
    """The winner of the cycle before."""
    kept: Value
    """It was there in the cycle before, and not taken."""
    gone: Value
    """It was there in the cycle before, and taken."""
    idle: Value
    """It was not there in the cycle before, and none is left."""


def offer(m: Module, winner: Any, take: Value, name: str, bubble: bool, begun: Value | int = 1) -> Offer:
    """Follows a link. Once it has begun, a winner is missing only if none is left; or, with ``bubble``, if one has just
    been taken."""
    last, before = (Signal(winner.shape(), name=f"{name}_{what}") for what in ("last", "before"))
    some, kept, idle = (Signal(name=f"{name}_{what}") for what in ("some", "kept", "idle"))
    gone = Signal(name=f"{name}_gone")  # taken in the cycle before
    m.d.sync += [before.eq(winner), kept.eq(winner.valid & ~take), gone.eq(winner.valid & take)]
    m.d.sync += idle.eq(~winner.valid & ~(gone & bubble) & begun)
    with m.If(winner.valid & take):
        m.d.sync += [last.eq(winner), some.eq(1)]
    return Offer(winner, last, some, before, kept, gone, idle)


def in_order(rule: str, o: Offer) -> Value:
    """A winner stays until it is taken; what comes then is behind it; once there is none, there is none."""
    same = o.winner.valid & (o.winner.word == o.before.word) & (o.winner.index == o.before.index)
    behind = ~o.winner.valid | ~o.some | first(rule, o.last, o.winner)
    return behind & (~o.kept | same) & (~o.idle | ~o.winner.valid)


class Merge(Property):
    """Of children that offer their keys in order a node makes one that does, whose winner is ahead of theirs, and holds
    whatever it took from them.

    Pairs of leaves offer theirs in order, so by induction over the levels every branch does.
    """

    def __init__(self, dut: Node):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.left.as_value(), dut.right.as_value(), dut.take]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        rule = dut.rule
        bubble = not isinstance(dut, Shifting)
        begun = Signal()  # the node is empty in the cycle after reset
        m.d.sync += begun.eq(1)
        top = offer(m, dut.winner, dut.take, "top", bubble, begun)
        sides = [
            offer(m, dut.left, dut.take_left, "left", bubble),
            offer(m, dut.right, dut.take_right, "right", bubble),
        ]
        m.d.comb += [dut.swap.eq(0), Assume(~dut.take | dut.winner.valid)]
        for right, side in enumerate(sides):
            m.d.comb += Assume(in_order(rule, side))
            child = Signal(dut.winner.shape(), name=f"child_{right}")
            m.d.comb += [child.word.eq(side.winner.word), child.index.eq(Cat(side.winner.index, right))]
            m.d.comb += Assert(~(dut.winner.valid & side.winner.valid) | first(rule, dut.winner, child))
            word, index = side.before.word, Cat(side.before.index, right)
            holds = dut.winner.valid & (dut.winner.word == word) & (dut.winner.index == index)
            m.d.comb += [Assert(~side.gone | holds), Assert(~top.idle | ~side.winner.valid)]
        m.d.comb += Assert(in_order(rule, top))
        return m


CHOICE = "of two children, there or not, the one that is naively the winner"
LEAVES = "both trees' winners are the naive ones of the keys loaded and not yet taken"
MERGE = "children that offer their keys in order make a node that does, ahead of theirs; none is lost or held back"

KEY = 4  # bits of a key in the proofs of nodes
LEAVES_KEY = 8


def _leaves(ties: str) -> Leaves:
    return Leaves(Pair(shape(LEAVES_KEY, 2, 1, ties), 2, 1))


def _merge(kind: type[Node], rule: str) -> Merge:
    return Merge(kind(shape(KEY, 4, 2), rule, 2, False))


CLAIMS = (
    *(Claim("orizuru", CHOICE, f"{rule}, 16-bit keys", partial(Choice, rule, 16)) for rule in RULES),
    *(Claim("orizuru", LEAVES, f"a pair of {LEAVES_KEY}-bit keys, {ties}", partial(_leaves, ties)) for ties in TIES),
    *(
        Claim("orizuru", MERGE, f"{kind.__name__}, {rule}, {KEY}-bit keys", partial(_merge, kind, rule))
        for kind in (Holding, Shifting)
        for rule in RULES
    ),
)
