"""What is proved of the K-Means units: clustering finds the nearest centroid, scales, counts and tables are as
defined."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from amaranth.hdl import Assert, Assume, C, Cat, Module, Mux, Signal, Value, signed

from golden import latency
from golden.kmeans import token
from golden.kmeans.lutgemm import LutGemmSpec
from golden.kmeans.quantizer import BOUNDARY_BITS, SHIFT_BITS
from hdl.arith.bits import index_bits
from hdl.kmeans.cluster import Align, Search, levels
from hdl.kmeans.line import Bin, IndexCounter, code_bits, concat, part_bits
from hdl.kmeans.scale import Exponent, Magnitude
from hdl.kmeans.table import ProductMemory, ProductRows, Table
from tb.formal import Claim, Property

FRACTION = 2
"""Bits of a value that its boundaries do not see, in the proof of the nearest centroid."""

MOST = token.EXPONENTS[1] - token.GRID


def select(cases: Sequence[Value], index: Value) -> Value:
    """Case ``index``, the last one if there are fewer."""
    chosen = cases[-1]
    for i, case in enumerate(cases[:-1]):
        chosen = Mux(index == i, case, chosen)
    return chosen


def wire(m: Module, value: Value, name: str) -> Signal:
    made = Signal(value.shape(), name=name)
    m.d.comb += made.eq(value)
    return made


def clip(value: Value, low: int, high: int) -> Value:
    return Mux(value < low, low, Mux(value > high, high, value))


def integer(m: Module, x: Value) -> Signal:
    """An FP16 number in steps of the smallest one: field after field of its exponent."""
    field, fraction = x[10:15], x[:10]
    magnitude = wire(m, select([fraction, *((fraction + 1024) << f for f in range(31))], field), "their_magnitude")
    return wire(m, Mux(x[-1], -magnitude, magnitude), "their_integer")


def doubled(m: Module, x: Value, above: Value) -> Signal:
    """``floor(2 * x / 2**e)``, saturated: exponent after exponent."""
    twice = integer(m, x) * 2
    top = 1 << (token.VALUE_BITS - 1)
    exact = wire(m, select([twice >> e for e in range(MOST + 1)], above), "their_doubled")
    value = Signal(signed(token.VALUE_BITS), name="their_value")
    m.d.comb += value.eq(clip(exact, -top, top - 1))
    return value


def count(terms: Sequence[Value]) -> Value:
    """How many of them are 1, one after another."""
    return sum(terms, C(0, 1))


def steady(m: Module, value: Value) -> Value:
    """That it is what it was in the cycle before."""
    before = Signal(len(value), name="before_boundaries", reset_less=True)
    begun = Signal(name="begun")
    m.d.sync += [before.eq(value), begun.eq(1)]
    return ~begun | (before == value)


def history(m: Module, go: Value, value: Value, depth: int, name: str) -> list[tuple[Signal, Signal]]:
    """The last values that came with ``go``, the newest first, and whether there were so many since the reset."""
    kept, previous, there = [], value, C(1, 1)
    for i in range(depth):
        mine = Signal(value.shape(), name=f"{name}_{i}", reset_less=True)
        valid = Signal(name=f"{name}_valid_{i}")
        with m.If(go):
            m.d.sync += [mine.eq(previous), valid.eq(there)]
        kept.append((mine, valid))
        previous, there = mine, valid
    return kept


class Aligned(Property):
    """For every FP16 number and every exponent."""

    def __init__(self, dut: Align):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.x, dut.above]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        m.d.comb += [Assume(dut.above <= MOST), Assert(dut.o == doubled(m, dut.x, dut.above))]
        return m


class Steps(Property):
    """For every FP16 number."""

    def __init__(self, dut: Magnitude):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.x]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        exact = integer(m, dut.x)
        m.d.comb += Assert(dut.o == Mux(exact < 0, -exact, exact))
        return m


class Clamped(Property):
    """For every logarithm and every shift: of a sum of zero the smallest one."""

    def __init__(self, dut: Exponent):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.log, dut.zero, dut.shift]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        wide = max(len(dut.log), SHIFT_BITS) + 2
        log, shift = Signal(signed(wide)), Signal(signed(wide))
        m.d.comb += [log.eq(dut.log), shift.eq(dut.shift)]
        m.d.comb += Assert(dut.o == Mux(dut.zero, 0, clip(log - shift, 0, MOST)))
        return m


class Counted(Property):
    """Values come at any time; their boundaries rise, and stay as they are."""

    def __init__(self, dut: Search):
        super().__init__()
        self.dut = dut
        self.limits = self.rising(BOUNDARY_BITS, (1 << dut.bits) - 1)
        self.inputs += [dut.go, dut.value]

    def rising(self, width: int, number: int) -> list[Signal]:
        rising = [Signal(signed(width), name=f"limit_{i}") for i in range(number)]
        self.inputs += rising
        return rising

    def boundaries(self, m: Module) -> list[Value]:
        """In rising order."""
        return list(self.limits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        bits = dut.bits
        m.d.comb += [Assume(a <= b) for a, b in pairwise(self.limits)]
        m.d.comb += Assume(steady(m, Cat(self.limits)))
        boundaries = self.boundaries(m)
        m.d.comb += dut.boundaries.eq(Cat(b for level in levels(boundaries, bits) for b in level))
        for level, (value, valid) in enumerate(history(m, dut.go, dut.value, bits, "their_value")):
            found = self.probe(f"dut.found_{level}", level + 1)
            m.d.comb += Assert(~valid | (self.probe(f"dut.value_{level}", len(value)) == value.as_unsigned()))
            for i, limit in enumerate(boundaries[(1 << (bits - 1 - level)) - 1 :: 1 << (bits - 1 - level)]):
                m.d.comb += Assert(~valid | ((found > i) == (limit <= value)))
        self.check(m, boundaries, value, valid)
        return m

    def check(self, m: Module, boundaries: list[Value], value: Value, valid: Value) -> None:
        """What is to hold of the value that ``dut.o`` belongs to."""
        m.d.comb += Assert(~valid | (self.dut.o == count([b <= value for b in boundaries])))


class Nearest(Counted):
    """Boundaries are those between centroids; no other centroid is nearer to a value, with its fraction; of two as near
    it is the upper one."""

    def __init__(self, dut: Search, width: int):
        self.width = width  # of a centroid
        super().__init__(dut)
        self.fraction = Signal(FRACTION)
        self.inputs += [self.fraction]

    def rising(self, width: int, number: int) -> list[Signal]:
        return super().rising(self.width, number + 1)

    def boundaries(self, m: Module) -> list[Value]:
        between = [Signal(signed(BOUNDARY_BITS), name=f"boundary_{i}") for i in range(len(self.limits) - 1)]
        m.d.comb += [b.eq(low + high) for b, (low, high) in zip(between, pairwise(self.limits), strict=True)]
        return list(between)

    def check(self, m: Module, boundaries: list[Value], value: Value, valid: Value) -> None:
        x = wire(m, (value << FRACTION) + self.fraction, "x")
        away = []
        for i, centroid in enumerate(self.limits):
            difference = wire(m, (centroid << (1 + FRACTION)) - x, f"difference_{i}")
            away.append(wire(m, Mux(difference < 0, -difference, difference), f"away_{i}"))
        mine = wire(m, select(away, self.dut.o), "mine")
        chosen = wire(m, select(self.limits, self.dut.o), "chosen")
        for i, (centroid, other) in enumerate(zip(self.limits, away, strict=True)):
            further = (self.dut.o >= i) | (mine < other) | (chosen == centroid)
            m.d.comb += Assert(~valid | ((mine <= other) & further))


class Pairs(Property):
    """Codes of any indices, present or not, at any time."""

    def __init__(self, dut: IndexCounter):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.go, dut.codes]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        spec = dut.spec
        [(codes, valid)] = history(m, dut.go, dut.codes, 1, "their_codes")
        each = [codes.word_select(i, code_bits(spec)) for i in range(dut.inputs)]
        present = [code[spec.act_bits] for code in each]
        pairs = [Cat(code[spec.act_bits + 1 :], code[: spec.act_bits]) for code in each]
        counters = [dut.o.word_select(b, part_bits(spec)) for b in range(spec.bins)]
        for b, counter in enumerate(counters):
            mine = count([there & (pair == b) for there, pair in zip(present, pairs, strict=True)])
            m.d.comb += Assert(~valid | (counter == mine))
        m.d.comb += Assert(~valid | (count(counters) == count(present)))
        return m


class Added(Property):
    """Groups of any length, of any parts: beside the bin stands the sum of those that belong to the group."""

    def __init__(self, dut: Bin):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.go, dut.parts, dut.add, dut.hand_on]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        spec, width = dut.spec, dut.spec.bin_width
        depth = latency.tree(spec.units)
        behind = history(m, dut.go, dut.parts, depth, "their_parts")
        parts, valid = behind[-1] if behind else (dut.parts, C(1, 1))
        words = [parts.word_select(u, part_bits(spec)) for u in range(spec.units)]
        now = sum(words if spec.reducer == "histogram" else [word.as_signed() for word in words], C(0, 1))
        total, after, group = (Signal(width, name=f"their_{name}") for name in ("total", "after", "group"))
        handed = Signal()
        m.d.comb += [
            Assume(~dut.hand_on | dut.go),
            Assume(~dut.add | valid),
            after.eq(total + Mux(dut.add, now, 0)),
            Assert(~handed | (dut.held == group)),
            Assert(self.probe("dut.so_far", width) == total),
        ]
        if behind:  # the one register of a tree of two units
            width = part_bits(spec) + 1
            m.d.comb += Assert(~valid | (self.probe("dut.part_1_0", width) == Value.cast(now)[:width]))
        with m.If(dut.go):
            m.d.sync += total.eq(Mux(dut.hand_on, 0, after))
        with m.If(dut.hand_on):
            m.d.sync += [group.eq(after), handed.eq(1)]
        return m


class Loaded(Property):
    """Tables of any entries come at any time, and are exchanged at any time at which one is complete: beside stand the
    entries of the one in use, ``T[a, w]`` in rising order, and those that have come since."""

    def __init__(self, dut: Table):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.lut.valid, Value.cast(dut.lut.payload), dut.swap, dut.row, Value.cast(dut.index)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        spec, lanes = dut.spec, dut.spec.lut_lanes
        came = Signal(range(spec.lut_beats + 1))
        begun = Signal()  # a table is in use
        using, coming = (
            [Signal(spec.entry_bits, name=f"their_{name}_{i}") for i in range(spec.entries)]
            for name in ("using", "coming")
        )
        full = came == spec.lut_beats
        keep = dut.lut.valid & dut.lut.ready
        m.d.comb += [Assume(~dut.swap | full), Assert(dut.full == full), Assert(dut.lut.ready == ~full)]
        with m.If(keep):
            m.d.sync += came.eq(came + 1)
        for i, entry in enumerate(coming):
            with m.If(keep & (came == i // lanes)):
                m.d.sync += entry.eq(Value.cast(dut.lut.payload.data[i % lanes]))
        with m.If(dut.swap):
            m.d.sync += [came.eq(0), begun.eq(1), *(mine.eq(new) for mine, new in zip(using, coming, strict=True))]
        m.d.comb += Assert(came <= spec.lut_beats)
        m.d.comb += Assert(self.probe("dut.beat", index_bits(spec.lut_beats)) == Mux(full, 0, came))
        rows = [[Cat(table[r * lanes : (r + 1) * lanes]) for r in range(spec.lut_beats)] for table in (using, coming)]
        for r, (mine, new) in enumerate(zip(*rows, strict=True)):
            used, next_ = self.stored(r, len(mine))
            m.d.comb += [Assert(~begun | (used == mine)), Assert((came <= r) | (next_ == new))]
        m.d.comb += Assert(~begun | self.seen(m, using))
        return m

    def stored(self, r: int, width: int) -> tuple[Value, Value]:
        """What the unit holds of row r of the table in use, and of the next one."""
        raise NotImplementedError

    def seen(self, m: Module, entries: list[Signal]) -> Value:
        """Whether the unit shows these entries."""
        raise NotImplementedError


class Rows(Loaded):
    """Of :class:`ProductMemory`: a row of sums meets its factors."""

    def stored(self, r: int, width: int) -> tuple[Value, Value]:
        beats = self.dut.spec.lut_beats
        banks = [self.probe(f"dut.stored[{bank * beats + r}]", width) for bank in range(2)]
        other = self.probe("dut.in_use")
        return Mux(other, banks[1], banks[0]), Mux(other, banks[0], banks[1])

    def seen(self, m: Module, entries: list[Signal]) -> Value:
        spec = self.dut.spec
        rows = [Cat(entries[b] for b in range(spec.entries) if b // spec.per_cycle == r) for r in range(spec.reduce)]
        return (self.dut.row >= spec.reduce) | (self.dut.factors == select(rows, self.dut.row))


class Looked(Loaded):
    """Of :class:`ProductRows`, with what a line does: a pair of indices finds its product, no index finds 0."""

    def __init__(self, dut: Table):
        super().__init__(dut)
        self.weight = Signal(dut.spec.weight_bits)
        self.inputs += [self.weight]

    def stored(self, r: int, width: int) -> tuple[Value, Value]:
        using = self.probe("dut.in_use", width * self.dut.spec.lut_beats)
        return using.word_select(r, width), self.probe(f"dut.coming_{r}", width)

    def seen(self, m: Module, entries: list[Signal]) -> Value:
        dut, spec = self.dut, self.dut.spec
        right = []
        for i, lane in enumerate(dut.index):
            width = len(dut.operands) // spec.codes
            product = concat(spec, dut.operands.word_select(i, width), self.weight)
            expected = select(entries, Cat(self.weight, lane.index))
            right.append(product == Mux(lane.valid, expected, 0))
        return Cat(right).all()


CLUSTER = "the index is the number of boundaries not above the value"
NEAREST = "the index is that of the nearest centroid, of two as near the upper one"
ALIGN = "floor(2x / 2^e), saturated, by a wide definition"
MAGNITUDE = "|x| in steps of the smallest FP16 number"
EXPONENT = "the logarithm less the shift, from 0 to 35, 0 of a sum of zero"
COUNTERS = "each counter is the number of codes of its pair, their sum that of all codes present"
BIN = "a group's sum is that of the parts that were added to it"
FACTORS = "a row of sums meets the products of its pairs, whatever loads meanwhile"
PRODUCT = "two indices find their product, whatever loads meanwhile; without an index it is 0"


def gemm(**parameters: Any) -> LutGemmSpec:
    return LutGemmSpec(**{"lines": 1, "codes": 4, "k_max": 8, "n_max": 2} | parameters)


def _clamped(bits: int) -> Clamped:
    return Clamped(Exponent(bits))


def _counted(bits: int) -> Counted:
    return Counted(Search(bits))


def _nearest(bits: int, width: int) -> Nearest:
    return Nearest(Search(bits), width)


def _pairs(act: int, weight: int, codes: int) -> Pairs:
    return Pairs(IndexCounter(gemm(act_bits=act, weight_bits=weight, codes=codes)))


def _added(reducer: str, codes: int) -> Added:
    return Added(Bin(gemm(act_bits=1, weight_bits=1, reducer=reducer, codes=codes, k_max=2 * codes)))


def _rows(act: int, weight: int, width: int) -> Rows:
    return Rows(ProductMemory(gemm(act_bits=act, weight_bits=weight, width=width)))


def _looked(act: int, weight: int) -> Looked:
    return Looked(ProductRows(gemm(act_bits=act, weight_bits=weight, reducer="direct", codes=2)))


CLAIMS = (
    Claim("kmeans_quantizer", ALIGN, "every FP16 number and exponent", lambda: Aligned(Align())),
    Claim("kmeans_quantizer", MAGNITUDE, "every FP16 number", lambda: Steps(Magnitude())),
    *(Claim("kmeans_quantizer", EXPONENT, f"logarithms of {bits} bits", partial(_clamped, bits)) for bits in (4, 6)),
    *(Claim("kmeans_quantizer", CLUSTER, f"{bits} bits", partial(_counted, bits)) for bits in (1, 2, 3, 4)),
    *(
        Claim(
            "kmeans_quantizer",
            NEAREST,
            f"{bits} bits, INT{w} centroids",
            partial(_nearest, bits, w),
        )
        for bits, w in ((1, 8), (2, 4))
    ),
    *(
        Claim("lutgemm", COUNTERS, f"{codes} codes of {act} + {weight} bits", partial(_pairs, act, weight, codes))
        for act, weight, codes in ((1, 1, 4), (2, 1, 4), (2, 2, 4))
    ),
    *(
        Claim("lutgemm", BIN, f"{reducer}, {codes} codes", partial(_added, reducer, codes))
        for reducer in ("histogram", "bucket", "direct")
        for codes in (4, 32)
    ),
    *(
        Claim("lutgemm", FACTORS, f"{1 << act} x {1 << weight}, {width} at a time", partial(_rows, act, weight, width))
        for act, weight, width in ((1, 1, 1), (1, 2, 2), (1, 1, 4))
    ),
    *(
        Claim("lutgemm", PRODUCT, f"{1 << act} x {1 << weight}", partial(_looked, act, weight))
        for act, weight in ((1, 1), (1, 2), (2, 1))
    ),
)
