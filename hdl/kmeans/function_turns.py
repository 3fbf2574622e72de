"""Which of two tables a vector has, and where the next one is loaded."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans.function import KMeansFunctionSpec
from hdl.arith.bits import named
from hdl.stream.signature import payload_layout


class Turns(wiring.Component):
    """Gives each vector its turn, with the table of the vector before or the next one.

    Throughput  the turn of the next vector is in the cycle of the last beat of the one before, if its cfg is there and
                its table is complete: then there is no gap between them.

    Members
    -------
    cfg : In(stream), one per vector; valid, ready : In, Out, of a table's entry; ended : In(1), a vector's last beat;
    hold : In(1), the table that is not in use is still read; open : Out(1), the vector may come; bank : Out(1), its
    table; write, address : Out, where an entry goes.
    """

    kind = "turns"

    def __init__(self, spec: KMeansFunctionSpec):
        self.spec = spec
        super().__init__(
            {
                "cfg": In(stream.Signature(payload_layout(spec.port("cfg")))),
                "valid": In(1),
                "ready": Out(1),
                "ended": In(1),
                "hold": In(1),
                "open": Out(1),
                "bank": Out(1),
                "write": Out(1),
                "address": Out(spec.bits + 1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        place = Signal(self.spec.bits)
        complete = Signal()
        some = Signal()  # a vector has had its turn
        other = named(m, self.cfg.payload.data[0] | ~some, "other")
        turn = named(m, (~self.open | self.ended) & self.cfg.valid & (~other | complete), "turn")
        m.d.comb += [
            self.cfg.ready.eq(turn),
            self.ready.eq(~complete & ~self.hold),
            self.write.eq(self.valid & self.ready),
            self.address.eq(Cat(place, ~self.bank)),
        ]
        with m.If(self.write):
            m.d.sync += [place.eq(place + 1), complete.eq(place.all())]
        with m.If(turn):
            m.d.sync += [self.open.eq(1), some.eq(1), self.bank.eq(self.bank ^ other)]
            with m.If(other):
                m.d.sync += complete.eq(0)
        with m.Elif(self.ended):
            m.d.sync += self.open.eq(0)
        return m
