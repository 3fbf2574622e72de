"""One row of the array: its processing elements, its group sum of activations, and the read-out of its sums."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import choose, index_bits
from hdl.arith.delay import delay
from hdl.mixpe.cores import CORES
from hdl.mixpe.pe import PE
from hdl.shared import Shared


class Row(wiring.Component):
    """``cols`` elements in lock-step; activations pass from left to right, weights from top to bottom.

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
        w_width = spec.cols * CORES[spec.core].width
        members: dict[str, Any] = {
            "x": In(signed(spec.act_format.bits)),
            "last": In(1),
            "w_i": In(w_width),
            "w_o": Out(w_width),
            "column": In(grid.lane_cols * index_bits(grid.span)),
            "a": Out(grid.lane_cols * spec.pe.sum_width),
        }
        if needs_row_sum(spec):
            members["s"] = Out(grid.lane_cols * spec.row_sum_width)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, grid = self.spec, self.spec.grid
        pes = []
        x, last = self.x, self.last
        lasts = []  # what each element sees of `last`
        for c in range(spec.cols):
            m.submodules[f"pe_{c}"] = pe = Shared(PE, spec.pe)
            width = len(pe.w_i)
            m.d.comb += [
                pe.x_i.eq(x),
                pe.last_i.eq(last),
                pe.w_i.eq(self.w_i.word_select(c, width)),
                self.w_o.word_select(c, width).eq(pe.w_o),
            ]
            lasts.append(last)
            x, last = pe.x_o, pe.last_o
            pes.append(pe)

        for j in range(grid.lane_cols):
            column = self.column.word_select(j, index_bits(grid.span))
            sums = Cat(pe.sum for pe in pes[j * grid.span : (j + 1) * grid.span])
            m.d.sync += self.a.word_select(j, spec.pe.sum_width).eq(choose(sums, spec.pe.sum_width, column))

        if needs_row_sum(spec):
            self._row_sums(m, lasts)
        return m

    def _row_sums(self, m: Module, lasts: list[Any]) -> None:
        spec, grid = self.spec, self.spec.grid
        acc = Signal(signed(spec.row_sum_width))
        held = Signal.like(acc)
        total = Signal.like(acc)
        ends = delay(m, self.last, spec.stages, "ends")  # in step with the sums of column 0
        m.d.comb += total.eq(acc + delay(m, self.x, spec.stages, "x_held"))
        m.d.sync += acc.eq(Mux(ends, 0, total))
        with m.If(ends):
            m.d.sync += held.eq(total)
        for j in range(grid.lane_cols):
            if j:
                # the wave reaches segment j `span` cycles later: its copy changes with the sums of its first column
                copy = Signal.like(acc, name=f"held_{j}")
                with m.If(delay(m, lasts[j * grid.span], spec.stages, f"ends_{j}")):
                    m.d.sync += copy.eq(held)
                held = copy
            m.d.sync += self.s.word_select(j, spec.row_sum_width).eq(held)


def needs_row_sum(spec: MixPESpec) -> bool:
    return spec.weight_format.correction != "none"
