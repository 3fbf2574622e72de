"""What is proved of MixPE's arithmetic: each product core multiplies, for all operands; the element sums up exactly."""

from functools import partial
from itertools import combinations
from typing import Any

from amaranth.hdl import Array, Assert, C, Module, Mux, Signal, Value, signed

from golden.mixpe.formats import ACTS, WEIGHTS
from golden.mixpe.pe import PESpec
from hdl.arith.delay import delay
from hdl.mixpe.cores import CORES, operand, product_shape
from hdl.mixpe.pe import PE
from tb.formal import Claim, Property

OFFSETS = tuple(dict.fromkeys(w.offset for w in WEIGHTS.values()))

GROUP = 4  # only the accumulator's width depends on it


def multiplied(x: Value, code: Value, offset: int) -> Value:
    """The definition: x added to zero, or taken from it, as often as the code says. No core is used."""
    return Array(_times(x, v - offset if offset or v < 8 else v - 16) for v in range(16))[code]


def _times(x: Value, count: int) -> Value:
    total = C(0, 1)
    for _ in range(abs(count)):
        total = total + x
    return total if count >= 0 else 0 - total


class Operands(Property):
    """Any activation and any code; the code is decoded at the edge and travels in the core's own width."""

    def __init__(self, offset: int):
        super().__init__()
        self.offset = offset
        self.x = Signal(signed(ACTS["int8"].bits))
        self.code = Signal(4)
        self.inputs += [self.x, self.code]

    def decoded(self, m: Module, core: Any) -> Signal:
        wire = Signal(core.width)
        m.d.comb += wire.eq(core.decode(operand(self.code, self.offset)))
        return wire


class Product(Operands):
    """The terms' sum is the product, in full and in the declared shape."""

    def __init__(self, core: Any, offset: int):
        super().__init__(offset)
        self.core = core

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        expected = multiplied(self.x, self.code, self.offset)
        terms = self.core.terms(self.x, self.decoded(m, self.core))
        product = Signal(product_shape(len(self.x)))
        m.d.comb += [
            product.eq(sum(terms)),
            Assert(sum(terms) == expected),
            Assert(product == expected),
        ]
        return m


class Agreement(Operands):
    """Two cores give the same product."""

    def __init__(self, one: Any, other: Any, offset: int):
        super().__init__(offset)
        self.cores = one, other

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        one, other = (sum(core.terms(self.x, self.decoded(m, core))) for core in self.cores)
        m.d.comb += Assert(one == other)
        return m


class Sums(Operands):
    """The element's sum is what adding up ``multiplied`` gives, ``stages + 1`` cycles later, held until the next."""

    def __init__(self, dut: PE, invariant: bool = True):
        super().__init__(WEIGHTS[dut.spec.weight].offset)
        self.dut = dut
        self.invariant = invariant
        self.last = Signal()
        self.inputs.append(self.last)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = pe = self.dut
        spec = pe.spec
        core: Any = CORES[spec.core]
        m.d.comb += [
            pe.x_i.eq(self.x),
            pe.w_i.eq(self.decoded(m, core)),
            pe.last_i.eq(self.last),
        ]
        x = delay(m, self.x, 1, "x")
        code = delay(m, self.code, 1, "code")
        last = delay(m, self.last, 1, "last", init=1)
        m.d.comb += [
            Assert(pe.x_o == x),
            Assert(pe.w_o == core.decode(operand(code, self.offset))),
            Assert(pe.last_o == last),
        ]
        product = Signal(product_shape(len(x)))
        m.d.comb += product.eq(multiplied(x, code, self.offset))
        product = delay(m, product, spec.stages - 1, "product_late")
        last = delay(m, last, spec.stages - 1, "last_product", init=1)

        acc = Signal.like(pe.sum)
        result = Signal.like(pe.sum)
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
AGREE = "both cores give the same product"
SUM = "sum == repeated addition over the group, stages + 1 cycles later, held until the next group ends"


def _operands(offset: int) -> str:
    return f"int8 x all 16 codes, offset {offset}"


def _element(core: str, stages: int) -> Sums:
    return Sums(PE(PESpec.from_values({"core": core, "stages": stages, "group": GROUP})))


CLAIMS = (
    *(
        Claim(name, EXACT, _operands(offset), partial(Product, core, offset))
        for name, core in CORES.items()
        for offset in OFFSETS
    ),
    *(
        Claim(f"{a}={b}", AGREE, _operands(offset), partial(Agreement, CORES[a], CORES[b], offset))
        for a, b in combinations(CORES, 2)
        for offset in OFFSETS
    ),
    *(
        Claim("PE", SUM, f"{core}, stages {stages}, group {GROUP}", partial(_element, core, stages))
        for core in CORES
        for stages in (1, 2, 3)
    ),
)
