"""The processing element with streams: the top level of the unit ``mixpe_pe``."""

from typing import Any

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.mixpe.formats import WEIGHTS
from golden.mixpe.pe import PESpec
from hdl.arith.delay import delay
from hdl.mixpe.cores import CORES, operand
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
        m.submodules.sums = sums = SyncFIFOBuffered(width=len(self.o.payload.data[0]), depth=places)
        m.submodules.credit = credit = Shared(Credit, places)

        beat = self.i.payload.data[0]
        taken = self.i.valid & self.i.ready
        ends = taken & self.i.payload.last
        m.d.comb += [
            self.i.ready.eq(credit.ready),
            credit.take.eq(ends),
            credit.give.eq(self.o.valid & self.o.ready),
        ]
        # the sum of the beat that ends a group stands there stages + 1 cycles after it
        total = self._cell(m, beat, taken, ends)
        arrived = delay(m, ends, spec.stages + 1, "arrived", init=0)
        m.d.comb += [
            sums.w_en.eq(arrived),
            sums.w_data.eq(total),
            self.o.valid.eq(sums.r_rdy),
            self.o.payload.data[0].eq(sums.r_data),
            sums.r_en.eq(self.o.ready),
        ]
        return m

    def _cell(self, m: Module, beat: data.View, taken: Value, ends: Value) -> Value:
        """The element and its operands; a bubble where no beat is ``taken``. Returns the sum."""
        spec = self.spec
        m.submodules.pe = pe = Shared(PE, spec)
        m.d.comb += [
            pe.x_i.eq(Mux(taken, beat.x, 0)),
            pe.w_i.eq(CORES[spec.core].decode(operand(beat.w, WEIGHTS[spec.weight].offset))),
            pe.last_i.eq(ends),
        ]
        return pe.sum
