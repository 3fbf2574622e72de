"""The processing element with streams: the top level of the unit ``mixpe_pe``."""

from typing import Any

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.mixpe.pe import PESpec
from hdl.arith.delay import delay
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import act_operand, weight_operand
from hdl.mixpe.pe import PE
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.signature import stream_signature


class PEStream(wiring.Component):
    """One :class:`PE` between an operand stream and a stream of sums; the datasheet is :class:`PESpec`.

    The element never stops. A beat that ends a group is accepted only while the queue of sums has a place for it, so
    backpressure reaches the operands and no sum is lost.
    """

    kind = "stream"

    def __init__(self, spec: PESpec):
        self.spec = spec
        port_i, port_o = spec.ports
        super().__init__({"i": In(stream_signature(port_i)), "o": Out(stream_signature(port_o))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        places = spec.latency + 1  # a sum every cycle keeps this many under way
        m.submodules.pe = pe = Shared(PE, spec)
        m.submodules.sums = sums = SyncFIFOBuffered(width=len(pe.sum), depth=places)
        m.submodules.credit = credit = Shared(Credit, places)

        beat = self.i.payload.data[0]
        x, w = act_operand(beat.x, spec.act_format), weight_operand(beat.w, spec.weight_format)
        taken = self.i.valid & self.i.ready
        ends = taken & self.i.payload.last
        m.d.comb += [
            self.i.ready.eq(credit.ready),
            credit.take.eq(ends),
            credit.give.eq(self.o.valid & self.o.ready),
            pe.x_i.eq(Mux(taken, x, 0)),
            pe.w_i.eq(product_core(spec).decode(w)),
            pe.last_i.eq(ends),
        ]
        # ends is the cycle in which pe.last_i is high; the sum stands in pe.sum stages + 1 cycles later
        arrived = delay(m, ends, spec.stages + 1, "arrived", init=0)
        m.d.comb += [
            sums.w_en.eq(arrived),
            sums.w_data.eq(pe.sum),
            self.o.valid.eq(sums.r_rdy),
            Value.cast(self.o.payload.data[0]).eq(sums.r_data),
            sums.r_en.eq(self.o.ready),
        ]
        return m
