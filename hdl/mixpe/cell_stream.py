"""A cell of an array, which never stops, between streams, which may."""

from abc import abstractmethod
from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered

from golden.mixpe.baseline import BaselineSpec
from golden.mixpe.pe import PESpec
from hdl.arith.delay import delay
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.signature import stream_members


class CellStream(wiring.Component):
    """A lock-step cell between an operand stream and a stream of sums.

    The cell never stops. A beat that ends a group is accepted only while the queue of sums has a place for it, so
    backpressure reaches the operands and no sum is lost.
    """

    kind = "stream"

    def __init__(self, spec: PESpec | BaselineSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports))

    @abstractmethod
    def cell(self, m: Module, beat: data.View, taken: Value, ends: Value) -> Value:
        """Place the cell and feed it: ``beat`` where one is ``taken``, else a bubble; ``ends``, ends a group. Returns
        the sum, which stands there ``latency - 2`` cycles after the beat that ends its group."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        places = spec.latency + 1  # a sum every cycle keeps this many under way
        m.submodules.credit = credit = Shared(Credit, places)

        taken = self.i.valid & self.i.ready
        ends = taken & self.i.payload.last
        m.d.comb += [
            self.i.ready.eq(credit.ready),
            credit.take.eq(ends),
            credit.give.eq(self.o.valid & self.o.ready),
        ]
        total = self.cell(m, self.i.payload.data[0], taken, ends)
        m.submodules.sums = sums = SyncFIFOBuffered(width=len(total), depth=places)
        arrived = delay(m, ends, spec.latency - 2, "arrived", init=0)  # the queue takes two cycles
        m.d.comb += [
            sums.w_en.eq(arrived),
            sums.w_data.eq(total),
            self.o.valid.eq(sums.r_rdy),
            Value.cast(self.o.payload.data[0]).eq(sums.r_data),
            sums.r_en.eq(self.o.ready),
        ]
        return m
