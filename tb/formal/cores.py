"""What is proved of MixPE's arithmetic: each product core multiplies, for all operands; the element sums up exactly."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

from amaranth.hdl import Array, Assert, Assume, C, Cat, Module, Mux, Signal, Value, signed

from golden.mixpe.formats import ACTS, WEIGHTS, WeightFormat, signed_bits, sum_range
from golden.mixpe.pe import CORE_WEIGHTS, CORES, MULTIPLIER, PESpec
from hdl.arith.delay import delay
from hdl.mixpe import cores
from hdl.mixpe.cores import Core
from hdl.mixpe.operands import weight_operand
from hdl.mixpe.pe import PE
from tb.formal import Claim, Property

PROVED = ("int2", "int3", "int4", "uint4_zero", "e2m1")
"""One weight format for each kind of operand; INT8 is beyond the solver and simulated exhaustively instead (core
``composed`` is proved in halves)."""

HIGH = WeightFormat("high", 5, -8, 8)
"""What core ``composed`` multiplies by beside INT4: the upper half of an INT8 operand."""

GROUP = 4  # only the accumulator's width depends on it


def multiplied(x: Value, code: Value, fmt: WeightFormat) -> Value:
    """The definition: x added up as often as the code says. No core is used."""

    def value(pattern: int) -> int:
        code = pattern - (1 << fmt.bits) if fmt.signed and pattern >> (fmt.bits - 1) else pattern
        return int(fmt.operand(code))

    return times(x, [value(p) for p in range(1 << fmt.bits)], code)


def times(x: Value, numbers: Sequence[int], which: Value) -> Value:
    """x added to zero, or taken from it, as often as that one of ``numbers`` says."""
    sums = [C(0, 1)]
    for _ in range(max(map(abs, numbers))):
        sums.append(sums[-1] + x)
    return Array(sums[n] if n >= 0 else 0 - sums[-n] for n in numbers)[which]


class Operands(Property):
    """Any activation and any code; the code is decoded at the edge and travels in the core's own width."""

    def __init__(self, fmt: WeightFormat):
        super().__init__()
        self.fmt = fmt
        self.x = Signal(signed(ACTS["int8"].bits))
        self.code = Signal(fmt.bits)
        self.inputs += [self.x, self.code]

    def decoded(self, m: Module, core: Core) -> Signal:
        wire = Signal(core.width)
        m.d.comb += wire.eq(core.decode(weight_operand(self.code, self.fmt)))
        return wire


class Product(Operands):
    """The terms' sum is the product, in full and in the declared shape."""

    def __init__(self, core: Any, fmt: WeightFormat):
        super().__init__(fmt)
        self.core = core(fmt.operand_bits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        expected = multiplied(self.x, self.code, self.fmt)
        if self.fmt.signed:
            code = self.code.as_signed()
            m.d.comb += Assume((code >= self.fmt.low) & (code <= self.fmt.high))
        terms = self.core.terms(self.x, self.decoded(m, self.core))
        product = Signal(signed(signed_bits(*sum_range(self.fmt.operands, ACTS["int8"].significands, 1))))
        m.d.comb += [
            product.eq(sum(terms)),
            Assert(sum(terms) == expected),
            Assert(product == expected),
        ]
        return m


class Agreement(Operands):
    """Two cores give the same product."""

    def __init__(self, one: Any, other: Any, fmt: WeightFormat):
        super().__init__(fmt)
        self.cores = one(fmt.operand_bits), other(fmt.operand_bits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        one, other = (sum(core.terms(self.x, self.decoded(m, core))) for core in self.cores)
        m.d.comb += Assert(one == other)
        return m


class Halves(Operands):
    """Core ``composed`` cuts an operand into low + 16*high, high from -8 to 8, and its terms are those of low*x and
    high*x, shifted: with the halves' own products it multiplies, which the solver cannot see in one piece."""

    def __init__(self, core: Any, fmt: WeightFormat):
        super().__init__(fmt)
        self.core = core(fmt.operand_bits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        core, operand = self.core, weight_operand(self.code, self.fmt)
        low, high = core.halves(operand)
        upper = (Cat(C(0, 4), term) for term in core.high.terms(self.x, core.high.decode(high)))
        halves = [*core.low.terms(self.x, core.low.decode(low)), *upper]
        terms = core.terms(self.x, self.decoded(m, core))
        m.d.comb += [
            Assert(low + 16 * high == operand),
            Assert((high >= HIGH.low) & (high <= HIGH.high)),
            *(Assert(term == half.as_signed()) for term, half in zip(terms, halves, strict=True)),
        ]
        return m


class Pair(Operands):
    """Core ``packed`` puts two operands into one as w1*2^shift + w0, and takes any two products p1*2^shift + p0 apart;
    the multiplier between them is the operator ``*``."""

    def __init__(self, core: Any, fmt: WeightFormat):
        super().__init__(fmt)
        self.core = core(fmt.operand_bits)
        self.range = sum_range(fmt.operands, ACTS["int8"].significands, 1)
        self.shift = signed_bits(*self.range)
        self.right = Signal(fmt.bits)
        self.products = [Signal(signed(self.shift), name=f"p{i}") for i in range(2)]
        self.inputs += [self.right, *self.products]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        core, shift = self.core, self.shift
        w0, w1 = (weight_operand(code, self.fmt) for code in (self.code, self.right))
        p0, p1 = self.products
        packed = core.pack(shift, core.decode(w0), core.decode(w1))
        word = Signal(signed(len(packed) + len(self.x)))
        m.d.comb += word.eq((p1 << shift) + p0)
        low, high, borrow = core.split(shift, word)
        m.d.comb += [
            *(Assume((p >= self.range[0]) & (p <= self.range[1])) for p in self.products),
            Assert(packed == (w1 << shift) + w0),
            Assert(len(packed) <= MULTIPLIER),
            Assert(low == p0),
            Assert(high + borrow == p1),
        ]
        return m


class Sums(Operands):
    """The element's sum is what adding up ``multiplied`` gives, ``stages + 1`` cycles later, held until the next."""

    def __init__(self, dut: PE, invariant: bool = True):
        super().__init__(dut.spec.weight_format)
        self.dut = dut
        self.invariant = invariant
        self.last = Signal()
        self.inputs.append(self.last)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = pe = self.dut
        spec = pe.spec
        core = pe.core
        m.d.comb += [
            pe.x_i.eq(self.x),
            pe.w_i.eq(self.decoded(m, core)),
            pe.last_i.eq(self.last),
        ]
        x = delay(m, self.x, 1, "x")
        code = delay(m, self.code, 1, "code")
        last = delay(m, self.last, 1, "last", init=1)
        m.d.comb += [
            Assert(pe.x_o == x.as_unsigned()),
            Assert(pe.w_o == core.decode(weight_operand(code, self.fmt))),
            Assert(pe.last_o == last),
        ]
        x = x.as_signed()
        product = Signal(signed(spec.product_width))
        m.d.comb += product.eq(multiplied(x, code, self.fmt))
        product = delay(m, product, spec.stages - 1, "product_late")
        last = delay(m, last, spec.stages - 1, "last_product", init=1)

        acc = Signal(len(pe.sum))
        result = Signal.like(acc)
        # After a reset the pipeline holds anything, beside a `last` that clears the accumulator.
        product_known = delay(m, C(1, 1), spec.stages - 1, "product_known", init=0)
        acc_known = Signal()
        sum_known = Signal()
        m.d.sync += acc.eq(Mux(last, 0, acc + product))
        with m.If(last):
            m.d.sync += [result.eq(acc + product), acc_known.eq(1), sum_known.eq(acc_known & product_known)]
        m.d.comb += Assert(~sum_known | (pe.sum == result))
        if self.invariant:
            m.d.comb += Assert(~acc_known | (self.probe("dut.acc", acc.shape()) == acc))
        return m


EXACT = "sum of terms == x added or taken w times, in full and in the product's width"
HALVES = "operand == low + 16*high, -8 <= high <= 8, and the terms are those of low*x and 16*high*x"
PAIR = "packed == w1*2^shift + w0; of p1*2^shift + p0 low == p0 and high + borrow == p1"
AGREE = "both cores give the same product"
SUM = "sum == repeated addition over the group, stages + 1 cycles later, held until the next group ends"


def _operands(weight: str) -> str:
    return f"int8 x all codes of {weight}"


def _cores(weight: str) -> list[str]:
    return [core for core in CORES if core != "packed" and weight in CORE_WEIGHTS[core]]


def _element(core: str, stages: int) -> Sums:
    return Sums(PE(PESpec.from_values({"core": core, "stages": stages, "group": GROUP})))


CLAIMS = (
    *(
        Claim(name, EXACT, _operands(weight), partial(Product, cores.CORES[name], WEIGHTS[weight]))
        for weight in PROVED
        for name in _cores(weight)
    ),
    *(
        Claim(f"{a}={b}", AGREE, _operands(weight), partial(Agreement, cores.CORES[a], cores.CORES[b], WEIGHTS[weight]))
        for weight in PROVED
        for a, b in combinations(_cores(weight), 2)
    ),
    *(
        Claim("composed", HALVES, _operands(weight), partial(Halves, cores.Composed, WEIGHTS[weight]))
        for weight in CORE_WEIGHTS["composed"]
    ),
    Claim("two_term", EXACT, "int8 x -8 to 8, the high half of composed", partial(Product, cores.TwoTerm, HIGH)),
    *(
        Claim("packed", PAIR, f"all codes of {weight}, all products", partial(Pair, cores.Packed, WEIGHTS[weight]))
        for weight in PROVED
    ),
    *(
        Claim("PE", SUM, f"{core}, stages {stages}, group {GROUP}", partial(_element, core, stages))
        for core in _cores("int4")
        for stages in (1, 2, 3)
    ),
)
