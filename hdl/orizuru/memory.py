"""Variant ``memory``: keys and nodes of the trees in block RAM, one pipeline that builds them and refills them.

::

    a beat, or a row        lanes             a level per doubling of the rows
    that is read again  ->  levels of    ->   store the winner, read its   ->  ...  ->  root
          |      ^          comparisons       neighbour, compare
          v      |                                    |   ^
        [ row memory ]                             [ memory ]

A row that has lost its winner goes the way that it came when it was loaded, past the winners of the other rows: as
many comparators as a beat needs and one per level of rows and tree, however many keys there are. Items stay in order,
so each finds what those before it have written.
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import named
from hdl.orizuru.selector import Selector
from hdl.orizuru.shape import NOT_LARGER, Shape
from hdl.shared import Shared


def row_width(shape: Shape) -> int:
    """Bits of a row's number; one at least, so that no port is empty."""
    return max(1, shape.row_bits(shape.depth))


def tag_layout(shape: Shape) -> data.StructLayout:
    """What goes with a row's winners: whether there are any, where the row is, and whether it is read again after the
    winner of ``tree`` was taken (``refill``) or is new (``last`` of its vector)."""
    return data.StructLayout({"valid": 1, "refill": 1, "tree": 1, "last": 1, "bank": 1, "row": row_width(shape)})


def item_layout(shape: Shape, level: int) -> data.StructLayout:
    """The winners of a branch of that level, one per tree, with their tag."""
    winners = data.ArrayLayout(shape.winner(level), len(shape.rules))
    return data.StructLayout({"tag": tag_layout(shape), "winners": winners})


def merge(m: Module, right_wins: Value, left: Any, right: Any, best: Any) -> None:
    """The winner of two of the level below, ``right_wins`` of two that are there."""
    wins = named(m, right.valid & (~left.valid | right_wins), "points_right")
    m.d.comb += [
        best.word.eq(Mux(wins, right.word, left.word)),
        best.index.eq(Cat(Mux(wins, right.index, left.index), wins)),
        best.valid.eq(left.valid | right.valid),
    ]


class Lanes(wiring.Component):
    """The winners of a beat's keys, a level of comparisons per cycle; the first one serves both trees.

    Latency     ``lane_bits`` cycles.
    Throughput  a beat per cycle.

    Members
    -------
    keys : In(words, each with a valid bit per tree); tag : In; o : Out(item).
    """

    kind = "lanes"

    def __init__(self, shape: Shape):
        self.shape = shape
        trees = len(shape.rules)
        key = data.StructLayout({"word": shape.word, "valid": trees})
        super().__init__(
            {
                "keys": In(data.ArrayLayout(key, shape.lanes)),
                "tag": In(tag_layout(shape)),
                "o": Out(item_layout(shape, shape.lane_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        trees = range(len(self.shape.rules))
        tag: Any = self.tag
        winners = [[self._leaf(m, t, lane) for lane in range(self.shape.lanes)] for t in trees]
        for level in range(1, self.shape.lane_bits + 1):
            winners = self._level(m, level, winners)
            held = Signal.like(tag, name=f"tag_{level}")
            m.d.sync += held.eq(tag)
            tag = held
        m.d.comb += self.o.tag.eq(tag)
        m.d.comb += [self.o.winners[t].eq(winners[t][0]) for t in trees]
        return m

    def _leaf(self, m: Module, t: int, lane: int) -> Any:
        leaf = Signal(self.shape.winner(0), name=f"leaf_{t}_{lane}")
        key = self.keys[lane]
        m.d.comb += [leaf.word.eq(key.word), leaf.valid.eq(key.valid[t])]
        return leaf

    def _level(self, m: Module, level: int, below: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Winners of pairs, in registers; a lone one moves up."""
        above: list[list[Any]] = [[] for _ in below]
        for i in range(0, len(below[0]), 2):
            pairs = [winners[i : i + 2] for winners in below]
            wins = self._wins(m, level, pairs) if len(pairs[0]) == 2 else []
            for t, pair in enumerate(pairs):
                best = Signal(self.shape.winner(level), name=f"best_{level}_{t}_{i}")
                if wins:
                    merge(m, wins[t], pair[0], pair[1], best)
                else:
                    m.d.comb += [best.word.eq(pair[0].word), best.valid.eq(pair[0].valid), best.index.eq(pair[0].index)]
                held = Signal(best.shape(), name=f"winner_{level}_{t}_{i}", reset_less=True)
                m.d.sync += held.eq(best)
                above[t].append(held)
        return above

    def _wins(self, m: Module, level: int, pairs: Sequence[Sequence[Any]]) -> list[Value]:
        """Whether the right one of two wins in each tree. Leaves are the same in both trees, so one comparison does:
        inverted, and under rule ``paper`` only where they differ."""
        shape = self.shape
        if level > 1:
            return [shape.right_wins(rule, a.word, b.word) for rule, (a, b) in zip(shape.rules, pairs, strict=True)]
        left, right = pairs[0]
        first = named(m, shape.right_wins(shape.rules[0], left.word, right.word), "right_wins")
        inverted = [~first if r == NOT_LARGER else ~first & (left.word != right.word) for r in shape.rules[1:]]
        return [first, *inverted]


class RowNode(wiring.Component):
    """Winners of rows, or of branches of them, beside their neighbours': stored, and compared.

    Latency     3 cycles: the neighbour is read, put beside, compared.
    Throughput  an item per cycle. While a vector loads only the second of two neighbours, or its last one, goes on.

    Members
    -------
    i : In(item); last_row : In, of the vector whose rows are refilled; o : Out(item).
    """

    kind = "row_node"

    def __init__(self, shape: Shape, level: int):
        self.shape = shape
        self.level = level
        members = {"i": In(item_layout(shape, level - 1)), "last_row": In(row_width(shape))}
        super().__init__(members | {"o": Out(item_layout(shape, level))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        below = self.shape.row_bits(self.level - 1)
        place = self.i.tag.row[below:]
        stored = self.i.winners.shape()
        m.submodules.stored = memory = Memory(shape=stored, depth=2 << len(place), init=[])
        write, read = memory.write_port(), memory.read_port()
        held = self._held(m, self.i, "held")
        m.d.comb += [
            write.addr.eq(Cat(place, self.i.tag.bank)),
            write.data.eq(self.i.winners),
            write.en.eq(self.i.tag.valid),
            read.addr.eq(Cat(place ^ 1, self.i.tag.bank)),
        ]
        tag = held.tag
        at, last = tag.row[below:], self.last_row[below:]
        odd = at[0]
        there = named(m, odd | (tag.refill & (at != last)), "neighbour_there")
        goes_on = Signal.like(tag)
        m.d.sync += [goes_on.eq(tag), goes_on.valid.eq(tag.valid & (tag.refill | odd | tag.last))]
        o = Signal(self.o.shape())
        m.d.comb += o.tag.eq(goes_on)
        for t, rule in enumerate(self.shape.rules):
            left, right = self._pair(m, odd, there, held.winners[t], read.data[t])
            merge(m, self.shape.right_wins(rule, left.word, right.word), left, right, o.winners[t])
        m.d.comb += self.o.eq(self._held(m, o, "after"))
        return m

    def _held(self, m: Module, item: Any, name: str) -> Any:
        """An item a cycle later; only its tag is reset."""
        held = Signal(item.shape(), name=name)
        tag = Signal(item.tag.shape(), name=f"{name}_tag")
        winners = Signal(item.winners.shape(), name=f"{name}_winners", reset_less=True)
        m.d.sync += [tag.eq(item.tag), winners.eq(item.winners)]
        m.d.comb += [held.tag.eq(tag), held.winners.eq(winners)]
        return held

    def _pair(self, m: Module, odd: Value, there: Value, mine: Any, other: Any) -> tuple[Any, Any]:
        """The left and the right one of two neighbours, in registers."""
        left, right = (Signal(mine.shape(), name=name, reset_less=True) for name in ("left", "right"))
        m.d.sync += [
            left.eq(Mux(odd, other, mine)),
            right.eq(Mux(odd, mine, other)),
            left.valid.eq(Mux(odd, other.valid & there, mine.valid)),
            right.valid.eq(Mux(odd, mine.valid, other.valid & there)),
        ]
        return left, right


def refill_layout(shape: Shape) -> data.StructLayout:
    """A winner that was taken: its tree and its place."""
    members = {"valid": 1, "tree": 1, "row": row_width(shape), "lane": shape.lane_bits}
    return data.StructLayout(members)


class Rows(wiring.Component):
    """The keys: beats on their way in, rows on their way through the trees again, without the key that was taken.

    Latency     2 cycles. A row must not be read again in the cycle after it was.

    Members
    -------
    write, row, slots, last : In, as of :class:`Selector`; refill : In; bank : In(1, of the vector whose winners are
    taken); swap : In(1), the other one's now; keys, tag : Out, to the lanes; last_row : Out, of that vector.
    """

    kind = "rows"

    def __init__(self, shape: Shape):
        self.shape = shape
        self.key = data.StructLayout({"word": shape.word, "valid": len(shape.rules)})
        super().__init__(
            {
                "write": In(1),
                "row": In(row_width(shape)),
                "slots": In(data.ArrayLayout(shape.slot, shape.lanes)),
                "last": In(1),
                "refill": In(refill_layout(shape)),
                "bank": In(1),
                "swap": In(1),
                "keys": Out(data.ArrayLayout(self.key, shape.lanes)),
                "tag": Out(tag_layout(shape)),
                "last_row": Out(row_width(shape)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.stored = stored_rows = Memory(shape=self.keys.shape(), depth=2 << len(self.row), init=[])
        write, read = stored_rows.write_port(), stored_rows.read_port()
        fresh, lane = Signal(self.slots.shape(), reset_less=True), Signal.like(self.refill.lane)
        now = self._now(m)
        keys = Signal(self.keys.shape())
        m.d.comb += [
            read.addr.eq(Cat(self.refill.row, self.bank)),
            read.en.eq(self.refill.valid),
            write.addr.eq(Cat(now.row, now.bank)),
            write.data.eq(keys),
            write.en.eq(now.valid),
        ]
        m.d.sync += [fresh.eq(self.slots), lane.eq(self.refill.lane)]
        for i, key in enumerate(keys):
            stored = read.data[i]
            taken = (lane == i) << now.tree
            m.d.comb += [
                key.word.eq(Mux(now.refill, stored.word, fresh[i].word)),
                key.valid.eq(Mux(now.refill, stored.valid & ~taken, fresh[i].valid.replicate(len(key.valid)))),
            ]
        after = Signal(keys.shape(), reset_less=True)
        m.d.sync += [after.eq(keys), self.tag.eq(now)]
        m.d.comb += self.keys.eq(after)
        return m

    def _now(self, m: Module) -> Any:
        """The tag of the keys that are written now; and the last row of either vector."""
        refill = self.refill
        now = Signal.like(self.tag, name="now")
        ends = Signal.like(self.row)  # last row of the vector that loads
        m.d.sync += [
            now.valid.eq(self.write | refill.valid),
            now.refill.eq(refill.valid),
            now.tree.eq(refill.tree),
            now.last.eq(self.last),
            now.bank.eq(Mux(refill.valid | self.swap, self.bank, ~self.bank)),
            now.row.eq(Mux(refill.valid, refill.row, self.row)),
        ]
        with m.If(self.last):
            m.d.sync += ends.eq(self.row)
        with m.If(self.swap):
            m.d.sync += self.last_row.eq(ends)
        return now


class Roots(wiring.Component):
    """The winners of all rows: of the vector that is exchanged next, and of the one whose winners are taken.

    Members
    -------
    top : In(item of the highest level); bank, swap, take, winners, ready : as of :class:`Selector` and :class:`Rows`;
    refill : Out, a row to be read again, not in two cycles in a row.
    """

    kind = "roots"

    def __init__(self, shape: Shape):
        self.shape = shape
        top = item_layout(shape, shape.depth)
        trees = len(shape.rules)
        members = {"top": In(top), "bank": In(1), "swap": In(1), "take": In(trees), "ready": Out(1)}
        winners = data.ArrayLayout(shape.winner(shape.depth), trees)
        super().__init__(members | {"winners": Out(winners), "refill": Out(refill_layout(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        tag = self.top.tag
        kind = self.top.winners.shape()
        best, following = Signal(kind, reset_less=True), Signal(kind, reset_less=True)
        offered = Signal(len(self.take))
        refilled = named(m, tag.valid & tag.refill & (tag.bank == self.bank), "refilled")
        with m.If(tag.valid & ~tag.refill & tag.last):
            m.d.sync += [following.eq(self.top.winners), self.ready.eq(1)]
        with m.If(self.swap):
            m.d.sync += [best.eq(following), offered.eq(-1), self.ready.eq(0)]
        with m.Else():
            m.d.sync += offered.eq((offered & ~self.take) | (refilled << tag.tree))
            with m.If(refilled):
                m.d.sync += best.eq(self.top.winners)
        for t, winner in enumerate(self.winners):
            m.d.comb += [winner.eq(best[t]), winner.valid.eq(best[t].valid & offered[t])]
        self._refill(m)
        return m

    def _refill(self, m: Module) -> None:
        """Taken winners wait for their turn; those of a vector that is done are forgotten."""
        waiting, gap = Signal(len(self.take)), Signal()
        places = [Signal(self.shape.depth, name=f"place_{t}", reset_less=True) for t in range(len(self.take))]
        tree = ~waiting[0] if len(waiting) == 2 else C(0, 1)
        place = Mux(tree, places[-1], places[0])
        m.d.comb += [  # one that is taken in cycle t is read in t + 1, a second one in t + 3
            self.refill.valid.eq(waiting.any() & ~gap & ~self.swap),
            self.refill.tree.eq(tree),
            Cat(self.refill.lane, self.refill.row).eq(place),
        ]
        m.d.sync += gap.eq(self.refill.valid)
        done = self.refill.valid << tree
        m.d.sync += waiting.eq(Mux(self.swap, 0, (waiting & ~done) | self.take))
        for t, held in enumerate(places):
            with m.If(self.take[t]):
                m.d.sync += held.eq(self.winners[t].index)


class MemoryTree(Selector):
    """Row memory, lanes, levels, roots; a tree's next winner comes when the row has been through them again.

    A bank holds the vector whose winners are taken, the other one the vector that loads. A refill takes the place of a
    beat.
    """

    kind = "memory_tree"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        bank = Signal()
        m.d.sync += bank.eq(bank ^ self.swap)
        m.submodules.rows = rows = Shared(Rows, shape)
        m.submodules.lanes = lanes = Shared(Lanes, shape)
        m.submodules.roots = roots = Shared(Roots, shape)
        m.d.comb += [
            *(getattr(rows, name).eq(getattr(self, name)) for name in ("write", "row", "slots", "last")),
            *(block.bank.eq(bank) for block in (rows, roots)),
            *(block.swap.eq(self.swap) for block in (rows, roots)),
            rows.refill.eq(roots.refill),
            lanes.keys.eq(rows.keys),
            lanes.tag.eq(rows.tag),
            roots.top.eq(self._levels(m, lanes.o, rows.last_row)),
            roots.take.eq(self.take),
            self.hold.eq(roots.refill.valid),
            self.ready.eq(roots.ready),
            self.winners.eq(roots.winners),
        ]
        return m

    def _levels(self, m: Module, item: Any, last_row: Value) -> Any:
        for level in range(self.shape.lane_bits + 1, self.shape.depth + 1):
            m.submodules[f"node_{level}"] = block = Shared(RowNode, self.shape, level)
            m.d.comb += [block.i.eq(item), block.last_row.eq(last_row)]
            item = block.o
        return item
