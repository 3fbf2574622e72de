"""What a batch's beats are: entries, and what is wrong with them."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.moe.dispatch import DispatchSpec
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import payload_layout


class Collect(wiring.Component):
    """Numbers tokens and slots.

    Members
    -------
    accept, i : In, a beat; chosen : Out(1), it is an entry, with token and slot : Out; ended : Out(1), it ends the
    batch; errors : Out(4), bits 0 to 3 of the unit's status.
    """

    kind = "collect"

    def __init__(self, spec: DispatchSpec):
        self.spec = spec
        super().__init__(
            {
                "accept": In(1),
                "i": In(payload_layout(spec.port("i"))),
                "chosen": Out(1),
                "token": Out(index_bits(spec.tokens)),
                "slot": Out(index_bits(spec.slots)),
                "ended": Out(1),
                "errors": Out(4),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, beat, last = self.spec, self.i.data[0], self.i.last
        token = Signal(range(spec.tokens + 1))  # both stay where there are no more
        slot = Signal(range(spec.slots + 1))
        seen = Signal(spec.experts)
        names = named(m, self.accept & beat.valid & ~beat.pruned, "names")
        m.d.comb += [
            self.token.eq(token),
            self.slot.eq(slot),
            self.ended.eq(self.accept & last & beat.final),
            self.errors[0].eq(self.accept & (token == spec.tokens)),
            self.errors[1].eq(self.accept & (slot == spec.slots)),
            self.errors[2].eq(names & (beat.expert >= spec.experts)),
            self.errors[3].eq(names & seen.bit_select(beat.expert, 1)),
            self.chosen.eq(names & ~self.errors.any()),
        ]
        with m.If(self.accept):
            m.d.sync += [
                slot.eq(Mux(last, 0, slot + ~self.errors[1])),
                seen.eq(Mux(last, 0, seen | self._one(m))),
            ]
            with m.If(last):
                m.d.sync += token.eq(Mux(beat.final, 0, token + ~self.errors[0]))
        return m

    def _one(self, m: Module) -> Signal:
        """The expert of an entry, as a mask."""
        return named(m, Cat(self.chosen & (self.i.data[0].expert == e) for e in range(self.spec.experts)), "one")
