"""The systolic array: rows under one another behind their skew."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import operand_width
from hdl.mixpe.row import Row, needs_row_sum
from hdl.mixpe.skew import Skew
from hdl.shared import Shared, prototype


class Array(wiring.Component):
    """``rows x cols`` elements, output-stationary, in lock-step: one step per cycle, a bubble is all activations 0.

    Element (r, c) sees a step r + c cycles after it enters; its sum of a group stands ``spec.pe.depth + 1`` cycles
    after it has seen the group's last step (a pair's right column: a cycle less), and for as long as the next group's
    sum takes to follow.

    Members
    -------
    x : the rows' operands; w : cols decoded weights; last : the step ends a group;
    column : for each row and segment, which column to read; a, s : per row and segment, one cycle later, that
    element's sum and the row's sum of activations.
    """

    kind = "array"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        row = prototype(Row, (spec,))
        members: dict[str, Any] = {
            "x": In(spec.rows * operand_width(spec.act_format)),
            "w": In(spec.cols * product_core(spec.pe).width),
            "last": In(1),
            "column": In(spec.rows * len(row.column)),
            "a": Out(spec.rows * len(row.a)),
        }
        if needs_row_sum(spec):
            members["s"] = Out(spec.rows * len(row.s))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        bits = operand_width(spec.act_format)
        m.submodules.skew_act = skew_act = Shared(Skew, spec.rows, bits + 1)
        m.submodules.skew_wgt = skew_wgt = Shared(Skew, spec.cols, product_core(spec.pe).width)
        steps = [Cat(self.x.word_select(r, bits), self.last) for r in range(spec.rows)]
        m.d.comb += [skew_act.i.eq(Cat(steps)), skew_wgt.i.eq(self.w)]

        w = skew_wgt.o
        rows = []
        for r in range(spec.rows):
            m.submodules[f"row_{r}"] = row = Shared(Row, spec)
            step = skew_act.o.word_select(r, bits + 1)
            m.d.comb += [
                row.x.eq(step[:bits]),
                row.last.eq(step[bits]),
                row.w_i.eq(w),
                row.column.eq(self.column.word_select(r, len(row.column))),
            ]
            w = row.w_o
            rows.append(row)
        m.d.comb += self.a.eq(Cat(row.a for row in rows))
        if needs_row_sum(spec):
            m.d.comb += self.s.eq(Cat(row.s for row in rows))
        return m
