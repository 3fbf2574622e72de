"""Probabilities of a token's scores."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.moe.gate import EXPONENTIAL, GateSpec
from golden.moe.softmax import EXPONENTIAL as BITS
from golden.moe.softmax import QUOTIENT, sum_bits
from hdl.arith.bits import index_bits, named
from hdl.arith.delay import delay
from hdl.arith.floats import Add, Round
from hdl.moe.divide import Divide
from hdl.moe.exponential import Exponential
from hdl.moe.keys import sortable
from hdl.shared import Shared


class Softmax(wiring.Component):
    """Sees the scores twice: for their maximum, and for their exponentials and the sum; then divides them in turn.

    Latency     ``EXPONENTIAL + 1 + n * PROBABILITY + ROUND`` cycles from the last score, seen the second time, to the
                last one's probability (:mod:`golden.moe.gate`).

    Members
    -------
    valid, expert, score, last : In; again : Out(1), in the cycle of the last one: once more; o_valid, o_expert,
    o_score, o_last : Out; strange : Out(1), a score is not finite.
    """

    kind = "softmax"

    def __init__(self, spec: GateSpec):
        self.spec = spec
        fields = {"valid": 1, "expert": index_bits(spec.experts), "score": 32, "last": 1}
        outs = {f"o_{name}": Out(width) for name, width in fields.items()}
        super().__init__(
            {name: In(width) for name, width in fields.items()} | outs | {"again": Out(1), "strange": Out(1)}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        second = Signal()
        ends = named(m, self.valid & self.last, "ends")
        m.d.comb += [
            self.again.eq(ends & ~second),
            self.strange.eq(self.valid & self.score[23:31].all()),
        ]
        m.d.sync += second.eq(second ^ ends)
        top = self._top(m, second)
        m.submodules.difference = difference = Shared(Add)
        m.submodules.exponential = exponential = Shared(Exponential)
        m.d.comb += [
            difference.a.eq(top),
            difference.b.eq(Cat(self.score[:31], ~self.score[31])),
            exponential.d.eq(difference.o),
        ]
        valid = delay(m, self.valid & second, EXPONENTIAL, "valid_held", init=0)
        held = delay(m, Cat(self.last, self.expert), EXPONENTIAL, "held")
        self._divide(m, valid, held[0], held[1:], exponential.o)
        return m

    def _top(self, m: Module, second: Value) -> Signal:
        """The largest score."""
        top = Signal(32, reset_less=True)
        some = Signal()
        with m.If(self.valid & ~second):
            m.d.sync += some.eq(~self.last)
            with m.If(~some | (sortable(self.score) > sortable(top))):
                m.d.sync += top.eq(self.score)
        return top

    def _divide(self, m: Module, valid: Value, last: Value, expert: Value, e: Value) -> None:
        """Exponentials are kept and summed up; when all are there they are divided one by one."""
        width = sum_bits(self.spec.experts)
        m.submodules.kept = kept = Memory(shape=BITS, depth=1 << len(expert), init=[])
        write, read = kept.write_port(), kept.read_port(domain="comb")
        m.submodules.divide = divide = Shared(Divide, width, QUOTIENT)
        total = Signal(width, reset_less=True)
        busy, some = Signal(), Signal()
        at, final = Signal.like(expert, reset_less=True), Signal.like(expert, reset_less=True)
        begin = named(m, busy & divide.ready, "begin")
        m.d.comb += [
            write.en.eq(valid),
            write.addr.eq(expert),
            write.data.eq(e),
            read.addr.eq(at),
            divide.begin.eq(begin),
            divide.a.eq(read.data),
            divide.b.eq(total),
        ]
        with m.If(valid):
            m.d.sync += [total.eq(Mux(some, total, 0) + e), some.eq(~last), final.eq(expert), at.eq(0)]
        with m.If(valid & last):
            m.d.sync += busy.eq(1)
        with m.Elif(begin):
            m.d.sync += [busy.eq(at != final), at.eq(at + 1)]
        self._round(m, divide, named(m, begin, "begins"), Cat(at == final, at))

    def _round(self, m: Module, divide: Any, begin: Value, tag: Value) -> None:
        """To FP32, with the expert that the quotient is of."""
        m.submodules.round = rounded = Shared(Round, QUOTIENT + 1, -QUOTIENT, -QUOTIENT)
        waits = Signal()  # a quotient is under way
        of = Signal(len(tag), reset_less=True)
        given = named(m, waits & divide.ready, "given")
        with m.If(begin):
            m.d.sync += [waits.eq(1), of.eq(tag)]
        with m.Elif(given):
            m.d.sync += waits.eq(0)
        m.d.comb += [
            rounded.magnitude.eq(divide.o),
            rounded.exponent.eq(-QUOTIENT),
            self.o_valid.eq(delay(m, given, latency.ROUND, "given_held", init=0)),
            Cat(self.o_last, self.o_expert).eq(delay(m, of, latency.ROUND, "of_held")),
            self.o_score.eq(rounded.o),
        ]
