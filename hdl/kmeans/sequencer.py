"""Who is next in the index GEMM: rows of indices against rows of weights, group after group, token after token.

::

    row of indices  -->  fetched  -->  step  -->  codes  -->  units  --> ... -->  added, or handed on
                                   ^                              front cycles
                          beat of weights

All of it waits (``go``) when a group would be handed on while the sums of the one before are still in use.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans.lutgemm import LutGemmSpec
from hdl.arith.bits import index_bits, named
from hdl.arith.delay import delay


def clamped_n(m: Module, spec: LutGemmSpec, n: Value) -> Value:
    """The output channels that are calculated: ``n_max`` at most, and one at least."""
    return named(m, Mux(n > spec.n_max, spec.n_max, Mux(n.any(), n, 1)), "outputs")


class Sequencer(wiring.Component):
    """Control of the unit ``lutgemm``; :class:`golden.kmeans.timing.Pipeline` says what it does in every cycle.

    Members
    -------
    full, rows : In, of the memory of tokens; read, bank, row, done : Out, a row is read, and the token is done with;
    weights : In(1), a beat is there; step : Out(1), it meets the row that was read; cfg_valid, n, load : In, of the
    next token; begin : Out(1), it begins; table_full : In(1); swap : Out(1); go : Out(1); add : Out, one bit a line;
    hand_on : Out(1); reduce, first : Out, which row of sums is multiplied; ready : In(1), a result will find room;
    result : Out(1), the last row is multiplied; last : Out(1), of the token's last group.
    """

    kind = "sequencer"

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        row = index_bits(spec.rows)
        super().__init__(
            {
                "full": In(2),
                "rows": In(data.ArrayLayout(row, 2)),
                "read": Out(1),
                "bank": Out(1),
                "row": Out(row),
                "done": Out(1),
                "weights": In(1),
                "step": Out(1),
                "cfg_valid": In(1),
                "n": In(spec.n_width),
                "load": In(1),
                "begin": Out(1),
                "table_full": In(1),
                "swap": Out(1),
                "go": Out(1),
                "add": Out(spec.lines),
                "hand_on": Out(1),
                "reduce": Out(index_bits(spec.reduce)),
                "first": Out(1),
                "ready": In(1),
                "result": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        running, fetched = Signal(), Signal()
        left = Signal(spec.n_width)  # output channels, this group's included
        ends_group = named(m, self.row == self.rows[self.bank], "ends_group")
        ends = named(m, ends_group & (left <= spec.lines), "ends")
        lines = Cat(left > line for line in range(spec.lines))
        m.d.comb += [
            self.read.eq(running & (~fetched | self.step)),
            self.step.eq(fetched & self.weights & self.go),
            self.done.eq(self.read & ends),
        ]
        tags = Cat(ends_group, ends, lines)
        held = Signal.like(tags, reset_less=True)
        m.d.sync += fetched.eq(self.read | (fetched & ~self.step))
        with m.If(self.read):
            m.d.sync += [held.eq(tags), self.row.eq(Mux(ends_group, 0, self.row + 1))]
            with m.If(ends_group):
                m.d.sync += left.eq(left - spec.lines)
        with m.If(self.done):
            m.d.sync += [running.eq(0), self.bank.eq(~self.bank)]
        empty = self._back(m, held)
        idle = ~running & ~fetched & empty
        m.d.comb += [
            self.begin.eq(
                (~running | self.done)
                & self.full.bit_select(self.bank ^ self.done, 1)
                & self.cfg_valid
                & (~self.load | (idle & self.table_full))
            ),
            self.swap.eq(self.begin & self.load),
        ]
        with m.If(self.begin):
            m.d.sync += [running.eq(1), left.eq(clamped_n(m, spec, self.n))]
        return m

    def _back(self, m: Module, tags: Value) -> Value:
        """From a step to its group's result. Returns that the table may change."""
        spec, front = self.spec, self.spec.pipeline.front
        there = Signal(front)  # the oldest at the top
        with m.If(self.go):
            m.d.sync += there.eq(Cat(self.step, there)[:front])
        now = named(m, delay(m, tags, front, "tags", go=self.go), "now")
        ends_group, ends, lines = now[0], now[1], now[2:]
        busy = Signal()  # the sums that were handed on are in use
        free = named(m, ~busy | (self.reduce == spec.reduce - 1), "free")
        waiting = named(m, there[-1] & ends_group, "waiting")
        m.d.comb += [
            self.hand_on.eq(waiting & free & self.ready),
            self.go.eq(~waiting | self.hand_on),
            self.add.eq(Mux(there[-1], lines, 0)),
            self.first.eq(~self.reduce.any()),
            self.result.eq(busy & (self.reduce == spec.reduce - 1)),
        ]
        m.d.sync += self.reduce.eq(Mux(free, 0, self.reduce + 1))
        with m.If(free):
            m.d.sync += busy.eq(0)
        with m.If(self.hand_on):
            m.d.sync += [busy.eq(1), self.last.eq(ends)]
        return free & ~there.any()
