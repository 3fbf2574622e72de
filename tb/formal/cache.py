"""What is proved of ``expert_cache``: tags by induction; whole units, as seen from their streams, bounded."""

from functools import partial
from typing import Any

from amaranth.hdl import Array, Assert, Assume, C, Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In

from golden.moe.cache import ExpertCacheSpec
from hdl.arith.bits import count_ones
from hdl.moe.cache import ExpertCache
from hdl.moe.places import Places
from tb.formal import ABC, Claim, Property
from tb.formal.dispatch import wire


class Tags:
    """The places' registers, and what holds of them between two looks and in the middle of one."""

    def __init__(self, owner: Property, path: str, spec: ExpertCacheSpec):
        self.spec = spec
        slots = range(spec.slots)
        masks = ("there", "pinned", "guarded", "recent", "fresh")
        self.there, self.pinned, self.guarded, self.recent, self.fresh = (
            owner.probe(f"{path}.{name}", spec.slots) for name in masks
        )
        self.keys = [owner.probe(f"{path}.keys[{n}]", spec.key_bits) for n in slots]
        order = owner.probe(f"{path}.order", spec.slots * spec.slot_bits)
        self.order = [order.word_select(n, spec.slot_bits) for n in slots]
        self.seen = owner.probe(f"{path}.seen", 4)
        self.firsts = [owner.probe(f"{path}.first_{n}", spec.slot_bits) for n in range(4)]
        self.chosen, self.kept, self.place = (
            owner.probe(f"{path}.{name}", spec.slot_bits) for name in ("chosen", "kept", "place")
        )
        self.found, self.some = (owner.probe(f"{path}.{name}") for name in ("found", "some"))
        self.open = self.there & ~self.pinned & ~self.guarded

    def of(self, mask: Value, place: Value) -> Value:
        return Array(mask[n] for n in range(self.spec.slots))[place]

    def match(self, key: Value) -> Value:
        return Cat(self.there[n] & (own == key) for n, own in enumerate(self.keys))

    @property
    def sound(self) -> list[Value]:
        slots, there = range(self.spec.slots), self.there
        return [
            *(~(there[a] & there[b]) | (self.keys[a] != self.keys[b]) for a in slots for b in range(a)),
            *(self.order[a] != self.order[b] for a in slots for b in range(a)),
            *(place < self.spec.slots for place in self.order),
            count_ones(self.pinned) < self.spec.slots,
            ((self.pinned | self.guarded | self.recent | self.fresh) & ~there) == 0,
        ]

    def looked(self, key: Value, passed: Value, decides: Value) -> list[Value]:
        """After a look for ``key`` at so many places: what it has seen is what stands there. When it ``decides``: what
        was chosen is there, or may go."""
        slots = range(self.spec.slots)
        match, free = self.match(key), self.open
        right = []
        for n, kind in enumerate((match, ~self.there, free & ~self.recent, free & self.recent)):
            here = [(passed > p) & self.of(kind, self.order[p]) for p in slots]
            right.append(self.seen[n] == Cat(here).any())
            right += [~(here[p] & ~Cat(here[:p]).any()) | (self.firsts[n] == p) for p in slots]
        kept = (self.chosen < self.spec.slots) & (Array(self.order)[self.chosen] == self.kept)
        return [
            *right,
            ~decides | (self.found == match.any()),
            ~decides | (self.some == (match | ~self.there | free).any()),
            ~decides | ~self.some | kept,
            ~decides | ~self.found | self.of(match, self.kept),
            ~decides | self.found | ~self.some | ~self.of(self.there & (self.pinned | self.guarded), self.kept),
        ]


class Tagged(Property):
    """Any keys looked for, any of them decided, sweeps, pins and marks at any time; a look is at every place, without
    a change of key, and what is decided is what was chosen."""

    def __init__(self, dut: Places):
        super().__init__()
        self.dut = dut
        self.inputs += [getattr(dut, name) for name, member in dut.signature.members.items() if member.flow is In]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        phase, at, key = self._protocol(m)
        slots = dut.spec.slots
        tags = Tags(self, "dut", dut.spec)
        held = Signal(range(slots + 1), name="their_held")  # loads less evictions
        with m.If(dut.clear):
            m.d.sync += held.eq(0)
        with m.Else():
            m.d.sync += held.eq(held + (dut.decide & dut.load) - dut.evicts)
        passed = Mux(phase == 2, slots, Mux(phase == 1, at, 0))
        holds = [
            *tags.sound,
            held == count_ones(tags.there),
            dut.free == slots - count_ones(tags.pinned),
            ~dut.evicts | ~tags.of(tags.pinned | tags.guarded, dut.slot),
            *tags.looked(key, passed, phase == 3),
            tags.place == at,
            at < slots,
            (phase < 2) | (at == 0),
        ]
        m.d.comb += [Assert(value) for value in holds]
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
            Assume(~dut.decide | (dut.load == (dut.some & ~dut.found))),
            Assume(~dut.need | ~dut.decide | dut.some),
            Assert((phase != 0) | (at.any() == (marking | sweeps))),
            Assert((phase != 1) | at.any()),
            Assert(idle | ~(marking | sweeps)),
            Assert(~(marking & sweeps)),
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


class Cached(Property):
    """Any lists of known keys, any stalls, loads that take any time and fail or not, jobs that take any time. Seen from
    the streams alone: what was needed, what stands in which slot, whose job is not done."""

    def __init__(self, dut: ExpertCache, needs: int):
        super().__init__()
        self.dut, self.most = dut, needs
        self.beat = {name: Signal(w, name=f"any_{name}") for name, w in (("key", dut.spec.key_bits), *ANY)}
        self.inputs += [*self.beat.values(), *(getattr(dut, name).valid for name in ("desc", "i", "fill", "done"))]
        self.inputs += [getattr(dut, name).ready for name in ("dma", "grant", "stats")]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        taken = {p.name: self._taken(m, p.name) for p in dut.spec.ports}
        self._table(m, taken)
        self._memory(m, taken)
        self._jobs(m, taken)
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
            desc.payload.last.eq(entry == spec.keys - 1),
        ]

    def _memory(self, m: Module, taken: dict[str, Signal]) -> None:
        """Loads in order, and what a slot holds: nothing from when a load into it goes out, until it is over."""
        dut, spec = self.dut, self.dut.spec
        load, fill, grant = dut.dma.payload.data[0], dut.fill.payload.data[0], dut.grant.payload.data[0]
        asked, over = (Signal(4, name=f"their_{name}") for name in ("asked", "over"))
        loads = [Signal(spec.slot_bits + spec.key_bits, name=f"their_load_{n}", reset_less=True) for n in range(8)]
        holds = [Signal(1 + spec.key_bits, name=f"their_slot_{n}") for n in range(spec.slots)]
        for n, one in enumerate(loads):
            with m.If(taken["dma"] & (asked[:3] == n)):
                m.d.sync += one.eq(Cat(load.slot, load.key))
        m.d.sync += [asked.eq(asked + taken["dma"]), over.eq(over + taken["fill"])]
        oldest = wire(m, Array(loads)[over[:3]], "their_oldest")
        for n, held in enumerate(holds):
            with m.If(taken["dma"] & (load.slot == n)):
                m.d.sync += held.eq(0)
            with m.Elif(taken["fill"] & (oldest[: spec.slot_bits] == n) & fill.ok):
                m.d.sync += held.eq(Cat(1, oldest[spec.slot_bits :]))
        there = wire(m, Array(holds)[grant.slot] == Cat(C(1, 1), grant.key), "their_there")
        m.d.comb += [
            *(fill.number.eq(over), fill.ok.eq(self.beat["ok"])),
            Assume(~dut.fill.valid | (over != asked)),
            Assert((asked - over)[:4] <= spec.outstanding + SKIDS),
            Assert(~dut.dma.valid | (load.number == asked)),
            Assert(~dut.grant.valid | ~grant.valid | grant.failed | there),
        ]

    def _jobs(self, m: Module, taken: dict[str, Signal]) -> None:
        """The n-th grant is of the n-th need; no load goes into a slot from its grant to its done."""
        dut, spec = self.dut, self.dut.spec
        beat, grant = dut.i.payload.data[0], dut.grant.payload.data[0]
        came, granted, done = (Signal(4, name=f"their_{name}") for name in ("came", "granted", "done"))
        first, need, length = Signal(init=1, name="first"), Signal(name="need"), Signal(4, name="length")
        kind = wire(m, Mux(first, beat.need, need), "their_kind")
        comes = wire(m, taken["i"] & beat.valid & kind, "comes")
        goes = wire(m, taken["grant"] & grant.valid, "goes")
        with m.If(taken["i"]):
            last = dut.i.payload.last
            m.d.sync += [first.eq(last), need.eq(kind), length.eq(Mux(last, 0, length + beat.valid))]
        keys, slots = (
            [Signal(w, name=f"their_{name}_{n}", reset_less=True) for n in range(self.most)]
            for name, w in (("key", spec.key_bits), ("place", spec.slot_bits))
        )
        right = []
        for n, (key, slot) in enumerate(zip(keys, slots, strict=True)):
            works = Signal(name=f"their_works_{n}", reset_less=True)  # a failed one may be loaded again for the next
            with m.If(comes & (came == n)):
                m.d.sync += key.eq(beat.key)
            with m.If(goes & (granted == n)):
                m.d.sync += [slot.eq(grant.slot), works.eq(~grant.failed)]
            right.append((granted == n) & (came > n) & (grant.key == key))
            under_way = works & (granted > n) & (done <= n) & (dut.dma.payload.data[0].slot == slot)
            m.d.comb += Assert(~dut.dma.valid | ~under_way)
        m.d.sync += [came.eq(came + comes), granted.eq(granted + goes), done.eq(done + taken["done"])]
        m.d.comb += [
            *(beat[name].eq(self.beat[name]) for name in ("key", "need", "valid")),
            dut.i.payload.last.eq(self.beat["last"]),
            Assume(~dut.i.valid | (beat.key < spec.keys)),
            Assume(~dut.i.valid | ((came < self.most) & (length < spec.most))),
            Assume(~dut.done.valid | (done != granted)),
            Assert(~dut.grant.valid | ~grant.valid | Cat(right).any()),
        ]


ANY = (("need", 1), ("valid", 1), ("last", 1), ("ok", 1))
"""Fields of ``i`` and ``fill`` that take any value; the others are what they have to be, or 0."""

SKIDS = 4
"""Loads that stand in the skid buffers of ``dma`` and ``fill``."""

TAGS = "loads less evictions are the keys that are resident, each in one place only; nothing pinned or protected goes"
GRANTS = "a grant per need, in order, of a slot that holds the key, which no load enters before its job is done"


def spec(**values: Any) -> ExpertCacheSpec:
    return ExpertCacheSpec(**{"slots": 2, "keys": 3, "most": 2, "outstanding": 1} | values)


def _tagged(**values: Any) -> Tagged:
    return Tagged(Places(spec(**values)))


def _cached(**values: Any) -> Cached:
    return Cached(ExpertCache(spec(**values)), 3)


CLAIMS = (
    *(
        Claim("expert_cache", TAGS, f"{slots} slots, {policy}", partial(_tagged, slots=slots, policy=policy, keys=4))
        for slots, policy in ((1, "fifo"), (2, "lru"), (3, "fifo"), (4, "lru"))
    ),
    *(
        Claim("expert_cache", GRANTS, f"{slots} slots, 3 keys", partial(_cached, slots=slots), cycles, ABC)
        for slots, cycles in ((1, 23), (2, 25))
    ),
)
