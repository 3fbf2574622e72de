"""What is proved of the top-k engine: who wins at a node and at a pair of leaves, and what comes out of small trees."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from amaranth.hdl import Assert, Assume, C, Cat, Module, Mux, Signal, Value

from golden.orizuru.engine import TIES
from hdl.orizuru.shape import LARGER, NOT_LARGER, SMALLER, Shape, choose
from hdl.orizuru.tree import Holding, Node, Pair, Shifting, branching
from tb.formal import Claim, Property

RULES = (LARGER, NOT_LARGER, SMALLER)
LAST = {"order": NOT_LARGER, "paper": SMALLER}


def shape(key: int, lanes: int, depth: int, variant: str = "systolic", ties: str = "order") -> Shape:
    """Both sides of keys of ``key`` bits."""
    return Shape(key, key, lanes, depth, (LARGER, LAST[ties]), variant)


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


class Trees(Property):
    """Beside the unit the definition keeps the keys that were written, exchanged and not yet taken.

    ``wait`` is how many cycles pass before a tree's next winner: :attr:`fill` after an exchange, :attr:`period` after a
    pop, both as the specification says. With ``once`` any keys are written after reset, exchanged, and all taken as
    soon as they are offered; else everything may happen at any time.
    """

    def __init__(self, dut: Any, fill: int, period: int, once: bool = True):
        super().__init__()
        self.dut = dut
        self.fill = fill
        self.period = period
        self.once = once
        self.inputs += [dut.slots.as_value(), *(() if once else (dut.write, dut.swap, dut.take))]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        n = dut.n
        self.loaded = [Signal(dut.shape.word, name=f"their_loaded_{i}") for i in range(n)]
        self.words = [Signal(dut.shape.word, name=f"their_word_{i}") for i in range(n)]
        self.there, began = Signal(n), Signal(n)
        with m.If(dut.swap):
            m.d.sync += [self.there.eq(0), began.eq(self.there)]
            m.d.sync += [w.eq(a) for w, a in zip(self.words, self.loaded, strict=True)]
        with m.If(dut.write):
            m.d.sync += self.there.eq(Cat(slot.valid for slot in dut.slots))
            m.d.sync += [a.eq(slot.word) for a, slot in zip(self.loaded, dut.slots, strict=True)]
        if self.once:
            step = Signal(2)
            m.d.sync += step.eq(Mux(step == 3, 3, step + 1))
            m.d.comb += [dut.write.eq(step == 1), dut.swap.eq(step == 2)]
        self.live: list[Signal] = []
        out = [began & ~self._tree(m, t, rule) for t, rule in enumerate(dut.shape.rules)]
        if self.once and NOT_LARGER in dut.shape.rules:
            enough = sum(began) < sum(out[0]) + sum(out[1])
            m.d.comb += Assert(enough | ~(out[0] & out[1]).any())  # never twice
        return m

    def _tree(self, m: Module, t: int, rule: str) -> Signal:
        """Asserts that the winner is the naive one. Returns the keys that are still in the tree."""
        dut, take = self.dut, self.dut.take[t]
        live = Signal(dut.n, name=f"their_live_{t}")
        self.live.append(live)
        wait = Signal(range(max(self.fill, self.period) + 1), name=f"wait_{t}")
        index, best = naive(rule, self.words, live)
        offered = self._offered(m, t)
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(take):
            m.d.sync += [live.eq(live & ~(C(1, dut.n) << index)), wait.eq(self.period - 1)]
        with m.If(dut.swap):
            m.d.sync += [live.eq(self.there), wait.eq(self.fill)]
        winner = dut.winners[t]
        m.d.comb += [
            take.eq(offered) if self.once else Assume(~take | offered),
            Assert(offered == (live.any() & (wait == 0))),
            Assert(~offered | ((winner.word == best) & (winner.index == index))),
        ]
        return live

    def _offered(self, m: Module, t: int) -> Value:
        """Whether a winner stands there for all to see; with variant ``level`` once the comparisons have come up."""
        dut = self.dut
        if dut.shape.variant != "level" or dut.level == 1:
            return dut.winners[t].valid
        update = Signal(dut.level - 1, name=f"their_update_{t}")
        m.d.sync += update.eq(Cat(dut.swap | dut.take[t], update))
        m.d.comb += dut.update[t].eq(update)
        return dut.winners[t].valid & ~update.any()


class Leaves(Trees):
    """A pair of leaves, and what its registers hold: with that the proof is by induction."""

    def __init__(self, dut: Pair, invariant: bool = True):
        super().__init__(dut, 0, 1, once=False)
        self.invariant = invariant

    def elaborate(self, platform: Any) -> Module:
        m = super().elaborate(platform)
        if not self.invariant:
            return m
        live = [self.probe(f"dut.live_{t}", 2) for t in range(2)]
        in_a_tree = live[0] | live[1]
        m.d.comb += [Assert(a == b) for a, b in zip(live, self.live, strict=True)]
        for i, (a, w) in enumerate(zip(self.loaded, self.words, strict=True)):
            m.d.comb += [
                Assert(self.probe(f"dut.loaded_{i}_valid") == self.there[i]),
                Assert(~self.there[i] | (self.probe(f"dut.loaded_{i}", len(a)) == a)),
                Assert(~in_a_tree[i] | (self.probe(f"dut.word_{i}", len(w)) == w)),
            ]
        m.d.comb += Assert(~in_a_tree.all() | (self.probe("dut.right_wins") == larger(self.words[1], self.words[0])))
        if SMALLER in self.dut.shape.rules:
            m.d.comb += Assert(~in_a_tree.all() | (self.probe("dut.equal") == (self.words[1] == self.words[0])))
        return m


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
TREES = LEAVES + ", on time; order: no key twice"

KEY = 4  # bits of a key in the proofs of nodes
TREE_KEY, TREE_CYCLES = 2, 9  # bits enough for all orders and ties of four keys
LEAVES_KEY = 8


def _leaves(ties: str) -> Leaves:
    return Leaves(Pair(shape(LEAVES_KEY, 2, 1, ties=ties), 2, 1))


def _merge(kind: type[Node], rule: str) -> Merge:
    return Merge(kind(shape(KEY, 4, 2), rule, 2, False))


def _trees(variant: str, ties: str) -> Trees:
    """Four keys. (Of ``unit16`` that is the same tree as ``systolic``.)"""
    depth = 2
    period = {"systolic": 2, "comb": 1, "level": depth}[variant]
    return Trees(branching(depth)(shape(TREE_KEY, 4, depth, variant, ties), 4, depth), depth - 1, period)


CLAIMS = (
    *(Claim("orizuru", CHOICE, f"{rule}, 16-bit keys", partial(Choice, rule, 16)) for rule in RULES),
    *(Claim("orizuru", LEAVES, f"a pair of {LEAVES_KEY}-bit keys, {ties}", partial(_leaves, ties)) for ties in TIES),
    *(
        Claim("orizuru", MERGE, f"{kind.__name__}, {rule}, {KEY}-bit keys", partial(_merge, kind, rule))
        for kind in (Holding, Shifting)
        for rule in RULES
    ),
    *(
        Claim(
            "orizuru", TREES, f"4 {TREE_KEY}-bit keys, {variant}, {ties}", partial(_trees, variant, ties), TREE_CYCLES
        )
        for variant in ("systolic", "comb", "level")
        for ties in TIES
    ),
)
