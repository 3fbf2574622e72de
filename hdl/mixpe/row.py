"""One row of the array: its processing elements, its group sum of activations, and the read-out of its sums."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import add_modulo, choose, index_bits
from hdl.arith.delay import delay
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import integer, operand_width, parts
from hdl.mixpe.pe_pair import element
from hdl.shared import Shared


class Row(wiring.Component):
    """``cols`` elements in lock-step (or half as many pairs of them); activations pass from left to right, weights from
    top to bottom.

    ::

        x, last ->[PE]->[PE]->[PE]->[PE]
              |     segment 0  segment 1        column c sees a step c cycles after column 0
              +->[S]---------->[S]              S: the group's sum of activations, handed from segment to segment

    Each segment of ``span`` columns has its own read-out: one cycle after ``column[j]`` names a column of segment j,
    ``a[j]`` holds that element's sum and ``s[j]`` the group sum that belongs to it.

    Latency     as :class:`PE`; the read-out adds one cycle.

    Members
    -------
    x, last : the step's activation; w_i, w_o : all columns' decoded weights; column : one index per segment;
    a, s : read-out, one word per segment (``s`` only where the weight format needs it).
    """

    kind = "row"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        grid = spec.grid
        w_width = spec.cols * product_core(spec.pe).width
        members: dict[str, Any] = {
            "x": In(operand_width(spec.act_format)),
            "last": In(1),
            "w_i": In(w_width),
            "w_o": Out(w_width),
            "column": In(grid.lane_cols * index_bits(grid.span)),
            "a": Out(grid.lane_cols * (spec.pe.sum_width + spec.special_width)),
        }
        if needs_row_sum(spec):
            members["s"] = Out(grid.lane_cols * (spec.row_sum_width + spec.special_width))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, grid = self.spec, self.spec.grid
        pes = []
        x, last = self.x, self.last
        lasts = {}  # what each element sees of `last`, by its first column
        for i, c in enumerate(range(0, spec.cols, spec.pe.columns)):
            m.submodules[f"pe_{c}"] = pe = Shared(element(spec.pe), spec.pe)
            m.d.comb += [pe.x_i.eq(x), pe.last_i.eq(last), pe.w_i.eq(self.w_i.word_select(i, len(pe.w_i)))]
            lasts[c] = last
            x, last = pe.x_o, pe.last_o
            pes.append(pe)
        m.d.comb += self.w_o.eq(Cat(pe.w_o for pe in pes))

        chosen = []
        sums = Cat(pe.sum for pe in pes)
        for j in range(grid.lane_cols):
            column = self.column.word_select(j, index_bits(grid.span))
            segment = sums.word_select(j, len(sums) // grid.lane_cols)
            chosen.append(choose(segment, len(sums) // spec.cols, column))
        m.d.comb += self.a.eq(delay(m, Cat(chosen), 1, "read_out_a"))

        if needs_row_sum(spec):
            self._row_sums(m, lasts)
        return m

    def _row_sums(self, m: Module, lasts: dict[int, Any]) -> None:
        spec, grid = self.spec, self.spec.grid
        acc = Signal(spec.row_sum_width + spec.special_width, reset_less=True)
        held = Signal.like(acc)
        total = Signal.like(acc)
        ends = delay(m, self.last, spec.pe.depth, "ends", init=1)  # in step with column 0, and reset like it
        x = parts(delay(m, self.x, spec.pe.depth, "x_held"), spec.act_format)
        added = add_modulo(spec.row_sum_width, acc[: spec.row_sum_width], integer(m, x, spec.act_format))
        marks = acc[spec.row_sum_width :] | x.special.replicate(spec.special_width)  # of which kind does not matter
        m.d.comb += total.eq(Cat(added, marks))
        m.d.sync += acc.eq(Mux(ends, 0, total))
        with m.If(ends):
            m.d.sync += held.eq(total)
        copies = []
        for j in range(grid.lane_cols):
            if j:
                # the wave reaches segment j `span` cycles later: its copy changes with the sums of its first column
                copy = Signal.like(acc, name=f"held_{j}")
                with m.If(delay(m, lasts[j * grid.span], spec.pe.depth, f"ends_{j}")):
                    m.d.sync += copy.eq(held)
                held = copy
            copies.append(held)
        m.d.comb += self.s.eq(delay(m, Cat(copies), 1, "read_out_s"))


def needs_row_sum(spec: MixPESpec) -> bool:
    return spec.weight_format.correction != "none"
