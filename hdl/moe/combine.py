"""The sum over a token's experts."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.moe.expert import ExpertFFNSpec
from hdl.arith.bits import index_bits, named
from hdl.arith.delay import delay
from hdl.arith.floats import Add, Multiply
from hdl.shared import Shared


class Combine(wiring.Component):
    """``y[token] = y[token] + weight * part``, or ``part`` alone of the first expert; then all of them, in order.

    A sum is stored ``spec.combining - 1`` cycles after its part came; before it is read again more than that pass.

    Members
    -------
    valid, first : In(1); row, weight, parts : In, of ``words`` results: where they belong; send : In(1), the batch is
    through; tokens : In, of it; o : Out(stream of results, with tlast).
    """

    kind = "combine"

    def __init__(self, spec: ExpertFFNSpec):
        self.spec = spec
        row = index_bits(spec.tokens * spec.d // spec.words)
        beat = data.StructLayout({"data": 32 * spec.words, "last": 1})
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "row": In(row),
                "weight": In(32),
                "parts": In(32 * spec.words),
                "send": In(1),
                "tokens": In(spec.tokens.bit_length()),
                "o": Out(stream.Signature(beat)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.sums = memory = Memory(shape=len(self.parts), depth=spec.tokens * spec.d // spec.words, init=[])
        write, read = memory.write_port(), memory.read_port()
        sending, send_row, read_on = self._send(m, read.data)
        # the sum so far stands beside its part
        ahead = latency.MULTIPLY * spec.scaled
        parts = self._weighted(m) if spec.scaled else self.parts
        parts = delay(m, parts, 1, "parts_then")
        read_row = delay(m, self.row, ahead, "row_ahead")
        m.d.comb += [
            read.addr.eq(Mux(sending, send_row, read_row)),
            read.en.eq(read_on),
            write.addr.eq(delay(m, read_row, 1 + latency.ADD, "row_then")),
            write.en.eq(delay(m, self.valid, ahead + 1 + latency.ADD, "valid_then", init=0)),
        ]
        first = delay(m, self.first, ahead + 1 + latency.ADD, "first_then")
        for lane in range(spec.words):
            m.submodules[f"add_{lane}"] = add = Shared(Add)
            part = named(m, parts.word_select(lane, 32), f"part_{lane}")
            m.d.comb += [
                add.a.eq(read.data.word_select(lane, 32)),
                add.b.eq(part),
                write.data.word_select(lane, 32).eq(Mux(first, delay(m, part, latency.ADD, f"alone_{lane}"), add.o)),
            ]
        return m

    def _weighted(self, m: Module) -> Any:
        products = []
        for lane in range(self.spec.words):
            m.submodules[f"multiply_{lane}"] = multiply = Shared(Multiply, "fp32")
            m.d.comb += [multiply.a.eq(self.weight), multiply.b.eq(self.parts.word_select(lane, 32))]
            products.append(multiply.o)
        return Cat(products)

    def _send(self, m: Module, row: Any) -> tuple[Signal, Signal, Any]:
        """Row after row, from the cycle after ``send``: whether they leave, which, and whether the memory is read."""
        sending = Signal()
        send_row = Signal.like(self.row)
        there = Signal()
        last = Signal()
        go = named(m, ~there | self.o.ready, "go")
        ends = named(m, send_row + 1 == self.tokens * (self.spec.d // self.spec.words), "ends")
        take = named(m, sending & go, "take")
        m.d.comb += [self.o.valid.eq(there), self.o.payload.data.eq(row), self.o.payload.last.eq(last)]
        with m.If(go):
            m.d.sync += [there.eq(sending), last.eq(ends)]
        with m.If(take):
            m.d.sync += [send_row.eq(Mux(ends, 0, send_row + 1)), sending.eq(~ends)]
        with m.If(self.send):
            m.d.sync += sending.eq(1)
        return sending, send_row, take | ~(sending | there)
