"""What is proved of ``expert_cache``: tags by induction; whole units, as seen from their streams, bounded."""

from functools import partial
from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal, Value

from golden.moe.cache import ExpertCacheSpec
from hdl.arith.bits import count_ones
from hdl.moe.cache import ExpertCache
from hdl.moe.places import Places
from tb.formal import ABC, Claim, Property
from tb.formal.dispatch import wire


class Tagged(Property):
    """Any keys looked for, any of them decided, sweeps, pins and marks at any time; a look is at every place, without
    a change of key, and what is decided is what was chosen."""

    def __init__(self, dut: Places):
        super().__init__()
        self.dut = dut
        self.inputs += [
            getattr(dut, name) for name, member in dut.signature.members.items() if member.flow.value == "in"
        ]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        looked = self._protocol(m)
        spec, slots = dut.spec, range(dut.spec.slots)
        there, pinned = (self.probe(f"dut.{name}", spec.slots) for name in ("there", "pinned"))
        guarded, recent, fresh = (self.probe(f"dut.{name}", spec.slots) for name in ("guarded", "recent", "fresh"))
        keys = [self.probe(f"dut.keys[{n}]", spec.key_bits) for n in slots]
        order = self.probe("dut.order", spec.slots * spec.slot_bits)
        places = [order.word_select(n, spec.slot_bits) for n in slots]
        held = Signal(range(spec.slots + 1), name="their_held")  # loads less evictions
        with m.If(dut.clear):
            m.d.sync += held.eq(0)
        with m.Else():
            m.d.sync += held.eq(held + (dut.decide & dut.load) - dut.evicts)
        goes = wire(m, dut.evicts & Array((pinned | guarded)[n] for n in slots)[dut.slot], "protected_goes")
        m.d.comb += [
            *(Assert(~(there[a] & there[b]) | (keys[a] != keys[b])) for a in slots for b in range(a)),
            *(Assert(places[a] != places[b]) for a in slots for b in range(a)),
            *(Assert(place < spec.slots) for place in places),
            Assert(held == count_ones(there)),
            Assert(count_ones(pinned) < spec.slots),
            Assert(dut.free == spec.slots - count_ones(pinned)),
            Assert(((pinned | guarded | recent | fresh) & ~there) == 0),
            Assert(~goes),
        ]
        self._scan(m, looked, there, keys, places)
        return m

    def _protocol(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Nothing; looking, ``at`` places so far; looked at all; chosen. One thing at a time."""
        dut = self.dut
        phase, at = Signal(2, name="their_phase"), Signal(range(dut.spec.slots + 1), name="their_at")
        key, sweeps = Signal.like(dut.key, name="their_key", reset_less=True), Signal(name="their_sweeps")
        idle, looks = phase == 0, dut.look & ~dut.forget
        one = Cat(dut.look, dut.choose, dut.decide, dut.sweep, dut.clear | dut.begin | dut.fresh_list)
        marks = dut.look & dut.forget
        marking = Signal(name="their_marking")
        swept = dut.sweep & dut.go
        m.d.comb += [
            Assume(count_ones(one) <= 1),
            Assume(~dut.choose | (phase == 2)),
            Assume(~dut.decide | (phase == 3)),
            Assume(~(dut.sweep | marks | dut.clear | dut.begin | dut.fresh_list) | idle),
            Assume(~looks | (phase < 2)),
            Assume(~marking | marks),
            Assume(~sweeps | dut.sweep),
            Assume(~dut.go | dut.sweep),
            Assume(~dut.mark | marks),
            Assume(idle & ~marking | (dut.key == key)),
            Assume((phase != 1) | looks),
            Assume(~dut.load | (dut.some & ~dut.found)),
            Assume(~dut.decide | dut.load == (dut.some & ~dut.found)),
            Assume(~dut.need | ~dut.decide | dut.some),
        ]
        m.d.sync += key.eq(dut.key)
        with m.If(looks):
            m.d.sync += [phase.eq(Mux(at == dut.spec.slots - 1, 2, 1)), at.eq(Mux(at == dut.spec.slots - 1, 0, at + 1))]
        with m.Elif(dut.choose):
            m.d.sync += phase.eq(3)
        with m.Elif(dut.decide):
            m.d.sync += phase.eq(0)
        with m.If(marks | swept):
            ends = at == dut.spec.slots - 1
            m.d.sync += [at.eq(Mux(ends, 0, at + 1)), marking.eq(marks & ~ends), sweeps.eq(swept & ~ends)]
        return phase, at, key

    def _scan(self, m: Module, looked: Any, there: Value, keys: list[Signal], places: list[Value]) -> None:
        """What a look has seen so far is what stands there."""
        dut, spec = self.dut, self.dut.spec
        phase, at, key = looked
        slots = range(spec.slots)
        pinned, guarded, recent = (self.probe(f"dut.{name}", spec.slots) for name in ("pinned", "guarded", "recent"))
        seen = self.probe("dut.seen", 4)
        firsts = [self.probe(f"dut.first_{n}", spec.slot_bits) for n in range(4)]
        chosen = self.probe("dut.chosen", spec.slot_bits)
        kept = self.probe("dut.kept", spec.slot_bits)

        def of(mask: Value, place: Value) -> Value:
            return Array(mask[n] for n in slots)[place]

        free = there & ~pinned & ~guarded
        match = Cat(there[n] & (keys[n] == key) for n in slots)
        kinds = [match, ~there, free & ~recent, free & recent]
        count = Mux(phase == 2, spec.slots, Mux(phase == 1, at, 0))
        right = []
        for n, kind in enumerate(kinds):
            passed = [(count > p) & of(kind, places[p]) for p in slots]
            right.append(seen[n] == Cat(passed).any())
            right += [~(passed[p] & ~Cat(passed[:p]).any()) | (firsts[n] == p) for p in slots]
        m.d.comb += [
            Assert(self.probe("dut.place", spec.slot_bits) == at),
            Assert(at < spec.slots),
            Assert((phase != 2) | (at == 0)),
            Assert((phase != 3) | ((at == 0) & ~seen.any())),
            Assert((phase == 3) | Cat(right).all()),
            Assert((phase != 3) | (dut.found == match.any())),
            Assert((phase != 3) | (dut.some == (match | ~there | free).any())),
            Assert((phase != 3) | ~dut.some | ((chosen < spec.slots) & (Array(places)[chosen] == kept))),
            Assert((phase != 3) | ~dut.found | of(match, kept)),
            Assert((phase != 3) | dut.found | ~dut.some | ~of(there & (pinned | guarded), kept)),
        ]


class Cached(Property):
    """Any lists of known keys, any stalls, loads that take any time and fail or not, jobs that take any time. Seen from
    the streams alone: what was needed, what stands in which slot, whose job is not done."""

    def __init__(self, dut: ExpertCache, needs: int, patience: int = 0):
        super().__init__()
        self.dut, self.most, self.patience = dut, needs, patience
        for name in ("desc", "i", "fill", "done"):
            stream = getattr(dut, name)
            self.inputs += [stream.valid, stream.payload.as_value()]
        self.inputs += [getattr(dut, name).ready for name in ("dma", "grant", "stats")]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        taken = {p.name: self._taken(m, p.name) for p in dut.spec.ports}
        self._table(m, taken)
        self._memory(m, taken)
        asked = self._needs(m, taken)
        if self.patience:
            self._progress(m, taken, asked)
        return m

    def _taken(self, m: Module, name: str) -> Signal:
        stream = getattr(self.dut, name)
        return wire(m, stream.valid & stream.ready, f"{name}_taken")

    def _table(self, m: Module, taken: dict[str, Signal]) -> None:
        """One, of all keys."""
        desc, spec = self.dut.desc, self.dut.spec
        entry = Signal(range(spec.keys + 1), name="their_entry")
        m.d.sync += entry.eq(entry + taken["desc"])
        m.d.comb += [
            Assume(~desc.valid | (entry < spec.keys)),
            Assume(desc.payload.last == (entry == spec.keys - 1)),
            Assume(~desc.payload.data.as_value().any()),
        ]

    def _memory(self, m: Module, taken: dict[str, Signal]) -> None:
        """Loads in order; what a slot holds; no load into a slot whose job is not done."""
        dut, spec = self.dut, self.dut.spec
        load, fill, grant = dut.dma.payload.data[0], dut.fill.payload.data[0], dut.grant.payload.data[0]
        asked, over = (Signal(4, name=f"their_{name}") for name in ("asked", "over"))
        slots, keys = (
            Array(Signal(w, name=f"their_load_{n}_{i}", reset_less=True) for i in range(8))
            for n, w in (("slot", spec.slot_bits), ("key", spec.key_bits))
        )
        holds = [Signal(name=f"their_holds_{n}") for n in range(spec.slots)]
        what = [Signal(spec.key_bits, name=f"their_what_{n}", reset_less=True) for n in range(spec.slots)]
        jobs = [Signal(3, name=f"their_jobs_{n}") for n in range(spec.slots)]
        with m.If(taken["dma"]):
            m.d.sync += [asked.eq(asked + 1), slots[asked[:3]].eq(load.slot), keys[asked[:3]].eq(load.key)]
        m.d.sync += over.eq(over + taken["fill"])
        slot, key = slots[over[:3]], keys[over[:3]]
        granted, done = taken["grant"] & grant.valid, taken["done"]
        for n in range(spec.slots):
            with m.If(taken["dma"] & (load.slot == n)):
                m.d.sync += holds[n].eq(0)
            with m.If(taken["fill"] & (slot == n) & fill.ok):
                m.d.sync += [holds[n].eq(1), what[n].eq(key)]
            m.d.sync += jobs[n].eq(jobs[n] + (granted & (grant.slot == n)) - (done & (self._oldest(m) == n)))
        mine = Array(Cat(h, w) for h, w in zip(holds, what, strict=True))[grant.slot]
        busy = Array(job.any() for job in jobs)[load.slot]
        m.d.comb += [
            Assume(~dut.fill.valid | ((over != asked) & (fill.number == over))),
            Assert((asked - over)[:4] <= spec.outstanding + (2 if spec.outstanding < 7 else 0)),
            Assert(~dut.dma.valid | (load.number == asked)),
            Assert(~dut.dma.valid | ~busy | ~Value.cast(dut.dma.valid)),
            Assert(~dut.grant.valid | ~grant.valid | grant.failed | (mine == Cat(1, grant.key))),
        ]
