"""The processing element with streams: the top level of the unit ``mixpe_pe``."""

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import data

from golden.mixpe.pe import PESpec
from hdl.mixpe.cell_stream import CellStream
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import act_operand, weight_operand
from hdl.mixpe.pe import PE
from hdl.shared import Shared


class PEStream(CellStream):
    """One :class:`PE` between an operand stream and a stream of sums; the datasheet is :class:`PESpec`."""

    spec: PESpec

    def cell(self, m: Module, beat: data.View, taken: Value, ends: Value) -> Value:
        spec = self.spec
        m.submodules.pe = pe = Shared(PE, spec)
        m.d.comb += [
            pe.x_i.eq(Mux(taken, act_operand(beat.x, spec.act_format), 0)),
            pe.w_i.eq(product_core(spec).decode(weight_operand(beat.w, spec.weight_format))),
            pe.last_i.eq(ends),
        ]
        return pe.sum
