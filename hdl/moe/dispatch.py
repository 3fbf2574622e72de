"""The top level of the unit ``dispatch``: numbering, queues, three walks through them.

::

    i -> collect -> [ queues of two batches ] --> walk: job
                                              |-> walk, rank by rank: o
                                              `-> walk through all: stats
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.moe.dispatch import DispatchSpec
from hdl.arith.bits import choose, named
from hdl.moe.buckets import READERS, Buckets
from hdl.moe.collect import Collect
from hdl.moe.walk import Walk
from hdl.shared import Shared
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids


class Dispatch(wiring.Component):
    """Streams around queues; the datasheet is :class:`golden.moe.dispatch.DispatchSpec`."""

    kind = "dispatch"

    def __init__(self, spec: DispatchSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        streams = skids(m, self, self.spec.ports)
        m.submodules.buckets = buckets = Shared(Buckets, self.spec)
        ended = self._collect(m, streams["i"], buckets)
        walks = {name: Shared(Walk, self.spec.experts) for name in READERS}
        for name, walk in walks.items():
            m.submodules[f"walk_{name}"] = walk
            m.d.comb += getattr(buckets, f"{name}_expert").eq(walk.expert)
        self._turns(m, streams["i"], ended, buckets, walks)
        self._jobs(m, streams["job"], buckets, walks["job"])
        self._entries(m, streams["o"], buckets, walks["entry"])
        self._stats(m, streams["stats"], buckets, walks["stats"])
        return m

    def _collect(self, m: Module, i: Any, buckets: Any) -> Value:
        """Beats to queues. Returns that a batch ends."""
        m.submodules.collect = collect = Shared(Collect, self.spec)
        beat = i.payload.data[0]
        m.d.comb += [
            collect.accept.eq(i.valid & i.ready),
            collect.i.eq(i.payload),
            buckets.write.eq(collect.chosen),
            buckets.expert.eq(beat.expert),
            *(buckets.data[name].eq(getattr(collect, name)) for name in ("token", "slot")),
            buckets.data.weight.eq(beat.weight),
        ]
        errors = Cat(collect.errors, buckets.dropped)[: len(self.sts_error)]
        m.d.sync += self.sts_error.eq(self.sts_error | errors)
        return collect.ended

    def _turns(self, m: Module, i: Any, ended: Value, buckets: Any, walks: Any) -> None:
        """Which queues are filled and which go out: those that are full, when all walks are over."""
        full = Signal(2)
        writes = Signal()
        turn = Signal()  # what goes out next
        done = named(m, walks["job"].busy | walks["entry"].busy | walks["stats"].busy, "walking")
        over = named(m, Cat(walk.free for walk in walks.values()).all(), "over")
        begin = named(m, over & choose(full, 1, turn), "begin")
        clear = named(m, over & done, "clear")
        m.d.comb += [
            i.ready.eq(~choose(full, 1, writes)),
            buckets.bank.eq(writes),
            buckets.reads.eq(~turn),
            buckets.clear.eq(clear),
        ]
        m.d.sync += [writes.eq(writes ^ ended), turn.eq(turn ^ begin)]
        for bank in range(2):
            with m.If(ended & (writes == bank)):
                m.d.sync += full[bank].eq(1)
            with m.Elif(clear & (turn != bank)):
                m.d.sync += full[bank].eq(0)
        mask = choose(buckets.some, self.spec.experts, turn)
        for name, walk in walks.items():
            m.d.comb += [walk.begin.eq(begin), walk.mask.eq(~0 if name == "stats" else mask)]

    def _jobs(self, m: Module, job: Any, buckets: Any, walk: Any) -> None:
        first = Signal(len(job.payload.data[0].first) + 1, reset_less=True)
        fields, kept = job.payload.data[0], self._kept(m, buckets.job_count, "job_kept")
        m.d.comb += [
            job.valid.eq(walk.busy),
            fields.expert.eq(walk.expert),
            fields.first.eq(Mux(walk.some, first, 0)),
            fields.count.eq(kept),
            fields.valid.eq(walk.some),
            job.payload.last.eq(walk.last),
            walk.go.eq(walk.busy & job.ready),
        ]
        with m.If(walk.begin):
            m.d.sync += first.eq(0)
        with m.Elif(walk.go):
            m.d.sync += first.eq(first + kept)

    def _entries(self, m: Module, o: Any, buckets: Any, walk: Any) -> None:
        """Two stages: rank by rank of an expert, and what the memory says."""
        rank = Signal.like(buckets.rank)
        ends, there = Signal(reset_less=True), Signal()
        kept = self._kept(m, buckets.entry_count, "entry_kept")
        moves = named(m, ~there | o.ready, "moves")
        reads = named(m, walk.busy & walk.some & moves, "reads")
        final = named(m, rank == (kept - 1)[: len(kept)], "final")
        m.d.comb += [
            buckets.go.eq(reads),
            buckets.rank.eq(rank),
            walk.go.eq((reads & final) | (walk.busy & ~walk.some)),
            o.valid.eq(there),
            o.payload.data[0].eq(buckets.entry),
            o.payload.last.eq(ends),
        ]
        with m.If(moves):
            m.d.sync += [there.eq(reads), ends.eq(final)]
        with m.If(reads):
            m.d.sync += rank.eq(Mux(final, 0, rank + 1))

    def _stats(self, m: Module, stats: Any, buckets: Any, walk: Any) -> None:
        fields, count = stats.payload.data[0], buckets.stats_count
        m.d.comb += [
            stats.valid.eq(walk.busy),
            fields.count.eq(count),
            fields.dropped.eq(count - self._kept(m, count, "stats_kept")),
            stats.payload.last.eq(walk.last),
            walk.go.eq(walk.busy & stats.ready),
        ]

    def _kept(self, m: Module, count: Value, name: str) -> Value:
        if not self.spec.capacity:
            return count
        return named(m, Mux(count > self.spec.depth, self.spec.depth, count)[: len(count)], name)
