"""What is proved of the top-k engine's selectors, whole: what comes out is, one by one, what the definition says.

For any keys, missing ones included, and any number of results, from reset. Keys have few bits: a selector compares, so
three bits have room for all orders and ties of eight keys.
"""

from typing import Any

from amaranth.hdl import Array, Assert, C, Cat, Module, Mux, Signal, Value

from golden.orizuru.engine import RANKED, TIES, OrizuruSpec
from golden.orizuru.keys import KeyFormat
from hdl.arith.bits import count_ones, named
from hdl.orizuru.engine import SELECTORS
from hdl.orizuru.shape import LARGER, NOT_LARGER
from hdl.orizuru.threshold import Thresholds
from tb.formal import ABC, Claim, Property

N = 8
LANES = 4
BITS = 3
FEWER = {("memory", "order"): 2, ("memory", "paper"): 1}  # its many cycles take the solver too long otherwise


class Narrow(OrizuruSpec):
    """An engine for keys of few bits."""

    @property
    def key_format(self) -> KeyFormat:
        bits = FEWER.get((self.variant, self.ties), BITS)
        return KeyFormat(f"uint{bits}", bits, "uint")


class OneVector(Property):
    """A vector of any keys, some of them missing, goes in; cycle ``within`` at the latest all is out."""

    def __init__(self, spec: OrizuruSpec, dut: Any, within: int):
        super().__init__()
        self.spec = spec
        self.dut = dut
        self.within = within

    def constant(self, m: Module, width: int, name: str) -> Signal:
        """Anything, the same in all cycles but the first."""
        self.inputs.append(free := Signal(width, name=f"any_{name}"))
        value = Signal(width, name=name, reset_less=True)
        with m.If(self.first):
            m.d.sync += value.eq(free)
        return value

    def vector(self, m: Module) -> None:
        """``keys``, ``there``, and the beats that carry them."""
        spec = self.spec
        self.first = Signal(init=1)
        self.clock = Signal(range(self.within + 2))
        m.d.sync += [self.first.eq(0), self.clock.eq(self.clock + (self.clock <= self.within))]
        self.there = self.constant(m, spec.n, "there")
        self.keys = [self.constant(m, spec.key_format.bits, f"key_{i}") for i in range(spec.n)]
        self.beat = Signal(range(spec.rows + 1))
        self.waits = named(m, ~self.first & (self.beat != spec.rows), "beat_waits")
        self.ends = self.beat == spec.rows - 1
        missing = spec.rows * spec.lanes - spec.n
        keys, there = Array([*self.keys, *[C(0, 1)] * missing]), Array(Cat(self.there, C(0, missing)))
        self.lanes = [(keys[self.beat * spec.lanes + i], there[self.beat * spec.lanes + i]) for i in range(spec.lanes)]

    def before(self, m: Module, smallest: bool) -> list[list[Value]]:
        """For each two keys whether the first one of them comes before the second one by the definition."""
        other_way = smallest and self.spec.ties == "order"
        table = []
        for i, a in enumerate(self.keys):
            sooner = [C(i > j if other_way else i < j, 1) for j in range(self.spec.n)]
            ahead = [(a < b) if smallest else (a > b) for b in self.keys]
            side = "smallest" if smallest else "largest"
            table.append(
                [
                    named(m, w | ((a == b) & s), f"{side}_{i}_before_{j}")
                    for j, (w, b, s) in enumerate(zip(ahead, self.keys, sooner, strict=True))
                ]
            )
        return table


class Selected(OneVector):
    """A selector's winners, taken as soon as they are offered, are the next ones by rank; with variant ``radix`` those
    of rank below k, the next ones by index. All that are wanted come in time; with ``ties=order`` none comes twice."""

    def __init__(self, spec: OrizuruSpec, within: int):
        super().__init__(spec, SELECTORS[spec.variant](spec), within)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        self.vector(m)
        write = named(m, self.waits & ~dut.hold, "writes")
        swapped, spec = Signal(), self.spec
        swap = named(m, (self.beat == spec.rows) & dut.ready & ~swapped, "swaps")
        asked = self.constant(m, len(dut.results), "asked")
        most = count_ones(self.there) << (spec.trees == 2 and spec.ties == "paper")
        results = named(m, Mux(asked < most, asked, most), "results")
        m.d.sync += [self.beat.eq(self.beat + write), swapped.eq(swapped | swap)]
        m.d.comb += [
            *(slot.eq(Cat(*lane)) for slot, lane in zip(dut.slots, self.lanes, strict=True)),
            dut.write.eq(write),
            dut.row.eq(self.beat),
            dut.last.eq(write & self.ends),
            dut.swap.eq(swap),
            dut.results.eq(results),
        ]
        outs = [self._side(m, t, results, swap, swapped) for t in range(spec.trees)]
        if spec.trees == 2 and spec.ties == "order":
            m.d.comb += Assert(~(outs[0] & outs[1]).any())
        return m

    def _side(self, m: Module, t: int, results: Value, swap: Value, swapped: Value) -> Value:
        """Asserts of one tree. Returns which keys have come out of it."""
        dut, spec = self.dut, self.spec
        winner, rule = dut.winners[t], dut.shape.rules[t]
        wanted = named(m, (results + (spec.trees - 1 - t)) >> (spec.trees - 1), f"wanted_{t}")
        count, live = Signal(range(spec.n + 1), name=f"count_{t}"), Signal(spec.n, name=f"live_{t}")
        take = named(m, swapped & winner.valid & (count < wanted), f"takes_{t}")
        row, lane = winner.index[dut.shape.lane_bits :], winner.index[: dut.shape.lane_bits]
        index = named(m, (row * spec.lanes + lane)[: spec.index_width], f"index_{t}")
        with m.If(swap):
            m.d.sync += live.eq(self.there)
        with m.Elif(take):
            m.d.sync += [count.eq(count + 1), live.eq(live & ~(C(1, spec.n) << index))]
        before = self.before(m, rule != LARGER)
        if spec.variant == "radix":
            ranks = [count_ones(Cat(before[i][j] & self.there[i] for i in range(spec.n))) for j in range(spec.n)]
            members = Cat((rank < wanted) for rank in ranks) & live
            sooner = [[C(i > j if rule == NOT_LARGER else i < j, 1) for j in range(spec.n)] for i in range(spec.n)]
        else:
            members, sooner = live, before
        left_behind = Cat(members[i] & Array(sooner[i])[index] & (index != i) for i in range(spec.n)).any()
        good = Array(members)[index] & (Array(self.keys)[index] == winner.word) & ~left_behind
        m.d.comb += [dut.take[t].eq(take), Assert(~take | good)]
        m.d.comb += Assert((self.clock <= self.within) | (count == wanted))
        return Mux(swapped, self.there & ~live, 0)


class Beyond(OneVector):
    """Results of variant ``threshold`` are the keys at a threshold or beyond, by index, not past the k-th of a side;
    tlast comes with the last one, in time. The sink stalls as it likes."""

    def __init__(self, spec: OrizuruSpec, within: int):
        super().__init__(spec, Thresholds(spec), within)
        self.stall = Signal()
        self.inputs.append(self.stall)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        self.vector(m)
        spec = self.spec
        upper, lower = (self.constant(m, spec.key_format.bits, name) for name in ("upper", "lower"))
        k = self.constant(m, len(dut.k), "k")
        m.d.sync += self.beat.eq(self.beat + (self.waits & dut.i.ready))
        m.d.comb += [
            *(lane.eq(Cat(*key)) for lane, key in zip(dut.i.payload.data, self.lanes, strict=True)),
            dut.i.payload.last.eq(self.ends),
            dut.i.valid.eq(self.waits),
            dut.o.ready.eq(~self.stall),
            dut.begin.eq(~self.first),
            *(dut.upper.eq(upper), dut.lower.eq(lower), dut.k.eq(k)),
        ]
        above = named(m, self.there & Cat(key >= upper for key in self.keys), "above")
        below = named(m, self.there & Cat(key <= lower for key in self.keys) & ~above, "below")
        wanted = [side[i] & (count_ones(side[:i]) < k) for side in (above, below) for i in range(spec.n)]
        hits = named(m, Cat(a | b for a, b in zip(wanted[: spec.n], wanted[spec.n :], strict=True)), "hits")
        out, over = Signal(spec.n), Signal()
        result, sent = dut.o.payload.data[0], named(m, dut.o.valid & dut.o.ready, "sent")
        following = named(m, hits & ~out, "following")
        one = named(m, following & ~(following - 1)[: spec.n], "one")  # the first of them
        with m.If(sent):
            m.d.sync += [out.eq(out | one), over.eq(over | dut.o.payload.last)]
        here = C(1, spec.n) << result.index
        right = (here == one) & (Array(self.keys)[result.index] == result.value)
        right &= result.smallest == (below & one).any()
        m.d.comb += [
            Assert(~sent | (~over & (result.valid == following.any()))),
            Assert(~sent | ~result.valid | right),
            Assert(~sent | (dut.o.payload.last == ~(following & ~one).any())),
        ]
        slow = Signal(range(self.within + 1))
        m.d.sync += slow.eq(slow + self.stall)
        m.d.comb += Assert((self.clock < self.within) | (slow > 0) | over)
        return m


RANKS = "winners are the next ones by rank, all wanted ones in time; order: no key twice"
MEMBERS = "winners are the keys of rank below k, by index, in time; order: no key twice"
BEYOND = "results are the keys beyond a threshold, by index, k a side; tlast with the last"


def spec_of(variant: str, ties: str = "order") -> Narrow:
    return Narrow(n=N, lanes=LANES, k_max=N, variant=variant, ties=ties)


def time_of(spec: Narrow) -> int:
    """Cycles until all results of a full vector are out, the first beat being written in cycle 1."""
    if spec.variant == "threshold":
        return spec.n + spec.rows + 2
    timing = spec.timing
    written = 1 + (spec.rows - 1) * timing.load
    return written + timing.settle + 1 + timing.result(2 * N - 1, 2 * N)


def of(spec: Narrow) -> OneVector:
    """The property of a variant."""
    return (Beyond if spec.variant == "threshold" else Selected)(spec, time_of(spec))


TEXTS = {"threshold": BEYOND, "radix": MEMBERS}


def claim(variant: str, ties: str = "order") -> Claim:
    spec = spec_of(variant, ties)
    size = f"{N} keys of {spec.key_format.bits} bits, {variant}, {ties}"
    return Claim("orizuru", TEXTS.get(variant, RANKS), size, lambda: of(spec), time_of(spec) + 4, ABC)


CLAIMS = (
    *(claim(variant, ties) for variant in (*RANKED, "radix") for ties in TIES),
    claim("threshold"),
)
