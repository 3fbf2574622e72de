"""What is proved of the whole unit ``expert_cache`` by induction: no expert goes while it is of use, a grant is of an
expert that is there, nothing is lost or done twice."""

from functools import partial
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value

from hdl.arith.bits import count_ones
from hdl.moe.cache import ExpertCache
from tb.formal import Claim
from tb.formal.cache import spec
from tb.formal.cache_state import Whole
from tb.formal.dispatch import count, wire
from tb.formal.stream import implies


class Resident(Whole):
    """Loads that are decided, less evictions, since the run began: so many keys, no two of them the same."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        there, keys = self.tags.there, self.tags.keys
        held = Signal(range(2 * self.spec.slots + 1), name="their_held")
        m.d.sync += held.eq(Mux(self.probe("dut.lists.block.table_ends"), 0, held + self.write - self.evicts))
        twins = [there[a] & there[b] & (keys[a] == keys[b]) for b in range(self.spec.slots) for a in range(b)]
        return [held <= self.spec.slots, held == count_ones(there), ~Cat(twins).any()]


class InUse(Whole):
    """No key goes of a place that is pinned or protected, or that a need, a job or a load stands for."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        used = [there & need.valid & (need.slot == self.slot) for there, need in self.needs]
        used += [there & (slot == self.slot) for there, slot in self.jobs]
        used += [there & (load.slot == self.slot) for there, load in self.pending]
        stays = self.queued | self.tags.pinned | self.tags.guarded
        return [implies(self.evicts, ~Cat(used).any() & ~self.of(stays, self.slot))]


class Ready(Whole):
    """What is granted, memory has said to be all there, since the last load into its place; none goes in until its job
    is done."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        spec = self.spec
        oldest, grant = self.pending.items[0], self.needs.items[0]
        failed = self.probe("dut.grants.block.failed")
        _, works = self.jobs.beside(m, "works", ~failed)
        holds = [Signal(1 + spec.key_bits, name=f"their_slot_{n}") for n in range(spec.slots)]
        for n, (held, key) in enumerate(zip(holds, self.tags.keys, strict=True)):
            with m.If(self.issue & (self.next_slot == n)):
                m.d.sync += held.eq(0)
            with m.Elif(self.over & ~self.failed & (oldest.slot == n)):
                m.d.sync += held.eq(Cat(1, oldest.key))
            self.help(implies(self.ready[n] & self.tags.there[n], held == Cat(1, key)))
        enters = []
        for (there, slot), one in zip(self.jobs, works, strict=True):
            self.help(implies(there & one, self.of(self.ready, slot)))
            enters.append(there & one & (slot == self.next_slot))
        return [
            implies(self.out & grant.valid & ~failed, Array(holds)[grant.slot] == Cat(1, grant.key)),
            implies(self.issue, ~Cat(enters).any()),
        ]


class Once(Whole):
    """Any one key of the lists of needs is followed: its grant comes after exactly those of the needs before it. A run
    ends with as many grants as needs. As many loads go out as were decided, and again those for a second time; never
    into a place, or of a key, that memory is at."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        spec = self.spec
        self.inputs.append(choose := Signal(name="choose"))
        comes = wire(m, self.takes & self.probe("dut.lists.block.now_need"), "comes")
        goes = wire(m, self.out & self.needs.items[0].valid, "goes")
        due, ahead = (Signal(range(spec.queue + spec.most + 2), name=f"their_{name}") for name in ("due", "ahead"))
        followed, key = Signal(name="followed"), Signal(spec.key_bits, name="their_key")
        loads = Signal(range(spec.slots + 2), name="their_loads")  # decided, not gone out
        with m.If(followed & goes):
            m.d.sync += [ahead.eq(ahead - 1), followed.eq(ahead != 0)]
        with m.If(comes & choose & ~followed):
            beat = self.probe("dut.lists.block.i__payload", spec.port("i").width + 1)
            m.d.sync += [followed.eq(1), key.eq(beat), ahead.eq(due - goes)]  # the key is in the low bits
        issues = wire(m, self.issue & ~self.again, "issues")
        m.d.sync += [due.eq(due + comes - goes), loads.eq(loads + self.write - issues)]
        self.help(loads == count_ones(self.queued))
        self._follow(m, followed, key, ahead, due)
        loaded = Array(self.tags.keys)[self.next_slot]
        twice = [there & ((load.slot == self.next_slot) | (load.key == loaded)) for there, load in self.pending]
        return [
            implies(goes & followed & (ahead == 0), self.needs.items[0].key == key),
            implies(goes, due != 0),
            implies(self.step["table"], (due == 0) & (loads == 0)),
            implies(issues, loads != 0),
            implies(self.issue, ~Cat(twice).any()),
        ]

    def _follow(self, m: Module, followed: Value, key: Value, ahead: Value, due: Value) -> None:
        """Where it is: in the queue of grants, or in the list."""
        before = count([])
        for there, need in self.needs:
            mine = there & need.valid
            self.help(implies(followed & mine & (before == ahead), need.key == key))
            before += mine
        waits = wire(m, before, "waits")
        at = wire(m, self.turn + ahead - waits, "followed_at")
        listed = self.need & (at < self.count) & (Array(self.list)[at] == key)
        self.help(implies(followed & (ahead >= waits), listed), implies(followed, ahead < due))
        self.help(due == waits + Mux(self.need, self.count - self.turn, 0))


RESIDENT = "loads less evictions are the keys that are resident, one in a place, no more than there are places"
IN_USE = "no key goes that is pinned or protected, is being loaded, is waited for, or whose job is not done"
READY = "what is granted is all there, and no load enters its place until its job is done"
ONCE = "a grant per need, in order; a load per decision, none of a place or key that is being loaded"

SIZES: tuple[dict[str, Any], ...] = (
    {"slots": 1, "keys": 2, "most": 1, "policy": "fifo"},
    {"slots": 2, "keys": 3, "most": 2, "policy": "residency", "outstanding": 2},
    {"slots": 3, "keys": 4, "most": 3, "policy": "lru", "outstanding": 2},
)


def size(of: Any) -> str:
    return f"{of.slots} slots, {of.keys} keys, lists of {of.most}, {of.outstanding} loads, {of.policy}"


def _claim(text: str, kind: Any, **values: Any) -> Claim:
    return Claim("expert_cache", text, size(spec(**values)), partial(_whole, kind, **values))


def _whole(kind: Any, **values: Any) -> Whole:
    made: Whole = kind(ExpertCache(spec(**values)))
    return made


KINDS = ((RESIDENT, Resident), (IN_USE, InUse), (READY, Ready), (ONCE, Once))
CLAIMS = tuple(_claim(text, kind, **values) for text, kind in KINDS for values in SIZES)
