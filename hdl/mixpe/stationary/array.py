"""The systolic array with stationary weights."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.stationary import WeightStationary
from hdl.arith.bits import add_modulo
from hdl.arith.delay import delay
from hdl.mixpe.operands import integer, operand_width, parts
from hdl.mixpe.row import needs_row_sum
from hdl.mixpe.skew import Skew
from hdl.mixpe.stationary.pe import StationaryPE
from hdl.shared import Shared, prototype


class StationaryRow(wiring.Component):
    """``cols`` elements: one step of every column. Activations pass from left to right, sums from top to bottom.

    ::

                    s_i      sum_i   sum_i   sum_i
        x, load,     |         |       |       |          S adds the activation as it is to the
        swap  --------------> [PE] -> [PE] -> [PE]        sum of activations from above
                    [S]        |       |       |
                    s_o      sum_o   sum_o   sum_o

    Latency     as :class:`StationaryPE`; column c another c cycles; ``s`` as column 0 of an element of one stage.

    Members
    -------
    x, load, swap : as the first element's; w_i, w_o, sum_i, sum_o : all columns', side by side; s_i, s_o : sum of
    activations, with its marks above (only where the weight format needs it).
    """

    kind = "row_ws"

    def __init__(self, spec: WeightStationary):
        self.spec = spec
        pe = prototype(StationaryPE, (spec.element,))
        members: dict[str, Any] = {"x": In(len(pe.x_i)), "load": In(1), "swap": In(1)}
        for name in ("w", "sum"):
            width = spec.cols * len(getattr(pe, f"{name}_i"))
            members |= {f"{name}_i": In(width), f"{name}_o": Out(width)}
        if needs_row_sum(spec):
            width = spec.pass_row_sum_width + spec.special_width
            members |= {"s_i": In(width), "s_o": Out(width)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pes: list[Any] = []
        travelling = (self.x, self.load, self.swap)
        for c in range(self.spec.cols):
            m.submodules[f"pe_{c}"] = pe = Shared(StationaryPE, self.spec.element)
            x, load, swap = travelling
            m.d.comb += [
                pe.x_i.eq(x),
                pe.load_i.eq(load),
                pe.swap_i.eq(swap),
                pe.w_i.eq(self.w_i.word_select(c, len(pe.w_i))),
                pe.sum_i.eq(self.sum_i.word_select(c, len(pe.sum_i))),
            ]
            travelling = (pe.x_o, pe.load_o, pe.swap_o)
            pes.append(pe)
        m.d.comb += [self.w_o.eq(Cat(pe.w_o for pe in pes)), self.sum_o.eq(Cat(pe.sum_o for pe in pes))]
        if needs_row_sum(self.spec):
            self._row_sum(m, pes[0].x_o)
        return m

    def _row_sum(self, m: Module, x: Any) -> None:
        fmt, width = self.spec.act_format, self.spec.pass_row_sum_width
        operand = parts(x, fmt)
        added = add_modulo(width, self.s_i[:width], integer(m, operand, fmt))
        marks = self.s_i[width:] | operand.special.replicate(self.spec.special_width)  # of which kind does not matter
        total = Signal.like(self.s_i, reset_less=True)
        m.d.sync += total.eq(Cat(added, marks))
        m.d.comb += self.s_o.eq(total)


class StationaryArray(wiring.Component):
    """``rows x cols`` elements in lock-step, behind their skew. The sums of a token's pass leave at the foot.

    Everything moves in one wave, row r and column c another r + c cycles late: tokens, weights, and what is to be done
    with them. A column's chain of weights moves where ``load`` says so; the weight that enters first goes to the last
    row. So row r loads the first ``rows - r`` weights of a pass and keeps the last of them, and nothing needs to be
    counted in the array.

    Latency     ``spec.passes.foot + 1`` cycles from ``x`` to ``sums`` of column 0 and to ``s``, column c another c.

    Members
    -------
    x : operands for the rows, one token's; load : which rows load a weight; swap : the token is a pass's first;
    w : cols decoded weights; sums : per column the sum over the rows; s : the sum of the operands.
    """

    kind = "array_ws"

    def __init__(self, spec: WeightStationary):
        self.spec = spec
        row = prototype(StationaryRow, (spec,))
        members: dict[str, Any] = {
            "x": In(spec.rows * len(row.x)),
            "load": In(spec.rows),
            "swap": In(1),
            "w": In(len(row.w_i)),
            "sums": Out(len(row.sum_o)),
        }
        if needs_row_sum(spec):
            members["s"] = Out(len(row.s_o))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        bits = operand_width(spec.act_format)
        m.submodules.skew_act = skew_act = Shared(Skew, spec.rows, bits + 2)
        m.submodules.skew_wgt = skew_wgt = Shared(Skew, spec.cols, len(self.w) // spec.cols)
        steps = [Cat(self.x.word_select(r, bits), self.load[r], self.swap) for r in range(spec.rows)]
        m.d.comb += [skew_act.i.eq(Cat(steps)), skew_wgt.i.eq(self.w)]

        w, sums, s = skew_wgt.o, 0, 0
        for r in range(spec.rows):
            m.submodules[f"row_{r}"] = row = Shared(StationaryRow, spec)
            step = skew_act.o.word_select(r, bits + 2)
            m.d.comb += [
                Cat(row.x, row.load, row.swap).eq(step),
                row.w_i.eq(w),
                row.sum_i.eq(sums),
            ]
            if needs_row_sum(spec):
                m.d.comb += row.s_i.eq(s)
                s = row.s_o
            w, sums = row.w_o, row.sum_o
        m.d.comb += self.sums.eq(sums)
        if needs_row_sum(spec):
            m.d.comb += self.s.eq(delay(m, s, spec.stages - 1, "s_late"))
        return m
