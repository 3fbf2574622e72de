"""Skew: what turns a step, whose operands arrive together, into the wave that a systolic array computes.

The other end needs no triangle of registers: the dequantiser lanes run skewed as well (golden/mixpe/schedule.py), and
the result queues, which have to be there to decouple the output, put the words back into step.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Skew(wiring.Component):
    """Lane k of ``o`` is lane k of ``i``, k cycles later; lanes start at 0.

    ::

        i  lane 0 ---------------->  o        register stage s holds the lanes s, s+1, ... of the step s cycles ago
           lane 1 --[]------------>
           lane 2 --[]--[]-------->

    Members
    -------
    i, o : ``lanes`` words of ``width`` bits, lane 0 in the low bits.
    """

    kind = "skew"

    def __init__(self, lanes: int, width: int):
        self.lanes, self.width = lanes, width
        super().__init__({"i": In(lanes * width), "o": Out(lanes * width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        stage = self.i
        lanes = []
        for lane in range(self.lanes):
            lanes.append(stage[: self.width])
            if lane + 1 < self.lanes:
                held = Signal((self.lanes - lane - 1) * self.width, name=f"stage_{lane + 1}")
                m.d.sync += held.eq(stage[self.width :])
                stage = held
        m.d.comb += self.o.eq(Cat(lanes))
        return m
