"""Two neighbouring processing elements around one multiplier: the element of core ``packed``."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.pe import PESpec
from hdl.arith.bits import extend, named
from hdl.arith.delay import delay
from hdl.mixpe.cores import Packed, product_core
from hdl.mixpe.operands import operand_width
from hdl.mixpe.pe import PE


class PEPair(wiring.Component):
    """Stands in place of two :class:`PE` of a row, and makes both products with one 18 x 18 multiplier.

    The right column sees a step a cycle after the left one, so the left weight waits for it::

                    w0               w1
                     |                |
                   [reg]--> w0_o      +--[reg]--> w1_o
                     |                |
                     +----( pack )----+            w1*2^shift + w0
                             |
                           [reg]
                             |
        x_i --[reg]--[reg]---*----> x_o            times x: w1*x*2^shift + w0*x
                           |   |
                       [acc]   [acc]               w0_o, w1_o, x_o, last_o: when two elements would hand them on

    Bubbles and reset are those of :class:`PE`. Registers behind the multiplier are the word it makes, uncorrected, so
    that a DSP block can take them in; the borrow between the products enters the upper accumulator as its carry.

    Latency     ``spec.stages + 2`` cycles from the last operands of the left column, ``spec.stages + 1`` from those of
                the right one, to both sums.
    Throughput  two products per cycle.
    Ranges      as :class:`PE`.

    Members
    -------
    As of :class:`PE`; of ``w_i``, ``w_o`` and ``sum`` two, the left column's in the low bits.
    """

    kind = "pe_pair"

    def __init__(self, spec: PESpec):
        self.spec = spec
        core = product_core(spec)
        assert isinstance(core, Packed)
        self.core = core
        x_width = operand_width(spec.act_format)
        super().__init__(
            {
                "x_i": In(x_width),
                "w_i": In(2 * core.width),
                "last_i": In(1),
                "x_o": Out(x_width),
                "w_o": Out(2 * core.width),
                "last_o": Out(1),
                "sum": Out(2 * spec.sum_width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, shift = self.spec, self.spec.product_width
        w0_i, w1_i = self.w_i[: self.core.width], self.w_i[self.core.width :]
        x = delay(m, self.x_i, 2, "x")
        last = delay(m, self.last_i, 2, "last", init=1)
        w0 = delay(m, w0_i, 1, "w0")
        w1 = delay(m, w1_i, 1, "w1")
        m.d.comb += [self.x_o.eq(x), self.w_o.eq(Cat(w0, w1)), self.last_o.eq(last)]

        both = delay(m, self.core.pack(shift, w0, w1_i), 1, "both")
        word = delay(m, named(m, x.as_signed() * both, "product"), spec.stages - 1, "word")
        last = delay(m, last, spec.stages - 1, "last_product", init=1)
        low, high, borrow = self.core.split(shift, word)
        width = spec.sum_width
        added = [extend(low, width)], [extend(high, width), borrow]
        m.d.comb += self.sum.eq(Cat(self._sum(m, last, terms) for terms in added))
        return m

    def _sum(self, m: Module, last: Value, terms: list[Value]) -> Signal:
        acc = Signal(self.spec.sum_width, reset_less=True)
        total = Signal.like(acc)
        m.d.comb += total.eq(sum(terms, acc))
        return PE.accumulate(m, last, acc, total)


def element(spec: PESpec) -> type[PE] | type[PEPair]:
    """What takes ``spec.columns`` columns of a row."""
    return PEPair if spec.columns == 2 else PE
