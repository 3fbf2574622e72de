"""The cell that every baseline is, and the top level of the unit ``pe_baseline``."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.baseline import BaselineSpec
from hdl.arith.delay import delay
from hdl.mixpe.baseline_fp import FP16, Dequant
from hdl.mixpe.bitfusion import BitFusion
from hdl.mixpe.cell_stream import CellStream
from hdl.mixpe.design import Design
from hdl.shared import Shared

DESIGNS: dict[str, type[Design]] = {"fp16": FP16, "fp16_dequant": Dequant, "bitfusion": BitFusion}


class Mac(wiring.Component):
    """Lock-step cell of an array of baselines: as :class:`hdl.mixpe.pe.PE`, for the ``design`` of the specification.

    Each cycle takes an activation and a weight and hands both on, one cycle later. A bubble is ``x = 0, w = 0,
    last = 0``. Reset sets ``last`` alone, which clears the accumulator.

    Latency     ``spec.stages + 1`` cycles from the operands of the last product to ``sum``.
    Throughput  one beat per cycle; groups may follow one another without a gap, ``sum`` is held until the next.

    Members
    -------
    x_i, x_o : activation; w_i, w_o : weight; last_i, last_o : ends a group; sum : the last group's sum. The bits are
    those of the design (``Design.x_width`` and so on).
    """

    kind = "mac"

    def __init__(self, spec: BaselineSpec):
        self.spec = spec
        self.design = d = DESIGNS[spec.design](spec)
        super().__init__(
            {
                "x_i": In(d.x_width),
                "w_i": In(d.w_width),
                "last_i": In(1),
                "x_o": Out(d.x_width),
                "w_o": Out(d.w_width),
                "last_o": Out(1),
                "sum": Out(d.sum_width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        x = delay(m, self.x_i, 1, "x")
        w = delay(m, self.w_i, 1, "w")
        last = delay(m, self.last_i, 1, "last", init=1)
        m.d.comb += [self.x_o.eq(x), self.w_o.eq(w), self.last_o.eq(last)]

        made = self.design.product(m, x, w)
        product = Signal(len(made), reset_less=True)
        m.d["comb" if self.spec.stages == 1 else "sync"] += product.eq(made)
        last = delay(m, last, self.spec.stages - 1, "last_product", init=1)

        acc = Signal(len(self.sum), reset_less=True)
        total = Signal.like(acc)
        held = Signal.like(acc)
        m.d.comb += [total.eq(self.design.add(m, acc, product)), self.sum.eq(held)]
        m.d.sync += acc.eq(Mux(last, 0, total))
        with m.If(last):
            m.d.sync += held.eq(total)
        return m


class BaselineStream(CellStream):
    """One :class:`Mac` between an operand stream and a stream of sums; the datasheet is :class:`BaselineSpec`."""

    spec: BaselineSpec

    def cell(self, m: Module, beat: data.View, taken: Value, ends: Value) -> Value:
        m.submodules.mac = mac = Shared(Mac, self.spec)
        design = DESIGNS[self.spec.design](self.spec)
        x, w = design.operands(m, beat)
        # both, since an infinity times a zero would not be nothing
        m.d.comb += [mac.x_i.eq(Mux(taken, x, 0)), mac.w_i.eq(Mux(taken, w, 0)), mac.last_i.eq(ends)]
        return design.result(mac.sum)
