"""The top level of the unit ``expert_cache``: lists in, one key after another decided, loads and grants out.

::

    desc, i --> lists --> decide <-> places
                            |  `---> loads <-> dma, fill
                            |           | ready
                            `------> grants <-> grant, done
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.moe.cache import ExpertCacheSpec
from hdl.arith.bits import choose, named
from hdl.moe.grants import Grants
from hdl.moe.lists import Lists
from hdl.moe.loads import Loads
from hdl.moe.places import Places
from hdl.moe.steps import Steps
from hdl.shared import Shared
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids


class ExpertCache(wiring.Component):
    """Streams around lists, places, loads and grants; the datasheet is :class:`golden.moe.cache.ExpertCacheSpec`."""

    kind = "expert_cache"

    def __init__(self, spec: ExpertCacheSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        streams = skids(m, self, self.spec.ports)
        m.submodules.steps = steps = Shared(Steps)
        m.submodules.lists = lists = Shared(Lists, self.spec)
        m.submodules.places = places = Shared(Places, self.spec)
        m.submodules.loads = loads = Shared(Loads, self.spec)
        m.submodules.grants = grants = Shared(Grants, self.spec)
        for block, names in ((lists, ("desc", "i")), (loads, ("fill",)), (grants, ("done",))):
            for name in names:
                wiring.connect(m, streams[name], getattr(block, name))
        for block, name in ((loads, "dma"), (grants, "grant")):
            wiring.connect(m, getattr(block, name), wiring.flipped(streams[name]))
        load, go = self._decide(m, steps, lists, places, loads, grants)
        self._look(m, steps, lists, places, loads)
        self._steps(m, steps, lists, places, loads, grants, go, streams["stats"])
        self._stats(m, steps, lists, places, grants, load, streams["stats"])
        self._errors(m, lists, places, loads, grants)
        return m

    def _look(self, m: Module, steps: Any, lists: Any, places: Any, loads: Any) -> None:
        """At the places, for a key; a sweep through them waits for what is loaded or in use."""
        still = named(m, ~places.busy & ~choose(loads.loading, 1, places.slot), "still")
        m.d.comb += [
            places.clear.eq(lists.table_ends),
            loads.clear.eq(lists.table_ends),
            lists.free.eq(places.free),
            places.begin.eq(lists.begins),
            places.fresh_list.eq(steps.begin & lists.need),
            places.look.eq(steps.mark | steps.look),
            places.mark.eq(steps.mark & lists.mark),
            places.forget.eq(steps.mark),
            places.key.eq(lists.key),
            places.choose.eq(steps.choose),
            places.sweep.eq(steps.sweep),
            places.go.eq(steps.sweep & (~places.goes | still)),
        ]

    def _decide(self, m: Module, steps: Any, lists: Any, places: Any, loads: Any, grants: Any) -> tuple[Value, Value]:
        """Returns that the key is loaded, and that it is decided."""
        need = lists.need
        load = named(m, places.some & ~places.found, "load")
        still = named(m, ~places.busy & ~choose(loads.loading, 1, places.slot), "victim_still")
        may = (~need | grants.i.ready) & (~load | (still & (need | loads.room)))
        go = named(m, steps.decide & may, "go")
        hit = go & places.found
        m.d.comb += [
            *(getattr(places, name).eq(value) for name, value in (("decide", go), ("load", load), ("need", need))),
            places.pin.eq(lists.pin),
            places.done.eq(grants.over),
            places.done_slot.eq(grants.over_slot),
            loads.slot.eq(places.slot),
            loads.write.eq(go & load),
            loads.forward.eq(hit & need),
            loads.need.eq(need),
            loads.entry.key.eq(lists.key),
            loads.entry.place.eq(lists.place),
        ]
        self._grant(m, steps, lists, places, loads, grants, go)
        return load, go

    def _grant(self, m: Module, steps: Any, lists: Any, places: Any, loads: Any, grants: Any, go: Value) -> None:
        """A need that is decided, or a list without."""
        need, empty = grants.i.payload, named(m, steps.close & steps.go & lists.none, "empty")
        late = places.found & choose(loads.loading, 1, places.slot)
        m.d.comb += [
            grants.i.valid.eq(lists.need & (go | empty)),
            need.valid.eq(~empty),
            need.last.eq(empty | lists.last),
            *(
                need[name].eq(Mux(empty, 0, value))
                for name, value in (
                    ("key", lists.key),
                    ("slot", places.slot),
                    ("miss", ~places.found),
                    ("late", late),
                )
            ),
            grants.ready.eq(loads.ready),
            grants.loading.eq(loads.loading),
            loads.again.eq(grants.again),
            loads.again_slot.eq(grants.again_slot),
            grants.repeats.eq(loads.repeats),
        ]

    def _steps(
        self, m: Module, steps: Any, lists: Any, places: Any, loads: Any, grants: Any, go: Value, stats: Any
    ) -> None:
        closes = ~lists.need | (stats.ready & (~lists.none | grants.i.ready))
        drained = places.idle & ~loads.loading.any() & loads.empty
        sweeps = ~lists.need if self.spec.policy == "residency" else 0
        m.d.comb += [
            *(
                getattr(steps, name).eq(getattr(lists, name))
                for name in ("table_ends", "takes", "ends", "ended", "final", "none", "last")
            ),
            steps.sweeps.eq(sweeps),
            steps.place_ends.eq(places.ends),
            steps.go.eq(go | places.go | (steps.close & closes) | (steps.drain & drained)),
            lists.table.eq(steps.table),
            lists.collect.eq(steps.collect),
            lists.marking.eq(steps.mark),
            lists.next.eq(go),
            lists.close.eq(steps.close & steps.go),
        ]

    def _stats(self, m: Module, steps: Any, lists: Any, places: Any, grants: Any, load: Value, stats: Any) -> None:
        """Counts, begun anew when they go out and when a run begins."""
        out = named(m, steps.close & steps.go & lists.need, "counts_out")
        need = lists.need
        counted = {
            "hits": places.decide & need & places.found,
            "misses": places.decide & need & ~places.found,
            "late": places.decide & grants.i.payload.late & need,
            "prefetched": places.decide & ~need & load,
            "useless": places.useless,
            "dropped": places.decide & ~need & ~places.some,
            "evictions": places.evicts,
            "beats": Mux(places.decide & load, lists.place.length, 0),
        }
        m.d.comb += stats.valid.eq(out)
        for name, more in counted.items():
            said = stats.payload.data[0][name]
            count = Signal(len(said), name=f"count_{name}")
            m.d.comb += said.eq(count)
            with m.If(out | lists.table_ends):
                m.d.sync += count.eq(0)
            with m.Else():
                m.d.sync += count.eq(count + more)

    def _errors(self, m: Module, lists: Any, places: Any, loads: Any, grants: Any) -> None:
        failed = loads.failed
        errors = Cat(lists.errors, failed & ~loads.late, loads.late, loads.stray, grants.strange, places.refused)
        m.d.sync += self.sts_error.eq(self.sts_error | errors)
        with m.If(failed & ~self.sts_error[3:5].any()):
            m.d.sync += self.sts_key.eq(loads.failed_key)
