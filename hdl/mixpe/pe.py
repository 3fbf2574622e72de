"""The MixPE processing element: exact multiply-accumulate of one group, nothing else."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.pe import PESpec
from hdl.arith.bits import add_modulo
from hdl.arith.delay import delay
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import operand_width, parts
from hdl.mixpe.product import product_of


class PE(wiring.Component):
    """Lock-step cell of the array: no handshake, the array around it adds one.

    Each cycle takes an activation's operand and a decoded weight and hands both on, one cycle later, to its
    neighbours::

                 w_i
                  |                     sum <- acc + x*w      where last ends a group,
        x_i ---> [PE] ---> x_o          acc <- 0              and acc goes on from zero
                  |
                 w_o

    A bubble is ``x = 0, last = 0``: it adds nothing, so no valid bit and no enable are needed.

    Reset sets ``last`` alone, wherever it stands, which clears the accumulator in the cycle after: what was under way
    moves on with it and is added to nothing. ``sum`` means nothing until the first group has ended.

    Latency     ``spec.stages + 1`` cycles from the operands of the last product to ``sum``.
    Throughput  one product per cycle; groups may follow one another without a gap, ``sum`` is held until the next.
    Ranges      ``sum_width`` bits: no overflow for up to ``spec.group`` products.

    Members
    -------
    x_i, x_o : operand of the activation (:mod:`hdl.mixpe.operands`); w_i, w_o : decoded weight; last_i, last_o : ends a
    group; sum : the last group's sum, and above it the marks of a floating-point one.
    """

    kind = "pe"

    def __init__(self, spec: PESpec):
        self.spec = spec
        self.core = product_core(spec)
        x_width = operand_width(spec.act_format)
        super().__init__(
            {
                "x_i": In(x_width),
                "w_i": In(self.core.width),
                "last_i": In(1),
                "x_o": Out(x_width),
                "w_o": Out(self.core.width),
                "last_o": Out(1),
                "sum": Out(spec.sum_width + spec.special_width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        x = delay(m, self.x_i, 1, "x")
        w = delay(m, self.w_i, 1, "w")
        last = delay(m, self.last_i, 1, "last", init=1)
        m.d.comb += [self.x_o.eq(x), self.w_o.eq(w), self.last_o.eq(last)]

        product, marks = product_of(m, spec, parts(x, spec.act_format), w)
        last = delay(m, last, spec.stages - 1, "last_product", init=1)

        acc = Signal(len(self.sum), reset_less=True)
        total = Signal.like(acc)
        added = add_modulo(spec.sum_width, acc[: spec.sum_width], product)
        m.d.comb += [
            total.eq(Cat(added, acc[spec.sum_width :] | marks)),
            self.sum.eq(self.accumulate(m, last, acc, total)),
        ]
        return m

    @staticmethod
    def accumulate(m: Module, last: Value, acc: Signal, total: Signal) -> Signal:
        """``acc`` goes on from ``total``, or from 0 where ``last`` ends a group. Returns that group's sum, held."""
        held = Signal.like(total)
        m.d.sync += acc.eq(Mux(last, 0, total))
        with m.If(last):
            m.d.sync += held.eq(total)
        return held
