"""A line of the index GEMM: the codes of one output channel become its sum.

::

    codes --> [ unit of 16 ] --.
    codes --> [ unit of 16 ] ---> tree, one per bin --> bins --> kept --> weighted sum
      ...                  ...                                  while the next group is added up

A unit counts pairs (``histogram``), adds up activations per weight index (``bucket``) or adds up products (``direct``,
one bin, no weighted sum).
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.kmeans.lutgemm import CENTROID_BITS, MULTIPLY, UNIT, LutGemmSpec
from hdl.arith.bits import choose, count_ones, index_bits, named
from hdl.arith.delay import delay
from hdl.arith.tree import balanced_sum, sum_tree
from hdl.shared import Shared


def concat(spec: LutGemmSpec, operand: Value, weight: Value) -> Value:
    """What a line keeps of an activation and a weight index: both side by side, or the product that they name."""
    if spec.reducer == "direct":
        return choose(operand, spec.entry_bits, weight)
    return Cat(operand, weight)


def code_bits(spec: LutGemmSpec) -> int:
    return spec.entry_bits if spec.reducer == "direct" else spec.operand_bits + spec.weight_bits


class Unit(wiring.Component):
    """Up to 16 codes to a part of each bin.

    Latency     1 cycle in which ``go`` is high.

    Members
    -------
    go : In(1); codes : In; o : Out, ``part_bits`` per bin.
    """

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        self.inputs = min(UNIT, spec.codes)
        members = {"go": In(1), "codes": In(self.inputs * code_bits(spec))}
        super().__init__(members | {"o": Out(spec.bins * part_bits(spec))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        codes = [self.codes.word_select(p, code_bits(self.spec)) for p in range(self.inputs)]
        parts = Cat(_cut(part, part_bits(self.spec)) for part in self._parts(m, codes))
        m.d.comb += self.o.eq(delay(m, parts, 1, "parts", go=self.go))
        return m

    def _parts(self, m: Module, codes: list[Value]) -> list[Value]:
        """Each bin's."""
        raise NotImplementedError

    def _is_weight(self, m: Module, codes: list[Value]) -> list[list[Value]]:
        """For each weight index, which codes have it."""
        bits = self.spec.operand_bits
        return [
            [named(m, code[bits:] == w, f"is_weight_{w}_{p}") for p, code in enumerate(codes)]
            for w in range(1 << self.spec.weight_bits)
        ]


class IndexCounter(Unit):
    """How often each pair of indices is among the codes."""

    kind = "index_counter"

    def _parts(self, m: Module, codes: list[Value]) -> list[Value]:
        bits = self.spec.act_bits
        is_act = [
            [named(m, code[bits] & (code[:bits] == a), f"is_act_{a}_{p}") for p, code in enumerate(codes)]
            for a in range(1 << bits)
        ]
        is_weight = self._is_weight(m, codes)
        return [
            count_ones(Cat(x & y for x, y in zip(act, weight, strict=True))) for act in is_act for weight in is_weight
        ]


class Buckets(Unit):
    """The sum of the activations' centroids that come with each weight index."""

    kind = "buckets"

    def _parts(self, m: Module, codes: list[Value]) -> list[Value]:
        acts = [code[:CENTROID_BITS] for code in codes]
        return [
            balanced_sum([Mux(is_it, act, 0).as_signed() for is_it, act in zip(mine, acts, strict=True)])
            for mine in self._is_weight(m, codes)
        ]


class Products(Unit):
    """The sum of the products."""

    kind = "products"

    def _parts(self, m: Module, codes: list[Value]) -> list[Value]:
        return [balanced_sum([code.as_signed() for code in codes])]


UNITS = {"histogram": IndexCounter, "bucket": Buckets, "direct": Products}


def part_bits(spec: LutGemmSpec) -> int:
    inputs = min(UNIT, spec.codes)
    bits = (inputs - 1).bit_length()
    return {"histogram": inputs.bit_length(), "bucket": CENTROID_BITS + bits, "direct": spec.entry_bits + bits}[
        spec.reducer
    ]


def _cut(value: Value, width: int) -> Value:
    """Sums are as wide as they can become; no carry is lost."""
    value = Value.cast(value)
    top = value[-1].replicate(max(0, width - len(value))) if value.shape().signed else ()
    return Cat(value, top)[:width]


class Bin(wiring.Component):
    """One of a line's sums, of one group in ``held`` and of the next one beside it.

    Members
    -------
    go : In(1); parts : In, of all units; add, hand_on : In(1), the parts' sum (``latency.tree`` such cycles after them)
    belongs to the group, and ends it; held : Out.
    """

    kind = "bin"

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        super().__init__(
            {
                "go": In(1),
                "parts": In(spec.units * part_bits(spec)),
                "add": In(1),
                "hand_on": In(1),
                "held": Out(spec.bin_width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        parts = [self.parts.word_select(u, part_bits(spec)) for u in range(spec.units)]
        if spec.reducer != "histogram":
            parts = [part.as_signed() for part in parts]
        part = sum_tree(m, parts, "part", self.go)
        shape = spec.bin_width if spec.reducer == "histogram" else signed(spec.bin_width)
        so_far = Signal(shape)
        total = Signal(shape)
        held = Signal(spec.bin_width, reset_less=True)
        m.d.comb += [total.eq(so_far + Mux(self.add, part, 0)), self.held.eq(held)]
        with m.If(self.hand_on):
            m.d.sync += [held.eq(total), so_far.eq(0)]
        with m.Elif(self.go):
            m.d.sync += so_far.eq(total)
        return m


class WeightedSum(wiring.Component):
    """``sum_b bin[b] * factor[b]``, a row of them per cycle.

    Latency     ``MULTIPLY + latency.tree(per_cycle) + 1`` cycles from the last row to the sum.

    Members
    -------
    bins : In, all of them; row : In; first : In(1), that row is a sum's first one; factors : In, of the row; o : Out.
    """

    kind = "weighted_sum"

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        super().__init__(
            {
                "bins": In(spec.bins * spec.bin_width),
                "row": In(index_bits(spec.reduce)),
                "first": In(1),
                "factors": In(spec.per_cycle * spec.factor_bits),
                "o": Out(spec.sum_width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        now = named(m, choose(self.bins, spec.per_cycle * spec.bin_width, self.row), "now")
        products = []
        for i in range(spec.per_cycle):
            count = now.word_select(i, spec.bin_width)
            count = count if spec.reducer == "histogram" else count.as_signed()
            product = count * self.factors.word_select(i, spec.factor_bits).as_signed()
            products.append(delay(m, product, MULTIPLY, f"product_{i}").as_signed())
        row = sum_tree(m, products, "row_sum")
        first = delay(m, self.first, MULTIPLY + latency.tree(spec.per_cycle), "first_then")
        total = Signal(signed(spec.sum_width), reset_less=True)
        m.d.sync += total.eq(Mux(first, 0, total) + row)
        m.d.comb += self.o.eq(total)
        return m


class Line(wiring.Component):
    """One output channel at a time.

    Members
    -------
    go : In(1); operands, weights : In, of a row of codes; add, hand_on : In(1), ``pipeline.front`` of the specification
    such cycles later; row, first, factors : In, for the weighted sum; o : Out, the sum.
    """

    kind = "line"

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        super().__init__(
            {
                "go": In(1),
                "operands": In(spec.codes * spec.operand_bits),
                "weights": In(spec.codes * spec.weight_bits),
                "add": In(1),
                "hand_on": In(1),
                "row": In(index_bits(spec.reduce)),
                "first": In(1),
                "factors": In(spec.per_cycle * spec.factor_bits),
                "o": Out(spec.sum_width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        codes = Cat(
            concat(
                spec,
                self.operands.word_select(p, spec.operand_bits),
                self.weights.word_select(p, spec.weight_bits),
            )
            for p in range(spec.codes)
        )
        codes = delay(m, codes, 1, "codes", go=self.go)
        parts = []
        for u in range(spec.units):
            m.submodules[f"unit_{u}"] = unit = Shared(UNITS[spec.reducer], spec)
            m.d.comb += [unit.go.eq(self.go), unit.codes.eq(codes.word_select(u, len(unit.codes)))]
            parts.append(unit.o)
        held = [self._bin(m, b, parts) for b in range(spec.bins)]
        if spec.reducer == "direct":
            m.d.comb += self.o.eq(held[0])
            return m
        m.submodules.weighted = weighted = Shared(WeightedSum, spec)
        m.d.comb += [
            weighted.bins.eq(Cat(held)),
            *(getattr(weighted, name).eq(getattr(self, name)) for name in ("row", "first", "factors")),
            self.o.eq(weighted.o),
        ]
        return m

    def _bin(self, m: Module, b: int, parts: list[Value]) -> Value:
        m.submodules[f"bin_{b}"] = one = Shared(Bin, self.spec)
        m.d.comb += [
            one.parts.eq(Cat(part.word_select(b, part_bits(self.spec)) for part in parts)),
            *(getattr(one, name).eq(getattr(self, name)) for name in ("go", "add", "hand_on")),
        ]
        return one.held
