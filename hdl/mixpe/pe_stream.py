"""The processing element with streams: the top level of the unit ``mixpe_pe``."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import data

from golden.mixpe.pe import PESpec
from hdl.arith.delay import delay
from hdl.mixpe.cell_stream import CellStream
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import act_operand, weight_operand
from hdl.mixpe.pe_pair import element
from hdl.shared import Shared


class PEStream(CellStream):
    """One element between an operand stream and a stream of sums; the datasheet is :class:`PESpec`."""

    spec: PESpec

    def cell(self, m: Module, beat: data.View, taken: Value, ends: Value) -> Value:
        x, *weights = (beat[f.name] for f in self.spec.ports[0].fields)
        return place(m, "pe", self.spec, Mux(taken, x, 0), weights, ends)


def place(m: Module, name: str, spec: PESpec, x: Value, weights: Sequence[Value], ends: Value) -> Value:
    """The element of ``spec`` and the edge of an array around it: codes in, ``sum`` out. The code 0 of an activation is
    a bubble; column c's weight enters c cycles late."""
    core = product_core(spec)
    decoded = (core.decode(weight_operand(w, spec.weight_format)) for w in weights)
    m.submodules[name] = pe = Shared(element(spec), spec)
    m.d.comb += [
        pe.x_i.eq(act_operand(x, spec.act_format)),
        pe.w_i.eq(Cat(delay(m, w, c, f"w_column_{c}") for c, w in enumerate(decoded))),
        pe.last_i.eq(ends),
    ]
    return pe.sum
