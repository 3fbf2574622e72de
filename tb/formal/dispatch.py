"""What is proved of ``dispatch``: walks find every expert once, entries go out in the order of a stable sort."""

from functools import partial
from typing import Any

from amaranth.hdl import Assert, Assume, C, Cat, Module, Mux, Signal, Value

from golden.moe.dispatch import DispatchSpec
from hdl.moe.dispatch import Dispatch
from hdl.moe.walk import Walk
from tb.formal import ABC, Claim, Property


class Walked(Property):
    """Any mask, at any time: what comes is the smallest expert of the mask that is not yet through."""

    def __init__(self, dut: Walk):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.begin, dut.mask, dut.go]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        n = dut.experts
        mask = Signal(n, name="their_mask", reset_less=True)
        place = Signal(range(n + 1), name="their_place", reset_less=True)  # all below are through
        busy = Signal(name="their_busy")
        ahead = [mask[e] & (place <= e) for e in range(n)]
        with m.If(dut.begin):
            m.d.sync += [mask.eq(dut.mask), place.eq(0), busy.eq(1)]
        with m.Elif(dut.go):
            m.d.sync += [place.eq(dut.expert + 1), busy.eq(dut.some & ~dut.last)]
        right = [
            (dut.expert == e) & (dut.last == ~Cat(ahead[e + 1 :]).any()) | ~ahead[e] | Cat(ahead[:e]).any()
            for e in range(n)
        ]
        m.d.comb += [
            Assume(~dut.begin | dut.free),
            Assume(~dut.go | dut.busy),
            Assert(dut.busy == busy),
            Assert(~busy | (dut.some == Cat(ahead).any())),
            Assert(~busy | dut.some | ((dut.expert == 0) & dut.last)),
            Assert(~busy | (self.probe("dut.left", n) == Cat(ahead))),
            Assert(~busy | Cat(right).all()),
        ]
        return m


class Entry:
    """What has come: one entry, with the batch that it is of."""

    def __init__(self, spec: DispatchSpec, i: int, batch: Signal):
        self.there = Signal(name=f"there_{i}")
        self.batch = Signal(len(batch), name=f"batch_{i}")
        widths = {f.name: f.width for p in ("i", "o") for f in spec.port(p).fields}
        widths["weight"] = 1
        self.fields = {name: Signal(widths[name], name=f"{name}_{i}") for name in ("expert", "token", "slot", "weight")}

    def of(self, batch: Value, expert: Value) -> Value:
        return self.there & (self.batch == batch) & (self.fields["expert"] == expert)


class Sorted(Property):
    """Any beats at any time, of up to ``most`` entries and seven batches in all; all of them are remembered. Weights
    differ in one bit: they are carried, and nothing looks at them."""

    def __init__(self, dut: Dispatch, most: int):
        super().__init__()
        self.dut = dut
        self.batch = Signal(3, name="their_batch")  # of the beat that comes
        self.entries = [Entry(dut.spec, i, self.batch) for i in range(most)]
        self.inputs += [dut.i.valid, dut.i.payload.as_value(), *(getattr(dut, p).ready for p in ("job", "o", "stats"))]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        self._remember(m)
        self._entries(m)
        self._jobs(m)
        self._stats(m)
        return m

    def _remember(self, m: Module) -> None:
        """By the definition: number of the token, of the beat in it, the same expert not twice in a token."""
        spec, i = self.dut.spec, self.dut.i
        beat, last, accept = i.payload.data[0], i.payload.last, i.valid & i.ready
        token = Signal(4, name="their_token")
        slot = Signal(4, name="their_slot")
        number = Signal(range(len(self.entries) + 2), name="their_number")
        again = Cat(e.of(self.batch, beat.expert) & (e.fields["token"] == token) for e in self.entries).any()
        sound = (token < spec.tokens) & (slot < spec.slots) & (beat.expert < spec.experts) & ~again
        comes = Signal(name="comes")
        m.d.comb += [
            Assume(~beat.weight[1:].any()),
            comes.eq(accept & beat.valid & ~beat.pruned & sound),
            Assume(~comes | (number < len(self.entries))),
            Assume(~accept | ((token < 15) & (slot < 15) & (self.batch < 7))),
        ]
        with m.If(accept):
            m.d.sync += slot.eq(Mux(last, 0, slot + 1))
            with m.If(last):
                m.d.sync += [token.eq(Mux(beat.final, 0, token + 1)), self.batch.eq(self.batch + beat.final)]
        with m.If(comes):
            m.d.sync += number.eq(number + 1)
        came = {"expert": beat.expert, "token": token, "slot": slot, "weight": beat.weight}
        for n, entry in enumerate(self.entries):
            with m.If(comes & (number == n)):
                m.d.sync += [entry.there.eq(1), entry.batch.eq(self.batch)]
                m.d.sync += [signal.eq(came[name]) for name, signal in entry.fields.items()]

    def _kept(self) -> list[Value]:
        """Of each entry: fewer than the capacity came before it."""
        capacity, entries = self.dut.spec.capacity, self.entries
        if not capacity:
            return [e.there for e in entries]
        return [
            e.there & (count(b.of(e.batch, e.fields["expert"]) for b in entries[:i]) < capacity)
            for i, e in enumerate(entries)
        ]

    def _entries(self, m: Module) -> None:
        """The n-th that goes out is that one before which, in the order of batch, expert and arrival, are n."""
        o = self.dut.o
        out = Signal(range(len(self.entries) + 2), name="their_out")
        kept = [wire(m, k, f"kept_{i}") for i, k in enumerate(self._kept())]
        keys = [Cat(C(i, 4), e.fields["expert"], e.batch) for i, e in enumerate(self.entries)]
        right = []
        for i, entry in enumerate(self.entries):
            before = count(k & (key < keys[i]) for k, key in zip(kept, keys, strict=True))
            mine = [e.of(entry.batch, entry.fields["expert"]) & k for e, k in zip(self.entries, kept, strict=True)]
            same = Cat(o.payload.data[0][name] == entry.fields[name] for name in ("token", "slot", "weight")).all()
            right.append(
                kept[i]
                & (before == out)
                & (entry.batch < self.batch)
                & same
                & (o.payload.last == ~Cat(mine[i + 1 :]).any())
            )
        m.d.comb += Assert(~o.valid | Cat(right).any())
        with m.If(o.valid & o.ready):
            m.d.sync += out.eq(out + 1)

    def _jobs(self, m: Module) -> None:
        """Experts ascend; what is said of each is counted; none that has entries is left out."""
        job = self.dut.job
        said = job.payload.data[0]
        batch = Signal(3, name="job_batch")
        through = Signal(self.dut.spec.experts, name="job_through")  # those below the next
        there = [e.there & (e.batch == batch) & k for e, k in zip(self.entries, self._kept(), strict=True)]
        experts = [e.fields["expert"] for e in self.entries]
        pairs = list(zip(there, experts, strict=True))
        passed = Cat(t & ~(through.bit_select(e, 1)) & (e < said.expert) for t, e in pairs).any()
        m.d.comb += [
            Assert(~job.valid | (batch < self.batch)),
            Assert(~job.valid | (said.valid == Cat(there).any())),
            Assert(~job.valid | (said.count == Mux(said.valid, count(t & (e == said.expert) for t, e in pairs), 0))),
            Assert(~job.valid | (said.first == Mux(said.valid, count(t & (e < said.expert) for t, e in pairs), 0))),
            Assert(~job.valid | ~said.valid | (said.count.any() & ~through.bit_select(said.expert, 1) & ~passed)),
            Assert(~job.valid | (job.payload.last == ~Cat(t & (e > said.expert) for t, e in pairs).any())),
        ]
        with m.If(job.valid & job.ready):
            m.d.sync += [
                through.eq(Mux(job.payload.last, 0, through | Cat(said.expert >= e for e in range(len(through))))),
                batch.eq(batch + job.payload.last),
            ]

    def _stats(self, m: Module) -> None:
        """All experts in order."""
        stats = self.dut.stats
        batch = Signal(3, name="stats_batch")
        expert = Signal(range(self.dut.spec.experts + 1), name="stats_expert")
        last = expert == self.dut.spec.experts - 1
        chose = [e.of(batch, expert) for e in self.entries]
        kept = [c & k for c, k in zip(chose, self._kept(), strict=True)]
        said = stats.payload.data[0]
        m.d.comb += [
            Assert(~stats.valid | ((batch < self.batch) & (stats.payload.last == last))),
            Assert(~stats.valid | ((said.count == count(chose)) & (said.dropped == count(chose) - count(kept)))),
        ]
        with m.If(stats.valid & stats.ready):
            m.d.sync += [expert.eq(Mux(last, 0, expert + 1)), batch.eq(batch + last)]


def count(terms: Any) -> Value:
    """How many of them are 1, one after another."""
    return sum(terms, C(0, 1))


def wire(m: Module, value: Value, name: str) -> Signal:
    made = Signal(value.shape(), name=name)
    m.d.comb += made.eq(value)
    return made


WALKS = "a walk goes through the experts of its mask once each, ascending"
SORTS = "entries, jobs and counts are those of a stable sort by expert of what came, batch by batch"
CYCLES = 11


def _walked(experts: int) -> Walked:
    return Walked(Walk(experts))


def spec(experts: int, tokens: int, slots: int, capacity: int) -> DispatchSpec:
    return DispatchSpec(experts=experts, tokens=tokens, slots=slots, capacity=capacity)


def _sorted(most: int, *sizes: int) -> Sorted:
    return Sorted(Dispatch(spec(*sizes)), most)


CLAIMS = (
    *(Claim("dispatch", WALKS, f"{n} experts", partial(_walked, n)) for n in (1, 3, 8)),
    *(
        Claim(
            "dispatch",
            SORTS,
            f"{experts} experts, {tokens} tokens, {slots} slots, capacity {capacity}",
            partial(_sorted, 3, experts, tokens, slots, capacity),
            CYCLES,
            ABC,
        )
        for experts, tokens, slots, capacity in ((2, 2, 2, 0), (3, 2, 1, 0), (2, 2, 2, 1))
    ),
)
