"""Variant ``queue``: one shift-register priority queue per side."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.orizuru.ranked import Place, hand_out
from hdl.orizuru.selector import Selector
from hdl.orizuru.shape import Shape
from hdl.shared import Shared


class Queue(wiring.Component):
    """The ``size`` best keys so far, by rank: a new one goes before those that it beats, and they move down.

    Keys come by rising index, and so the rule for the right one of two says whether the new one is ahead.

    Throughput  a key per cycle.

    Members
    -------
    key : In(winner, valid: insert it); swap : In(1), the list is handed out and begins anew; take : In(1), the first of
    the list that was handed out is gone; winner : Out(the first).
    """

    kind = "queue"

    def __init__(self, shape: Shape, rule: str, size: int):
        self.shape = shape
        self.rule = rule
        self.size = size
        key = shape.winner(shape.depth)
        super().__init__({"key": In(key), "swap": In(1), "take": In(1), "winner": Out(key)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        places = [Place(m, self.key.shape(), f"place_{i}") for i in range(self.size)]
        above, ahead_of_above = self.key, C(0, 1)
        for i, place in enumerate(places):
            ahead = Signal(name=f"ahead_{i}")
            m.d.comb += ahead.eq(~place.valid | self.shape.right_wins(self.rule, place.key.word, self.key.word))
            with m.If(self.swap):
                m.d.sync += place.valid.eq(0)
            with m.Elif(self.key.valid & ahead_of_above):
                m.d.sync += place.eq(above)
            with m.Elif(self.key.valid & ahead):
                m.d.sync += place.eq(self.key)
            above, ahead_of_above = place.key, ahead
        hand_out(m, self.shape, places, self)
        return m


class Queues(Selector):
    """A beat's keys go into the queues one by one."""

    kind = "queues"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, width = self.spec.lanes, len(self.winners[0].as_value())
        keys = Signal(lanes * width, reset_less=True)
        left = Signal(range(lanes + 1))  # keys of the beat that are not in yet
        beat = Cat(key.as_value() for key in self.numbered(m))
        m.d.sync += left.eq(left - left.any())
        m.d.sync += keys.eq(keys >> width)
        with m.If(self.write):
            m.d.sync += [left.eq(lanes), keys.eq(beat)]
        m.d.comb += [self.hold.eq(left > 1 if lanes > 1 else 0), self.ready.eq(~left.any())]
        for t, rule in enumerate(self.shape.rules):
            m.submodules[f"queue_{t}"] = queue = Shared(Queue, self.shape, rule, self.spec.k_max)
            m.d.comb += [
                queue.key.eq(keys[:width]),
                queue.key.valid.eq(self.winners[0].shape()(keys[:width]).valid & left.any()),
                queue.swap.eq(self.swap),
                queue.take.eq(self.take[t]),
                self.winners[t].eq(queue.winner),
            ]
        return m
