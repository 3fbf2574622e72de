"""The exponential of a negative number, in fixed point."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.moe.softmax import EXPONENTIAL, FRACTION, GUARD, LOG2E, SEGMENTS, TABLE, VALUE, WHOLE
from hdl.arith.bits import lookup, named
from hdl.arith.delay import delay
from hdl.arith.floats import unpack

REST = FRACTION - SEGMENTS
"""Bits of a fraction within a segment."""


class Exponential(wiring.Component):
    """``exp(-d)`` as :func:`golden.moe.softmax.exponentials` defines it; the sign of d is not looked at.

    Latency     ``latency`` = 6 cycles: fixed point, to base 2, table, interpolation (two), shift. One per cycle.

    Members
    -------
    d : In(32), FP32; o : Out, with ``VALUE + GUARD`` fraction bits.
    """

    kind = "exponential"
    latency = 6

    def __init__(self) -> None:
        super().__init__({"d": In(32), "o": Out(EXPONENTIAL)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        power = delay(m, self._steps(m) * C(LOG2E), 1, "power")[FRACTION:]
        segment, rest = power[REST:FRACTION], delay(m, power[:REST], 1, "rest")
        whole = delay(m, power[FRACTION:], 3, "whole")
        slope = int((TABLE[:-1] - TABLE[1:]).max()).bit_length()
        entries = (int(a) << slope | int(a - b) for a, b in pairwise(TABLE))
        entry = delay(m, lookup(entries, VALUE + 1 + slope, segment), 1, "entry")
        below = delay(m, entry[:slope] * rest, 1, "below")[REST:]
        fraction = delay(m, (delay(m, entry[slope:], 1, "above") - below)[: VALUE + 1], 1, "fraction")
        m.d.comb += self.o.eq(delay(m, Cat(C(0, GUARD), fraction) >> whole, 1, "shifted"))
        return m

    def _steps(self, m: Module) -> Any:
        """Of ``2**-FRACTION``: what is 32 or more, or not a number, is the largest."""
        x = unpack(self.d, "fp32")
        top = 127 + WHOLE - 1  # the exponent whose hidden bit is the highest
        down = Signal(range(32))
        with m.If(x.exponent < top - 31):
            m.d.comb += down.eq(31)
        with m.Else():
            m.d.comb += down.eq(top - x.exponent)
        value = named(m, Cat(C(0, FRACTION + WHOLE - 24), x.significand) >> down, "value")
        everything = C(-1, len(value)).as_unsigned()
        return delay(m, Mux(x.exponent > top, everything, value), 1, "steps")
