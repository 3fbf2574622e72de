"""Activations to indices: alignment under the token's scale, and the search among its boundaries."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.quantizer import BOUNDARY_BITS, QuantizerSpec
from hdl.arith.bits import choose, named
from hdl.arith.delay import delay
from hdl.shared import Shared


class Align(wiring.Component):
    """``floor(2 * x / 2**e)``, saturated.

    Latency     none, combinational.

    Members
    -------
    x : In(16), FP16; above : In(6), ``e - GRID``; o : Out(signed, ten bits).
    """

    kind = "align"

    def __init__(self) -> None:
        super().__init__({"x": In(16), "above": In(6), "o": Out(signed(token.VALUE_BITS))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = token.VALUE_BITS
        field, fraction = self.x[10:15], self.x[:10]
        normal = field.any()
        magnitude = Cat(fraction, normal)
        value = named(m, Mux(self.x[-1], -magnitude, magnitude), "value")
        # 2x / 2^e = significand * 2^left: every left of `bits` or more saturates, or the significand is 0
        left = named(m, Cat(field[0] | ~normal, field[1:]) - self.above, "left")
        down = Signal(range(bits + 12))
        with m.If(left < bits):
            m.d.comb += down.eq(Mux(left < -11, bits + 11, bits - left))
        shifted = named(m, Cat(C(0, bits), value).as_signed() >> down, "shifted")
        top = shifted[bits - 1 :]
        fits = top.all() | ~top.any()
        sign = shifted[-1]
        m.d.comb += self.o.eq(Mux(fits, shifted[:bits], Cat((~sign).replicate(bits - 1), sign)))
        return m


class Search(wiring.Component):
    """How many of the rising boundaries are not above a value: a binary search, a level per cycle.

    Lock-step: a value per cycle in which ``go`` is high.

    Latency     ``bits`` such cycles.

    Members
    -------
    go : In(1); value : In(signed, ten bits); boundaries : In, those that the value meets at each level, the middle
    first: level l looks at the ``2**l`` of them l cycles after the value came; o : Out(bits).
    """

    kind = "search"

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__(
            {
                "go": In(1),
                "value": In(signed(token.VALUE_BITS)),
                "boundaries": In(BOUNDARY_BITS * ((1 << bits) - 1)),
                "o": Out(bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        value: Value = self.value
        found: Value = C(0, 0)  # of the index, the highest bit first
        at = 0
        for level in range(self.bits):
            mine = self.boundaries[at * BOUNDARY_BITS : (at + (1 << level)) * BOUNDARY_BITS]
            at += 1 << level
            limit = choose(mine, BOUNDARY_BITS, found) if level else mine
            higher = value >= limit.as_signed()
            value, found = (
                delay(m, value, 1, f"value_{level}", go=self.go),
                delay(m, Cat(higher, found), 1, f"found_{level}", go=self.go),
            )
        m.d.comb += self.o.eq(found)
        return m


def levels(boundaries: Any, bits: int) -> list[list[Value]]:
    """The boundaries that each level of the search looks at, from left to right."""
    return [[boundaries[((2 * i + 1) << (bits - 1 - level)) - 1] for i in range(1 << level)] for level in range(bits)]


class Cluster(wiring.Component):
    """A row of activations to indices.

    Lock-step: a row per cycle in which ``go`` is high. The scale and the boundaries are those that stand at ``above``
    and ``boundaries`` with a token's first row, and in the following cycles until it has passed; then they may change.

    Latency     ``1 + bits`` such cycles.

    Members
    -------
    go : In(1); first : In(1), the row begins a token; row : In(lanes of FP16); above : In(6), ``e - GRID``;
    boundaries : In(array); o : Out(lanes of indices).
    """

    kind = "cluster"

    def __init__(self, spec: QuantizerSpec):
        self.spec = spec
        count = (1 << spec.bits) - 1
        super().__init__(
            {
                "go": In(1),
                "first": In(1),
                "row": In(data.ArrayLayout(16, spec.lanes)),
                "above": In(6),
                "boundaries": In(data.ArrayLayout(signed(BOUNDARY_BITS), count)),
                "o": Out(data.ArrayLayout(spec.bits, spec.lanes)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        first: Value = self.first
        held = []  # a level's own copy, renewed just before a token's first row gets there
        for level, wanted in enumerate(levels(self.boundaries, spec.bits)):
            held.append(delay(m, Cat(wanted), 1, f"boundaries_{level}", go=self.go & first))
            first = delay(m, first, 1, f"first_{level}", init=0, go=self.go)
        for i in range(spec.lanes):
            m.submodules[f"align_{i}"] = align = Shared(Align)
            m.submodules[f"search_{i}"] = search = Shared(Search, spec.bits)
            m.d.comb += [
                align.x.eq(self.row[i]),
                align.above.eq(self.above),
                search.go.eq(self.go),
                search.value.eq(delay(m, align.o, 1, f"aligned_{i}", go=self.go)),
                search.boundaries.eq(Cat(held)),
                self.o[i].eq(search.o),
            ]
        return m
