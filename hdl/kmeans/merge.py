"""Where the main path and the side path meet."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.linear import KMeansLinearSpec
from hdl.arith.bits import choose, index_bits, named, shift_left
from hdl.arith.delay import delay
from hdl.kmeans.scaling import sums_layout


class Merge(wiring.Component):
    """``main * 2**e + side``, exactly, in steps of the smallest FP16 number.

    Latency     2 cycles.
    Throughput  a beat per cycle, once the token's outliers are through.

    Members
    -------
    i : In(stream of main sums); exponent : In(stream of ``e - GRID``), one per token; full, none : In(1), the side sums
    are there, or are all 0; take, row : Out, a row of them is read; side : In, that row, from the next cycle on;
    next : Out(1), it is the token's last one; free : Out(1), it is no longer needed; o : Out(stream of sums).
    """

    kind = "merge"

    def __init__(self, spec: KMeansLinearSpec):
        self.spec = spec
        super().__init__(
            {
                "i": In(stream.Signature(sums_layout(spec.lines, spec.gemm.sum_width))),
                "exponent": In(stream.Signature(6)),
                "full": In(1),
                "none": In(1),
                "take": Out(1),
                "row": Out(index_bits(spec.columns)),
                "side": In(spec.lines * spec.macs * spec.side_width),
                "next": Out(1),
                "free": Out(1),
                "o": Out(stream.Signature(sums_layout(spec.lines, spec.sum_width))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, last = self.spec, self.i.payload.last
        there = Signal()  # a beat between the two cycles
        go = named(m, ~self.o.valid | self.o.ready, "go")
        part = Signal(index_bits(spec.macs))
        ends_row = part == spec.macs - 1
        m.d.comb += [
            self.take.eq(self.i.valid & self.exponent.valid & self.full & go),
            self.i.ready.eq(self.take),
            self.next.eq(self.take & last),
            self.exponent.ready.eq(self.next),
        ]
        with m.If(self.take):
            m.d.sync += part.eq(Mux(last | ends_row, 0, part + 1))
            m.d.sync += self.row.eq(Mux(last, 0, self.row + ends_row))
        # cycle 1: the main sums as steps, while the row is read
        width = spec.gemm.sum_width + token.EXPONENTS[1] - token.GRID
        scaled = []
        for lane in range(spec.lines):
            wide = Signal(signed(width), name=f"wide_{lane}")
            m.d.comb += wide.eq(self.i.payload.data[lane])
            scaled.append(shift_left(m, wide.as_unsigned(), self.exponent.payload, f"scaled_{lane}"))
        main = delay(m, Cat(scaled), 1, "main", go=go)
        none = delay(m, self.none, 1, "none", go=go)
        now = delay(m, part, 1, "now", go=go)
        ended = delay(m, last, 1, "ended", go=go)
        # cycle 2
        side = choose(self.side, spec.lines * spec.side_width, now)
        sums = []
        for lane in range(spec.lines):
            other = Mux(none, 0, Value.cast(side).word_select(lane, spec.side_width)).as_signed()
            total = Signal(signed(spec.sum_width), name=f"total_{lane}")
            m.d.comb += total.eq(main.word_select(lane, width).as_signed() + other)
            sums.append(total)
        m.d.comb += self.free.eq(there & ended & go)
        with m.If(go):
            m.d.sync += [there.eq(self.take), self.o.valid.eq(there)]
        m.d.comb += [
            Cat(self.o.payload.data).eq(delay(m, Cat(sums), 1, "total", go=go)),
            self.o.payload.last.eq(delay(m, ended, 1, "last_then", go=go)),
        ]
        return m
