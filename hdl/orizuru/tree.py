"""Tournament trees over shared leaves: what a node does, and how branches of nodes grow from pairs of leaves.

::

    winner ^   | take            a node hands up the winner of its two children; `take` says that it is gone
         [ node ]                from this tree
    left ^ |  ^ | right
         ...  ...
        [  pair  ]               two leaves, one comparison, which both trees use
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import UNIT
from hdl.arith.bits import named
from hdl.orizuru.selector import Selector
from hdl.orizuru.shape import NOT_LARGER, Shape, choose
from hdl.shared import Shared


class Node(wiring.Component):
    """A node above the leaves' pairs, with one child (``single``) or two; subclasses differ in when it compares.

    Throughput  as the subclass says. ``take`` only while the winner is valid, or it means nothing.

    Members
    -------
    left, right : In(winner of the level below); winner : Out(winner of this level); take : In(1), the winner is gone;
    take_left, take_right : Out(1); swap : In(1), new leaves; update : In(1), compare (``Turning`` alone).
    """

    def __init__(self, shape: Shape, rule: str, level: int, single: bool):
        self.shape = shape
        self.rule = rule
        self.level = level
        self.single = single
        below = shape.winner(level - 1)
        members = {"left": In(below), "take": In(1), "take_left": Out(1), "swap": In(1), "update": In(1)}
        if not single:
            members |= {"right": In(below), "take_right": Out(1)}
        super().__init__(members | {"winner": Out(shape.winner(level))})

    def compare(self) -> Value:
        """Whether the right child wins."""
        return C(0, 1) if self.single else choose(self.shape, self.rule, self.left, self.right)

    def pick(self, m: Module, right: Value) -> data.View:
        """The child that ``right`` points at, as a winner of this level."""
        best = Signal(self.shape.winner(self.level), name="best")
        if self.single:
            m.d.comb += [best.word.eq(self.left.word), best.valid.eq(self.left.valid)]
            m.d.comb += best.index.eq(self.left.index)
            return best
        m.d.comb += [
            best.word.eq(Mux(right, self.right.word, self.left.word)),
            best.index.eq(Cat(Mux(right, self.right.index, self.left.index), right)),
            best.valid.eq(self.left.valid | self.right.valid),
        ]
        return best

    def pull(self, m: Module, take: Value, right: Value) -> None:
        """Take from the child that ``right`` points at."""
        m.d.comb += self.take_left.eq(take & ~right)
        if not self.single:
            m.d.comb += self.take_right.eq(take & right)


class Passing(Node):
    """Compares all the time and holds nothing."""

    kind = "node"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        right = named(m, self.compare(), "points_right")
        m.d.comb += self.winner.eq(self.pick(m, right))
        self.pull(m, self.take, right)
        return m


class Holding(Node):
    """Holds its winner. Once taken, the hole sinks: the node is empty for one cycle and then takes a child's winner.

    So a node has a new winner every other cycle, and only neighbouring levels depend on one another.
    """

    kind = "node_holding"

    def empty(self) -> Value:
        """Whether the node takes the winner of a child now."""
        return ~self.winner.valid

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        right = named(m, self.compare(), "points_right")
        best = self.pick(m, right)
        empty = named(m, self.empty(), "empty")
        valid = Signal()
        held = Signal(len(best.as_value()) - 1, reset_less=True)
        m.d.comb += [
            self.winner.valid.eq(valid),
            Cat(self.winner.word, self.winner.index).eq(held),
        ]
        with m.If(self.swap):
            m.d.sync += valid.eq(0)
        with m.Elif(empty):
            m.d.sync += [valid.eq(best.valid), held.eq(Cat(best.word, best.index))]
        with m.Elif(self.take):
            m.d.sync += valid.eq(0)
        self.pull(m, empty, right)
        return m


class Shifting(Holding):
    """Holds its winner, and replaces it in the cycle that takes it: winners move up along the whole path at once.

    A new winner every cycle; all levels' comparisons are done side by side, ``take`` goes down through all of them.
    """

    kind = "node_shifting"

    def empty(self) -> Value:
        return ~self.winner.valid | self.take


class Turning(Node):
    """The published node: holds a direction alone, and compares when told to, once the level below has."""

    kind = "node_turning"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        right = Signal(reset_less=True)
        with m.If(self.update):
            m.d.sync += right.eq(self.compare())
        m.d.comb += self.winner.eq(self.pick(m, right))
        self.pull(m, self.take, right)
        return m


def node_class(shape: Shape, level: int) -> type[Node]:
    """What stands at a level."""
    if shape.variant == "unit16":
        return Holding if level % UNIT == 0 or level == shape.depth else Passing
    return {"systolic": Holding, "comb": Shifting, "level": Turning}[shape.variant]


class Branching(wiring.Component):
    """A branch of ``n`` leaves in all trees; the members of :class:`Pair` and :class:`Branch`.

    Members
    -------
    write : In(1), with row : In(place of the beat; where there are several) and slots : In(its keys); swap : In(1),
    the leaves written before become those of the trees; take : In(1 per tree); update : In(1 per level and tree);
    winners : Out(the winner of each tree, combinational from the leaves' state or from a register).
    """

    def __init__(self, shape: Shape, n: int, level: int):
        self.shape = shape
        self.n = n
        self.level = level
        trees = len(shape.rules)
        members = {
            "write": In(1),
            "slots": In(data.ArrayLayout(shape.slot, min(n, shape.lanes))),
            "swap": In(1),
            "take": In(trees),
            "winners": Out(data.ArrayLayout(shape.winner(level), trees)),
        }
        if shape.row_bits(level):
            members["row"] = In(shape.row_bits(level))
        if level > 1:
            members["update"] = In(data.ArrayLayout(level - 1, trees))
        super().__init__(members)

    @property
    def left(self) -> int:
        """Leaves of the left child; the others are the right one's."""
        return min(self.n, self.shape.leaves(self.level - 1))

    def halves(self) -> tuple[tuple[Value, list[Any]], tuple[Value, list[Any]]]:
        """``write`` and slots of both children: of two rows one is written, else a beat is cut in two."""
        slots = [self.slots[i] for i in range(min(self.n, self.shape.lanes))]
        if self.shape.row_bits(self.level):
            right, right_n = self.row[-1], min(self.n - self.left, self.shape.lanes)
            return (self.write & ~right, slots[: self.left]), (self.write & right, slots[:right_n])
        return (self.write, slots[: self.left]), (self.write, slots[self.left :])


class Pair(Branching):
    """Two leaves, or one, double-buffered: keys are written beside those that the trees see, until ``swap``.

    Their comparison is made once, at ``swap``. Every tree has its own mask of leaves that are not gone.
    """

    kind = "pair"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        loaded = [self._loaded(m, i, *half) for i, half in enumerate(self.halves()[: self.n])]
        words = []
        for i, leaf in enumerate(loaded):
            words.append(word := Signal(shape.word, name=f"word_{i}", reset_less=True))
            with m.If(self.swap):
                m.d.sync += word.eq(leaf.word)
        wins = self.outcomes(m, *(leaf.word for leaf in loaded)) if self.n == 2 else [C(0, 1)] * len(shape.rules)
        for t, right_wins in enumerate(wins):
            self._tree(m, t, [leaf.valid for leaf in loaded], words, right_wins)
        return m

    def _loaded(self, m: Module, i: int, write: Value, slots: list[Any]) -> Any:
        """A leaf that is being written; not there until it is."""
        word = Signal(self.shape.word, name=f"loaded_{i}", reset_less=True)
        valid = Signal(name=f"loaded_{i}_valid")
        with m.If(write):
            m.d.sync += [word.eq(slots[0].word), valid.eq(slots[0].valid)]
        with m.Elif(self.swap):
            m.d.sync += valid.eq(0)
        slot = Signal(self.shape.slot, name=f"leaf_{i}")
        m.d.comb += [slot.word.eq(word), slot.valid.eq(valid)]
        return slot

    def outcomes(self, m: Module, left: Value, right: Value) -> list[Value]:
        """Whether the right leaf wins in each tree. The second tree's answer is the first one's, inverted; under rule
        ``paper``, where neither is larger, the left one wins in both."""
        shape, (first, *others) = self.shape, self.shape.rules
        outcome = named(m, shape.right_wins(first, left, right), "right_wins_now")
        held = self._hold(m, outcome, "right_wins")
        if not others:
            return [held]
        if others[0] == NOT_LARGER:
            return [held, ~held]
        equal = self._hold(m, left[-shape.key :] == right[-shape.key :], "equal")
        return [held, ~held & ~equal]

    def _hold(self, m: Module, value: Value, name: str) -> Signal:
        held = Signal(name=name, reset_less=True)
        with m.If(self.swap):
            m.d.sync += held.eq(value)
        return held

    def _tree(self, m: Module, t: int, present: Sequence[Value], words: Sequence[Value], right_wins: Value) -> None:
        """The winner in tree ``t``, and the mask of the leaves still in it."""
        live = Signal(len(words), name=f"live_{t}")
        right = named(m, live[-1] & (~live[0] | right_wins) if self.n == 2 else C(0, 1), f"points_right_{t}")
        with m.If(self.swap):
            m.d.sync += live.eq(Cat(present))
        with m.Elif(self.take[t]):
            m.d.sync += live.eq(live & (Cat(right, ~right) if self.n == 2 else 0))
        winner = self.winners[t]
        m.d.comb += [
            winner.valid.eq(live.any()),
            winner.word.eq(Mux(right, words[-1], words[0])),
            winner.index.eq(right),
        ]


class Branch(Branching):
    """Two branches of the level below, or one, and a node over them in each tree."""

    kind = "branch"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sizes = [self.left, self.n - self.left] if self.n > self.left else [self.left]
        children = []
        for side, size, (write, slots) in zip(("left", "right"), sizes, self.halves(), strict=False):
            m.submodules[side] = child = Shared(branching(self.level - 1), self.shape, size, self.level - 1)
            children.append(child)
            m.d.comb += [child.write.eq(write), child.slots.as_value().eq(Cat(slots)), child.swap.eq(self.swap)]
            if self.shape.row_bits(self.level - 1):
                m.d.comb += child.row.eq(self.row[:-1])
            if self.level > 2:
                m.d.comb += [child.update[t].eq(self.update[t][:-1]) for t in range(len(self.shape.rules))]
        for t, rule in enumerate(self.shape.rules):
            self._node(m, t, rule, children)
        return m

    def _node(self, m: Module, t: int, rule: str, children: Sequence[Any]) -> None:
        single = len(children) == 1
        m.submodules[f"node_{t}"] = node = Shared(
            node_class(self.shape, self.level), self.shape, rule, self.level, single
        )
        m.d.comb += [
            node.left.eq(children[0].winners[t]),
            children[0].take[t].eq(node.take_left),
            node.take.eq(self.take[t]),
            node.swap.eq(self.swap),
            node.update.eq(self.update[t][-1]),
            self.winners[t].eq(node.winner),
        ]
        if not single:
            m.d.comb += [node.right.eq(children[1].winners[t]), children[1].take[t].eq(node.take_right)]


def branching(level: int) -> type[Branching]:
    """What a branch of that level is."""
    return Branch if level > 1 else Pair


class RegisterTrees(Selector):
    """Two trees of registers; nodes as the variant has them."""

    kind = "register_trees"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self.spec.depth
        m.submodules.root = root = Shared(branching(depth), self.shape, self.spec.n, depth)
        m.d.comb += [
            self.ready.eq(1),
            root.write.eq(self.write),
            root.slots.eq(self.slots),
            root.swap.eq(self.swap),
            root.take.eq(self.take),
            self.winners.eq(root.winners),
        ]
        if self.shape.row_bits(depth):
            m.d.comb += root.row.eq(self.row)
        if self.spec.variant == "level":
            self._climb(m, root)
        return m

    def _climb(self, m: Module, root: Any) -> None:
        """Comparisons go up a level per cycle; winners count once they have come to the root."""
        for t in range(self.spec.trees):
            update = Signal(self.spec.depth - 1, name=f"update_{t}")  # one bit per level, from the lowest
            m.d.sync += update.eq(Cat(self.swap | self.take[t], update))
            m.d.comb += [
                root.update[t].eq(update),
                self.winners[t].valid.eq(root.winners[t].valid & ~update.any()),
            ]
