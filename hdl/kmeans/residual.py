"""What an outlier's centroid leaves over."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.lutgemm import CENTROID_BITS
from golden.kmeans.quantizer import BOUNDARY_BITS
from hdl.arith.bits import choose, count_ones, shift_left
from hdl.arith.delay import delay
from hdl.kmeans.cluster import Align
from hdl.kmeans.scale import Magnitude
from hdl.shared import Shared


class Residuals(wiring.Component):
    """``x - 2**e * C[i]``, exactly, in steps of the smallest FP16 number.

    Latency     3 cycles: align, compare with all boundaries, subtract.
    Throughput  one per cycle; a chain of ``ready`` through all stages.

    Parameters
    ----------
    bits : of an index; marks : bits that go with each value.

    Members
    -------
    i : In(stream of x and marks); above : In(6), ``e - GRID``; boundaries, centroids : In, steady while a value is
    under way; o : Out(stream of residual and marks).
    """

    kind = "residuals"

    def __init__(self, bits: int, marks: int):
        self.bits = bits
        self.marks = marks
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"x": 16, "marks": marks}))),
                "above": In(6),
                "boundaries": In(BOUNDARY_BITS * ((1 << bits) - 1)),
                "centroids": In(CENTROID_BITS << bits),
                "o": Out(stream.Signature(data.StructLayout({"r": signed(token.RESIDUAL_BITS), "marks": marks}))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        there = [Signal(name=f"there_{stage}") for stage in range(3)]
        goes = [Signal(name=f"goes_{stage}") for stage in range(3)]
        m.d.comb += [
            *(go.eq(~valid | after) for go, valid, after in zip(goes, there, [*goes[1:], self.o.ready], strict=True)),
            self.i.ready.eq(goes[0]),
            self.o.valid.eq(there[-1]),
        ]
        m.submodules.align = align = Shared(Align)
        m.d.comb += [align.x.eq(self.i.payload.x), align.above.eq(self.above)]
        aligned, found, done = goes
        marks = self.i.payload.marks
        for go, name in zip(goes, ("marks", "marks_then", "marks_last"), strict=True):
            marks = delay(m, marks, 1, name, go=go)
        x_now = delay(m, self.i.payload.x, 1, "x_now", go=aligned)
        value = delay(m, align.o, 1, "value", go=aligned)
        x = delay(m, x_now, 1, "x_then", go=found)
        centroid = delay(m, self._centroid(value), 1, "centroid", go=found)
        r = delay(m, self._residual(m, x, centroid), 1, "r", go=done)
        m.d.comb += [self.o.payload.r.eq(r), self.o.payload.marks.eq(marks)]
        for go, valid, before in zip(goes, there, [self.i.valid, *there], strict=False):
            with m.If(go):
                m.d.sync += valid.eq(before)
        return m

    def _centroid(self, value: Value) -> Value:
        """Of the index, which is the number of boundaries that are not above."""
        limits = [self.boundaries.word_select(i, BOUNDARY_BITS).as_signed() for i in range((1 << self.bits) - 1)]
        index = count_ones(Cat(value >= limit for limit in limits))
        return Value.cast(choose(self.centroids, CENTROID_BITS, index[: self.bits])).as_signed()

    def _residual(self, m: Module, x: Value, centroid: Value) -> Value:
        m.submodules.magnitude = magnitude = Shared(Magnitude)
        m.d.comb += magnitude.x.eq(x)
        exact = Mux(x[-1], -magnitude.o, magnitude.o)
        wide = Signal(signed(token.RESIDUAL_BITS))
        m.d.comb += wide.eq(centroid)
        return (exact - shift_left(m, wide.as_unsigned(), self.above, "scaled").as_signed())[
            : token.RESIDUAL_BITS
        ].as_signed()
