"""Scores one by one out of rows."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.gate import GateSpec
from hdl.arith.bits import choose, index_bits, named
from hdl.arith.delay import delay


class Reader(wiring.Component):
    """Reads a token's rows from a memory and gives their scores, one per cycle.

    Latency     from the cycle of ``begin`` two cycles to the first score.

    Members
    -------
    begin : In(1); rows : In, number of the last row; row : Out, go : Out(1), that row is read now; values : In(it, in
    the next cycle); valid, expert, score, last : Out.
    """

    kind = "reader"

    def __init__(self, spec: GateSpec):
        self.spec = spec
        row = index_bits(spec.rows)
        super().__init__(
            {
                "begin": In(1),
                "rows": In(row),
                "row": Out(row),
                "go": Out(1),
                "values": In(data.ArrayLayout(32, spec.lanes)),
                "valid": Out(1),
                "expert": Out(index_bits(spec.experts)),
                "score": Out(32),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        busy = Signal()
        lane = Signal(range(max(2, spec.lanes)), reset_less=True)
        expert = Signal.like(self.expert, reset_less=True)
        ends_row = named(m, lane == spec.lanes - 1, "ends_row")
        last = named(m, (ends_row & (self.row == self.rows)) | (expert == spec.experts - 1), "ends")
        m.d.comb += self.go.eq(busy)
        with m.If(self.begin):
            m.d.sync += [busy.eq(1), lane.eq(0), expert.eq(0), self.row.eq(0)]
        with m.Elif(busy):
            m.d.sync += [busy.eq(~last), expert.eq(expert + 1), self.row.eq(self.row + ends_row)]
            m.d.sync += lane.eq(Mux(ends_row, 0, lane + 1))
        read = delay(m, busy, 1, "read", init=0)
        held = delay(m, Cat(last, expert, lane), 1, "held")
        m.d.comb += [
            self.valid.eq(read),
            Cat(self.last, self.expert).eq(held),
            self.score.eq(choose(self.values.as_value(), 32, held[1 + len(expert) :])),
        ]
        return m
