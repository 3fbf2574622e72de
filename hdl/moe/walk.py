"""One expert after another."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import index_bits


class Walk(wiring.Component):
    """Goes through the experts of a mask, ascending.

    Throughput  an expert per ``go``. ``free`` in the cycle of the last one: then the next walk may begin without a gap.

    Members
    -------
    begin, mask : In, a walk begins in the next cycle; busy : Out(1); some : Out(1), there is an expert (only the walk
    through an empty mask, one cycle of ``go``, has none), then expert : Out, else 0; last : Out(1), no more follow;
    go : In(1), on to the next, only while ``busy``; free : Out(1), a walk may begin.
    """

    kind = "walk"

    def __init__(self, experts: int):
        self.experts = experts
        super().__init__(
            {
                "begin": In(1),
                "mask": In(experts),
                "go": In(1),
                "busy": Out(1),
                "some": Out(1),
                "expert": Out(index_bits(experts)),
                "last": Out(1),
                "free": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        left = Signal(self.experts, reset_less=True)
        rest = Signal(self.experts)
        place = 0
        for e in reversed(range(self.experts)):
            place = Mux(left[e], e, place)
        m.d.comb += [
            rest.eq(left & (left - 1)),  # without the lowest
            self.some.eq(left.any()),
            self.expert.eq(place),
            self.last.eq(~rest.any()),
            self.free.eq(~self.busy | (self.go & self.last)),
        ]
        with m.If(self.begin):
            m.d.sync += [self.busy.eq(1), left.eq(self.mask)]
        with m.Elif(self.go):
            m.d.sync += [self.busy.eq(~self.last), left.eq(rest)]
        return m
