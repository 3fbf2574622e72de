"""A quotient, bit by bit."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import named


class Divide(wiring.Component):
    """``floor(a * 2**fraction / b)`` for ``a <= b``, by restoring division; of b = 0 all ones.

    Latency     ``fraction + 2`` cycles from ``begin`` to ``o``, which stays until the next one's first bit; ``ready``
                then, and before the first: a quotient takes so many cycles.

    Members
    -------
    begin, a : In, only while ``ready`` : Out(1); b : In, steady from the cycle after; o : Out(fraction + 1 bits).
    """

    kind = "divide"

    def __init__(self, width: int, fraction: int):
        self.width, self.fraction = width, fraction
        super().__init__({"begin": In(1), "a": In(width), "b": In(width), "ready": Out(1), "o": Out(fraction + 1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        left = Signal(range(self.fraction + 2))
        rest = Signal(self.width + 1, reset_less=True)
        enough = named(m, rest >= self.b, "enough")
        remains = named(m, (rest - Mux(enough, self.b, 0))[: self.width], "remains")
        m.d.comb += self.ready.eq(~left.any())
        with m.If(self.begin):
            m.d.sync += [left.eq(self.fraction + 1), rest.eq(self.a)]
        with m.Elif(~self.ready):
            m.d.sync += [
                left.eq(left - 1),
                rest.eq(remains << 1),
                self.o.eq(Cat(enough, self.o)),
            ]
        return m
