"""Which states of ``expert_cache`` can be, said once for all that is proved of the whole unit by induction.

What is said of streams is said of them between the skid buffers, which are proved by themselves; whatever comes in
comes at any time and may say anything.
"""

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from hdl.arith.bits import count_ones
from hdl.moe.grants import need_layout
from hdl.moe.loads import entry_layout
from hdl.moe.steps import STEPS
from tb.formal import Inductive, Property
from tb.formal.cache import Tags
from tb.formal.dispatch import count, wire
from tb.formal.stream import implies


class Queued:
    """A queue below, its items the oldest first: iterated, whether it is there and what it is."""

    def __init__(self, owner: Property, m: Module, path: str, depth: int, shape: Any):
        layout = data.StructLayout({"item": shape})
        self.name, self.depth = path.rpartition(".")[2], depth
        path += ".block"
        self.level = owner.probe(f"{path}.queue.level", range(depth + 1))
        self.put, self.room, taken = (owner.probe(f"{path}.{name}") for name in ("i__valid", "i__ready", "o__ready"))
        self.get = self._wire(m, taken & self.level.any(), "get")
        self.produce, self.consume = (owner.probe(f"{path}.queue.{n}", range(depth)) for n in ("produce", "consume"))
        words = [owner.probe(f"{path}.queue.storage[{n}]", layout.size) for n in range(depth)]
        self.at = [self._wire(m, self._wrapped(self.consume + n), f"at_{n}") for n in range(depth)]
        self.there = [self._wire(m, self.level > n, f"there_{n}") for n in range(depth)]
        self.items = [
            data.View(layout, self._wire(m, Array(words)[at], f"item_{n}")).item for n, at in enumerate(self.at)
        ]

    def __iter__(self) -> Iterator[tuple[Signal, Any]]:
        return zip(self.there, self.items, strict=True)

    def _wire(self, m: Module, value: Value, name: str) -> Signal:
        return wire(m, value, f"{self.name}_{name}")

    def _wrapped(self, at: Value) -> Value:
        return Mux(at >= self.depth, at - self.depth, at)[: len(self.consume)]

    @property
    def sound(self) -> list[Value]:
        """Nothing is lost."""
        pointers = [self.produce < self.depth, self.consume < self.depth, ~self.put | self.room]
        return [*pointers, self.level <= self.depth, self.produce == self._wrapped(self.consume + self.level)]

    def beside(self, m: Module, name: str, value: Value) -> tuple[list[Signal], list[Signal]]:
        """A bit of the property's own beside each item, ``value`` when it came. Returns them by place, and by item."""
        bits = [Signal(name=f"{name}_{n}") for n in range(self.depth)]
        for n, bit in enumerate(bits):
            with m.If(self.put & self.room & (self.produce == n)):
                m.d.sync += bit.eq(value)
        return bits, [wire(m, Array(bits)[at], f"{name}_at_{n}") for n, at in enumerate(self.at)]


class Whole(Inductive):
    """The whole unit; a claim begins with its ``states``."""

    def states(self, m: Module) -> None:
        """Names what is in the unit, and says what is known of it."""
        self._name(m)
        self.help(*self._queues(), *self._slots(), *self._needs(m), *self._steps(), *self._marks(m))

    def of(self, mask: Value, slot: Value) -> Value:
        return Array(mask[n] for n in range(self.spec.slots))[slot]

    def _name(self, m: Module) -> None:
        """Registers and wires of the unit."""
        spec, slot, key = self.spec, self.spec.slot_bits, self.spec.key_bits
        loads, grants, places, lists = (f"dut.{name}.block" for name in ("loads", "grants", "places", "lists"))

        def flags(path: str, *names: str) -> Iterator[Signal]:
            return (self.probe(f"{path}.{name}") for name in names)

        self.tags = Tags(self, places, spec)
        self.step = dict(zip(STEPS, flags("dut.steps.block", *STEPS), strict=True))
        under_way = data.StructLayout({"slot": slot, "key": key})
        self.pending = Queued(self, m, f"{loads}.pending", max(2, spec.outstanding), under_way)
        self.urgent = Queued(self, m, f"{loads}.needs", spec.queue, slot)
        self.hinted = Queued(self, m, f"{loads}.hints", max(2, spec.slots), slot)
        self.needs = Queued(self, m, f"{grants}.needs", spec.queue, need_layout(spec))
        self.jobs = Queued(self, m, f"{grants}.jobs", spec.queue, slot)
        masks = ("queued", "loading", "ready")
        self.queued, self.loading, self.ready = (self.probe(f"{loads}.{name}", spec.slots) for name in masks)
        self.issue, self.over, self.failed, self.write, self.again = flags(
            loads, "issue", "over", "failed", "write", "again"
        )
        self.tried, self.out = flags(grants, "tried", "out")
        self.need, self.ended, self.mark, self.takes, self.first = flags(
            lists, "need", "ended", "mark", "takes", "first"
        )
        self.evicts = self.probe(f"{places}.evicts")
        self.slot, self.next_slot = self.probe(f"{places}.slot", slot), self.probe(f"{loads}.next_slot", slot)
        entry = entry_layout(spec).size
        self.entries = [self.probe(f"{loads}.entries[{n}]", entry)[:key] for n in range(spec.slots)]
        self.uses = [self.probe(f"{places}.use_{n}", range(2 * spec.queue + 1)) for n in range(spec.slots)]
        self.count, self.turn = (self.probe(f"{lists}.{n}", range(spec.most + 1)) for n in ("count", "turn"))
        self.list = [self.probe(f"{lists}.list_memory[{n}]", key + 1)[:key] for n in range(max(2, spec.most))]
        self.came = self.probe(f"{lists}.came", key)

    def _queues(self) -> list[Value]:
        """Nothing is lost; what stands in them are slots; memory has no more loads than it may."""
        stands = [*self.urgent, *self.hinted, *self.jobs]
        stands += [(there, item.slot) for there, item in (*self.pending, *self.needs)]
        under_way = self.probe("dut.loads.block.count", range(self.spec.outstanding + 1))
        return [
            *(value for q in (self.pending, self.urgent, self.hinted, self.needs, self.jobs) for value in q.sound),
            *(implies(there, slot < self.spec.slots) for there, slot in stands),
            (under_way == self.pending.level) & (under_way <= self.spec.outstanding),
        ]

    def _slots(self) -> list[Value]:
        """A load that is decided stands in a queue, one that is under way does once; loads, needs and jobs of a place
        are of its key."""
        there, waiting = self.tags.there, [*self.urgent, *self.hinted]
        known: list[Value] = [~(self.loading & self.ready).any(), ~(self.loading & ~there).any()]
        for n, key in enumerate(self.tags.keys):
            under_way = [here & (load.slot == n) for here, load in self.pending]
            known += [
                count(under_way) <= 1,
                self.loading[n] == (self.queued[n] | Cat(under_way).any()),
                ~(self.queued[n] & Cat(under_way).any()),
                implies(self.queued[n], Cat(here & (slot == n) for here, slot in waiting).any()),
                implies(there[n], self.entries[n] == key),
                *(implies(mine, load.key == key) for mine, load in zip(under_way, self.pending.items, strict=True)),
                *(
                    implies(here & need.valid & (need.slot == n), there[n] & (need.key == key))
                    for here, need in self.needs
                ),
                *(implies(here & (slot == n), there[n]) for here, slot in self.jobs),
            ]
        return known

    def _needs(self, m: Module) -> list[Value]:
        """Uses of a place are needs that wait and jobs. Some needs brought a load into the queue: these loads stand
        there in the order of those needs, and a need whose load waits is one of them."""
        bits, brought = self.needs.beside(m, "brought", self.urgent.put)
        mine = [there & one for there, one in zip(self.needs.there, brought, strict=True)]
        for n, (one, at) in enumerate(zip(mine, self.needs.at, strict=True)):
            for place, bit in enumerate(bits):
                with m.If(self.urgent.get & one & ~Cat(mine[:n]).any() & (at == place)):
                    m.d.sync += bit.eq(0)
        known = [self.urgent.level == count(mine), implies(self.urgent.put, self.needs.put)]
        for n, (one, (there, need)) in enumerate(zip(mine, self.needs, strict=True)):
            before = count(mine[:n])
            known += [
                implies(one & (before == i), need.valid & (slot == need.slot))
                for i, slot in enumerate(self.urgent.items)
            ]
            known.append(implies(there & need.valid & self.of(self.queued, need.slot), one))
        for n, use in enumerate(self.uses):
            waits = [there & need.valid & (need.slot == n) for there, need in self.needs]
            known.append(use == count([*waits, *(there & (slot == n) for there, slot in self.jobs)]))
        head = self.needs.items[0]
        first = self.needs.there[0] & head.valid & ~mine[0] & ~self.of(self.queued, head.slot)
        return [*known, implies(self.tried, first)]

    def _steps(self) -> list[Value]:
        """One thing at a time; a run begins when nothing waits."""
        step, spec, tags = self.step, self.spec, self.tags
        deciding = step["look"] | step["choose"] | step["decide"]
        passed = Mux(step["choose"], spec.slots, Mux(step["look"], tags.place, 0))
        idle = ~self.loading.any() & ~Cat(self.uses).any() & (self.urgent.level == 0) & (self.hinted.level == 0)
        return [
            count_ones(Cat(step.values())) == 1,
            implies(~(step["mark"] | step["sweep"] | step["look"]), tags.place == 0),
            tags.place < spec.slots,
            *tags.sound,
            *tags.looked(Array(self.list)[self.turn], passed, step["decide"]),
            self.count <= spec.most,
            Mux(deciding, self.turn < self.count, self.turn == Mux(step["close"], self.count, 0)),
            implies(self._between, self.count == 0),
            implies(step["mark"], (self.count != 0) & (self.first == self.ended)),
            implies(~step["mark"] & ~step["collect"], self.first),
            implies(step["table"], idle),
            implies(step["sweep"], ~self.need),
        ]

    @property
    def _between(self) -> Value:
        """There is no list."""
        return self.step["table"] | self.step["drain"] | (self.step["collect"] & self.first)

    def _marks(self, m: Module) -> list[Value]:
        """A place that a list of needs protects has one of its first keys, which is not yet decided: so there is one
        left for the key whose turn it is."""
        spec, step, tags = self.spec, self.step, self.tags
        free = Signal(range(spec.slots + 1), name="their_free")  # places not pinned when the list began
        now = wire(m, spec.slots - count_ones(tags.pinned), "free_now")
        with m.If(step["collect"] & self.first):
            m.d.sync += free.eq(now)
        needs = ~self._between & self.need
        known = [
            free <= spec.slots,
            implies(needs, now + self.turn >= free),
            implies(needs & (step["collect"] | step["mark"] | step["begin"]), now == free),
            implies(step["mark"], Array(self.list)[self.count - 1] == self.came),
            implies(step["mark"] & self.need, self.mark == (self.count <= free)),
            implies(step["decide"] & self.need, tags.some),
        ]
        for n, key in enumerate(tags.keys):
            named = [(self.turn <= i) & (i < self.count) & (i < free) & (k == key) for i, k in enumerate(self.list)]
            known.append(implies(needs & tags.guarded[n], Cat(named).any()))
        return known
