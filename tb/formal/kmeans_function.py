"""What is proved of the unit ``kmeans_function``: whole tables in turn, counts that miss nothing, sums as defined."""

from functools import partial
from itertools import pairwise
from typing import Any

from amaranth.hdl import Assert, Assume, C, Cat, Module, Mux, Signal, Value, signed

from golden.kmeans.function import MOMENTS, KMeansFunctionSpec
from hdl.kmeans.function_histogram import Histogram
from hdl.kmeans.function_moments import Moments
from hdl.kmeans.function_turns import Turns
from tb.formal import Claim, Property


class Tables(Property):
    """Beside the control stands a count of the entries written since the tables were exchanged."""

    def __init__(self, dut: Turns):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.cfg.valid, Value.cast(dut.cfg.payload), dut.valid, dut.ended, dut.hold]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        entries, bits = dut.spec.entries, dut.spec.bits
        written = Signal(range(entries + 1))
        before = Signal()  # the table of the cycle before
        begun = Signal()  # it served a vector
        exchanged = dut.bank != before
        since = Signal.like(written)
        m.d.comb += since.eq(Mux(exchanged, 0, written))
        m.d.sync += [before.eq(dut.bank), written.eq(since + dut.write), begun.eq(begun | dut.open)]
        m.d.comb += [
            Assume(~dut.ended | dut.open),
            Assert(~exchanged | (written == entries)),
            Assert(~dut.open | begun | exchanged),
            Assert(~dut.write | ((dut.address[-1] != dut.bank) & (dut.address[:bits] == since))),
            Assert(~(dut.write & dut.hold)),
            Assert(self.probe("dut.complete") == (since == entries)),
            Assert(self.probe("dut.place", bits) == since[:bits]),
            Assert(self.probe("dut.some") == (begun | dut.open)),
        ]
        return m


class Counts(Property):
    """Beside the histogram indices are counted one by one, and forgotten when the counts are taken."""

    def __init__(self, dut: Histogram):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.accept, dut.i.as_value(), dut.bank, dut.taken]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        spec = dut.spec
        ended, bank = Signal(), Signal()
        waits = ended & ~dut.taken
        with m.If(~waits):
            m.d.sync += ended.eq(dut.accept & dut.i.last)
        with m.If(dut.accept):
            m.d.sync += bank.eq(dut.bank)
        m.d.comb += [Assume(~dut.accept | ~waits), Assume(~dut.taken | ended), Assert(dut.ended == ended)]
        m.d.comb += Assert(~ended | (dut.ended_bank == bank))
        theirs = []
        for j in range(spec.entries):
            count = Signal(spec.count_bits, name=f"their_{j}")
            now: Value = Mux(ended & dut.taken, 0, count)
            for lane in range(spec.lanes):
                beat = dut.i.data[lane]
                now = Mux(dut.accept & beat.valid & (beat.index == j), now + 1, now)[: spec.count_bits]
            m.d.sync += count.eq(now)
            m.d.comb += Assert(dut.counts.word_select(j, spec.count_bits) == count)
            theirs.append(count)
        m.d.comb += Assert(dut.count == sum(theirs, C(0, 1))[: spec.count_bits])
        return m


class Sums(Property):
    """Beside the sums stands what they must be, added up from the whole table when the counts are taken: three
    vectors may be under way."""

    def __init__(self, dut: Moments):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.valid, dut.counts, dut.count, dut.bank, dut.o.ready]
        self.inputs += [dut.write, dut.address, dut.first, dut.second]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        layout = Value.cast(dut.o.payload).shape()
        held = [Signal(layout, name=f"their_{i}") for i in range(3)]
        waiting = Signal(range(4))
        get = dut.o.valid & dut.o.ready
        rest = waiting - get
        m.d.sync += waiting.eq(rest + dut.taken)
        with m.If(get):
            m.d.sync += [sums.eq(after) for sums, after in pairwise(held)]
        for place, sums in enumerate(held):
            with m.If(dut.taken & (rest == place)):
                m.d.sync += sums.eq(self.expected())
        written = dut.address[-1]
        m.d.comb += [
            Assume(~dut.write | ~((dut.busy & (written == dut.reads)) | (dut.valid & (written == dut.bank)))),
            Assert(~dut.o.valid | ((waiting != 0) & (Value.cast(dut.o.payload) == held[0]))),
            Assert(~dut.taken | (rest < 3)),
        ]
        return m

    def expected(self) -> Value:
        """Count and sums of the vector that is taken, by the definition."""
        spec, width = self.dut.spec, self.dut.spec.moment_bits
        sums = [C(0, signed(1)) for _ in MOMENTS]
        for j in range(spec.entries):
            words = [self.probe(f"dut.entries[{j + bank * spec.entries}]", 2 * width) for bank in range(2)]
            word = Mux(self.dut.bank, words[1], words[0])
            count = self.dut.counts.word_select(j, spec.count_bits)
            for which in range(len(MOMENTS)):
                factor = word.word_select(which, width).as_signed()
                for times in range(spec.n):
                    sums[which] = sums[which] + Mux(count > times, factor, 0)
        return Cat(
            self.dut.count, *((Cat(total, total[-1].replicate(spec.sum_bits))[: spec.sum_bits]) for total in sums)
        )


TURNS = "a table is used once all its entries are written, in order, and never written while it is used"
COUNTS = "counts are those of indices counted one by one, the number of all is their sum"
SUMS = "count and sums are those of each vector, added up from the whole table, in order"


def spec(bits: int, lanes: int, n: int, moment_bits: int) -> KMeansFunctionSpec:
    return KMeansFunctionSpec(bits=bits, lanes=lanes, n=n, moment_bits=moment_bits)


def _tables(bits: int) -> Tables:
    return Tables(Turns(spec(bits, 1, 1, 2)))


def _counts(bits: int, lanes: int, n: int) -> Counts:
    return Counts(Histogram(spec(bits, lanes, n, 2)))


def _sums(bits: int, n: int, moment_bits: int) -> Sums:
    return Sums(Moments(spec(bits, 1, n, moment_bits)))


CLAIMS = (
    *(Claim("kmeans_function", TURNS, f"{1 << bits} entries", partial(_tables, bits)) for bits in (1, 2, 4)),
    *(
        Claim(
            "kmeans_function", COUNTS, f"{1 << bits} indices, {lanes} lanes, n = {n}", partial(_counts, bits, lanes, n)
        )
        for bits, lanes, n in ((1, 1, 3), (1, 3, 7), (2, 2, 7))
    ),
    *(
        Claim("kmeans_function", SUMS, f"{1 << bits} entries of 2 bits, n = {n}", partial(_sums, bits, n, 2), cycles)
        for bits, n, cycles in ((1, 1, 12), (2, 1, 12), (1, 3, 12))
    ),
)
