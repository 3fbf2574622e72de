"""The MixPE processing element that keeps its weight: multiply, add to the sum from above, hand it down."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.pe import PESpec
from hdl.arith.bits import add_modulo
from hdl.arith.delay import delay
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import operand_width, parts
from hdl.mixpe.product import product_of


class StationaryPE(wiring.Component):
    """Lock-step cell of the array: no handshake, the array around it adds one.

    ::

                      w_i    sum_i
                       |       |            where load:  next <- w_i
                     [next]    |            where swap:  weight <- next
        x_i, load,     |       v
        swap ------> [weight] (*) (+) ---> x_o, load_o, swap_o, one cycle later
                       |       |
                      w_o    sum_o          sum_o <- sum_i + x*weight

    ``next`` is a place of the column's chain of weights, and the chain moves where ``load`` says so. A ``swap`` comes
    with the first activation that meets the new weight; in the same cycle the chain may move on.

    Nothing is reset: what is under way in the array stays ahead of all that enters after it, and whoever reads a sum
    knows whether it means something.

    Latency     ``spec.stages + 1`` cycles from ``x_i`` to ``sum_o``; ``sum_i`` is added in the last of them.
    Throughput  one product per cycle; a new weight every cycle.
    Ranges      ``sum_width`` bits: no overflow for columns of up to ``spec.group`` elements.

    Members
    -------
    x_i, x_o : operand of the activation (:mod:`hdl.mixpe.operands`); load_i, load_o, swap_i, swap_o : what to do with
    the weights; w_i, w_o : decoded weight; sum_i, sum_o : sum of the column so far, above it the marks of a
    floating-point one.
    """

    kind = "pe_ws"

    def __init__(self, spec: PESpec):
        self.spec = spec
        widths = {
            "x": operand_width(spec.act_format),
            "load": 1,
            "swap": 1,
            "w": product_core(spec).width,
            "sum": spec.sum_width + spec.special_width,
        }
        super().__init__(
            {f"{name}_i": In(width) for name, width in widths.items()}
            | {f"{name}_o": Out(width) for name, width in widths.items()}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        x = delay(m, self.x_i, 1, "x")
        m.d.comb += [
            self.x_o.eq(x),
            self.load_o.eq(delay(m, self.load_i, 1, "load")),
            self.swap_o.eq(delay(m, self.swap_i, 1, "swap")),
        ]

        following = Signal.like(self.w_i, reset_less=True)
        weight = Signal.like(self.w_i, reset_less=True)
        m.d.comb += self.w_o.eq(following)
        with m.If(self.load_i):
            m.d.sync += following.eq(self.w_i)
        with m.If(self.swap_i):
            m.d.sync += weight.eq(following)

        product, marks = product_of(m, spec, parts(x, spec.act_format), weight)
        total = Signal.like(self.sum_i, reset_less=True)
        added = add_modulo(spec.sum_width, self.sum_i[: spec.sum_width], product)
        m.d.comb += self.sum_o.eq(total)
        m.d.sync += total.eq(Cat(added, self.sum_i[spec.sum_width :] | marks))
        return m
