"""Variant ``radix``: a plane of bits per cycle decides which keys are among the k best; they come out by index."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import count_ones, named
from hdl.orizuru.first import First
from hdl.orizuru.selector import Selector
from hdl.orizuru.shape import LARGER, NOT_LARGER, Shape
from hdl.shared import Shared


class Leaf(wiring.Component):
    """A key, double-buffered, and per tree whether it is selected, or as good as all that is known of the k-th one
    (``tied``).

    Members
    -------
    write : In(1), with slot : In(key); swap : In(1), the key that was written is the one to look at; plane : In(1), its
    next bit is looked at, the highest first; ones_stay : In(1 per tree), of the tied ones those with a one stay tied,
    else they are selected and the others are out; take : In(1 per tree), it is gone; key : Out(word), ones : Out(1 per
    tree), tied with a one; tied, selected : Out(1 per tree).
    """

    kind = "leaf"

    def __init__(self, shape: Shape):
        self.shape = shape
        trees = len(shape.rules)
        inputs = {"write": In(1), "slot": In(shape.slot), "swap": In(1), "plane": In(1)}
        inputs |= {"ones_stay": In(trees), "take": In(trees)}
        super().__init__(inputs | {"key": Out(shape.word), **{n: Out(trees) for n in ("ones", "tied", "selected")}})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        loaded, there = Signal(self.shape.word, reset_less=True), Signal()
        word = Signal(self.shape.word, reset_less=True)
        low, key = word[: -self.shape.key], word[-self.shape.key :]
        bits = Cat(key[-1] if rule == LARGER else ~key[-1] for rule in self.shape.rules)
        with m.If(self.write):
            m.d.sync += [loaded.eq(self.slot.word), there.eq(self.slot.valid)]
        with m.Elif(self.swap):
            m.d.sync += there.eq(0)
        with m.If(self.swap):
            m.d.sync += [word.eq(loaded), self.tied.eq(there.replicate(len(self.take))), self.selected.eq(0)]
        with m.Elif(self.plane):  # after all planes the key stands as it did
            m.d.sync += [
                word.eq(Cat(low, key[-1], key[:-1])),
                self.tied.eq(self.tied & ~(bits ^ self.ones_stay)),
                self.selected.eq(self.selected | (self.ones & ~self.ones_stay)),
            ]
        with m.Else():
            m.d.sync += [self.tied.eq(self.tied & ~self.take), self.selected.eq(self.selected & ~self.take)]
        m.d.comb += [self.ones.eq(self.tied & bits), self.key.eq(word)]
        return m


class Radix(Selector):
    """Leaves, two counts of ones, and the first of the selected.

    A tree wants k keys. If k of the tied ones or more have a one in this plane, only these stay tied; else they are
    selected, and k less as many are wanted of the others. After the last plane the tied ones are equal, and the first
    of them come out with the selected.
    """

    kind = "radix"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, shape = self.spec, self.shape
        planes = Signal(range(shape.key + 1))  # left to look at
        looking = named(m, planes.any(), "looking")
        leaves = [self._leaf(m, i, looking) for i in range(spec.n)]
        m.d.comb += self.ready.eq(1)
        m.d.sync += planes.eq(Mux(self.swap, shape.key, planes - looking))
        for t, rule in enumerate(shape.rules):
            wanted = self._wanted(m, t, leaves, looking)
            self._winner(m, t, rule, leaves, wanted, looking)
        return m

    def _leaf(self, m: Module, i: int, looking: Value) -> Any:
        row, lane = divmod(i, self.spec.lanes)
        m.submodules[f"leaf_{i}"] = leaf = Shared(Leaf, self.shape)
        m.d.comb += [
            leaf.write.eq(self.write & (self.row == row)),
            leaf.slot.eq(self.slots[lane]),
            leaf.swap.eq(self.swap),
            leaf.plane.eq(looking),
        ]
        return leaf

    def _wanted(self, m: Module, t: int, leaves: list[Any], looking: Value) -> Value:
        """How many of the tied keys are wanted still."""
        wanted = Signal(range(self.spec.k_max + 1), name=f"wanted_{t}")
        count = named(m, count_ones(Cat(leaf.ones[t] for leaf in leaves)), f"ones_{t}")
        stay = named(m, count >= wanted, f"ones_stay_{t}")
        with m.If(self.swap):
            m.d.sync += wanted.eq((self.results + (len(self.take) - 1 - t)) >> (len(self.take) - 1))
        with m.Elif(looking & ~stay):
            m.d.sync += wanted.eq(wanted - count)
        m.d.comb += [leaf.ones_stay[t].eq(stay) for leaf in leaves]
        return wanted

    def _winner(self, m: Module, t: int, rule: str, leaves: list[Any], wanted: Any, looking: Value) -> None:
        spec, shape = self.spec, self.shape
        places = spec.rows << shape.lane_bits  # some of them without a leaf
        m.submodules[f"first_{t}"] = first = Shared(First, shape.word + 1, places, rule == NOT_LARGER)
        some = named(m, wanted.any(), f"some_{t}")
        for i, leaf in enumerate(leaves):
            row, lane = divmod(i, spec.lanes)
            place = lane | row << shape.lane_bits
            m.d.comb += [
                first.there[place].eq(leaf.selected[t] | (leaf.tied[t] & some)),
                first.keys[place].eq(Cat(leaf.key, leaf.tied[t])),
                leaf.take[t].eq(first.one[place]),
            ]
        m.d.comb += first.take.eq(self.take[t])
        with m.If(~self.swap & ~looking & self.take[t] & first.winner[-1]):
            m.d.sync += wanted.eq(wanted - 1)
        winner = self.winners[t]
        m.d.comb += [
            winner.word.eq(first.winner[:-1]),
            winner.valid.eq(first.valid & ~looking),
            winner.index.eq(first.place),
        ]
