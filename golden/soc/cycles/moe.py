"""A mixture-of-experts layer, :mod:`hdl.layers.moe_ffn`: its router and its experts."""

from collections.abc import Mapping

from golden.moe.layer import LayerBatch, MoEFFNSpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.experts import Experts
from golden.soc.cycles.parts import Clock, Queue, Register
from golden.soc.cycles.routing import Routing
from golden.soc.cycles.unit import Unit
from golden.soc.descriptor import Entry
from golden.soc.kinds import ASKED_AHEAD, Lane


class MoE(Unit):
    """The unit."""

    def __init__(self, clock: Clock, spec: MoEFFNSpec):
        self.spec = spec
        self.experts = Experts(clock, spec.ffn)
        self.routing = Routing(clock, spec, self.experts.skids["job"], self.experts.skids["entry"])
        self._asked = {name: Queue(clock, ASKED_AHEAD) for name in ("wgt", "par")}
        self._active, self._coming = Register(clock), Register(clock)

    def begin(self, job: LayerBatch, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        self._job, self._sources, self._sinks = job, sources, sinks
        self._beats = len(job.x) * self.spec.beats
        self._come = 0
        self.experts.prepare(self.spec.work(job))
        self.routing.prepare(job)

    def asks(self, lane: Lane, entry: Entry, source: Source) -> None:
        source.follow(lane.slot, self._asked[lane.name], entry.address)

    def cycle(self, complete: bool) -> None:
        self._out(complete)
        self.experts.cycle()
        self.routing.cycle(self._sources, self._sinks["counts"])
        self._in()

    def _out(self, complete: bool) -> None:
        skids = self.experts.skids
        for name in ("o", "stats"):
            if skids[name].valid and self._sinks[name].ready:
                skids[name].pop()
                self._sinks[name].put()
                if name == "stats":
                    self._active.set(0)
        if complete and skids["fetch"].valid and all(queue.ready for queue in self._asked.values()):
            tile = skids["fetch"].pop()
            for name, queue in self._asked.items():
                queue.push(tile[name])

    def _in(self) -> None:
        skids, sources = self.experts.skids, self._sources
        for name in ("desc", "wgt", "par"):
            if sources[name].valid and skids[name].ready:
                sources[name].take()
                skids[name].push()
        i, cfg = sources["i"], sources["cfg"]
        if self._coming.value and i.valid and skids["i"].ready and self.routing.takes:
            i.take()
            self._come += 1
            last = self._come == self._beats
            skids["i"].push(last)
            self.routing.take(last)
            if last:
                self._coming.set(0)
        if cfg.valid and not self._active.value and skids["cfg"].ready:
            cfg.take()
            skids["cfg"].push()
            self._active.set(1)
            self._coming.set(1)
            self.routing.load(self._job.load)
