"""The top level of the unit ``moe_ffn``.

::

    i --+----------------------------------------> experts --> o
        `--> ByRouter --.                             ^
    route --> ByTable --+--> dispatch --(queues of tokens)

One of the two ways is there. With ``pruning``, :class:`hdl.moe.prune.Prune` stands in front of all of it.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.moe.layer import MoEFFNSpec
from hdl.arith.bits import named
from hdl.layers.expert_ffn import ExpertFFN
from hdl.layers.routing import ByRouter, ByTable
from hdl.moe.dispatch import Dispatch
from hdl.moe.prune import Prune
from hdl.shared import Shared
from hdl.stream.away import away
from hdl.stream.signature import lane_field, stream_members, stream_signature

ROUTING = {"router": ByRouter, "table": ByTable}


class MoEFFN(wiring.Component):
    """Units and what is between them; the datasheet is :class:`golden.moe.layer.MoEFFNSpec`.

    ``outside`` as of :class:`~hdl.layers.expert_ffn.ExpertFFN`.
    """

    kind = "moe_ffn"

    def __init__(self, spec: MoEFFNSpec, outside: bool = False):
        self.spec = spec
        self.outside = outside
        self.engine = away(spec.ffn.engine.ports) if outside else []
        members = stream_members([*spec.ports, *self.engine])
        super().__init__(members | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.ffn = ffn = Shared(ExpertFFN, spec.ffn, self.outside)
        m.submodules.dispatch = dispatch = Shared(Dispatch, spec.dispatch)
        m.submodules.routing = routing = Shared(ROUTING[spec.routing], spec)
        for name in ("desc", "wgt", "par"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(ffn, name))
        for port in spec.way.ports:
            if port.name != "route":
                wiring.connect(m, wiring.flipped(getattr(self, port.name)), getattr(routing, port.name))
        for source, sink in ((ffn.fetch, self.fetch), (ffn.stats, self.stats), (dispatch.stats, self.counts)):
            wiring.connect(m, source, wiring.flipped(sink))
        for port in self.engine:
            outer, inner = wiring.flipped(getattr(self, port.name)), getattr(ffn, port.name)
            wiring.connect(m, *((outer, inner) if port.direction == "in" else (inner, outer)))
        seen, lost = self._seen(m)
        wiring.connect(m, ffn.o, seen["o"])
        if "entries" in seen:
            wiring.connect(m, seen["entries"], routing.entries)
        wiring.connect(m, routing.o, dispatch.i)
        self._batch(m, ffn, routing, seen)
        self._queues(m, dispatch, ffn)
        dropped = dispatch.sts_error[4] if spec.capacity else 0
        strange = Cat(routing.strange, *(dispatch.sts_error[n] for n in (0, 2, 3) if spec.routing == "table")).any()
        m.d.comb += self.sts_error.eq(Cat(ffn.sts_error[0] | lost, strange, dispatch.sts_error[1] | dropped))
        return m

    def _seen(self, m: Module) -> tuple[dict[str, Any], Value | int]:
        """Streams of live tokens alone; whether a token was lost that should have been told from them."""
        streams = {"i": wiring.flipped(self.i), "cfg": wiring.flipped(self.cfg), "o": wiring.flipped(self.o)}
        if self.spec.routing == "table":
            streams["entries"] = self._entries(m)
        if not self.spec.pruning:
            return streams, 0
        m.submodules.prune = prune = Shared(Prune, self.spec)
        wiring.connect(m, wiring.flipped(self.live), prune.live)
        for name, outer in streams.items():
            wiring.connect(m, outer, getattr(prune, name))
        return {name: getattr(prune, f"inner_{name}") for name in streams}, prune.too_many

    def _entries(self, m: Module) -> Any:
        """``route`` as the dispatcher takes it."""
        entries = stream_signature(self.spec.dispatch.port("i")).create(path=("entries",))
        beat, to = self.route.payload.data[0], entries.payload.data[0]
        m.d.comb += [
            *(to[name].eq(beat[name]) for name in ("expert", "weight", "valid", "final")),
            entries.payload.last.eq(self.route.payload.last),
            entries.valid.eq(self.route.valid),
            self.route.ready.eq(entries.ready),
        ]
        return entries

    def _batch(self, m: Module, ffn: Any, routing: Any, seen: dict[str, Any]) -> None:
        """One at a time: its configuration, and its tokens, to the experts and to the routing."""
        active = Signal()
        coming = Signal()
        i, cfg = seen["i"], seen["cfg"]
        given = cfg.payload.data[0]
        kept = Signal(given.shape(), reset_less=True, name="cfg_kept")
        begin = named(m, cfg.valid & cfg.ready, "begin")
        m.d.comb += [
            ffn.cfg.valid.eq(cfg.valid & ~active),
            ffn.cfg.payload.data[0].eq(lane_field(given, "load")),
            cfg.ready.eq(~active & ffn.cfg.ready),
            routing.begin.eq(begin),
            routing.load.eq(begin & lane_field(given, "load")),
            routing.cfg.eq(kept),
            ffn.i.valid.eq(i.valid & coming & routing.i.ready),
            routing.i.valid.eq(i.valid & coming & ffn.i.ready),
            i.ready.eq(coming & ffn.i.ready & routing.i.ready),
            ffn.i.payload.eq(i.payload),
            routing.i.payload.eq(i.payload),
        ]
        with m.If(begin):
            m.d.sync += [active.eq(1), coming.eq(1), kept.eq(given)]
        with m.If(self.stats.valid & self.stats.ready):
            m.d.sync += active.eq(0)
        with m.If(i.valid & i.ready & i.payload.last):
            m.d.sync += coming.eq(0)

    def _queues(self, m: Module, dispatch: Any, ffn: Any) -> None:
        """Jobs and their entries; the slot of an entry is not needed."""
        job, entry = ffn.job.payload, ffn.entry.payload.data[0]
        found, of = dispatch.job.payload, dispatch.o.payload.data[0]
        m.d.comb += [
            *(job.data[0][name].eq(found.data[0][name]) for name in ("expert", "first", "count", "valid")),
            job.last.eq(found.last),
            ffn.job.valid.eq(dispatch.job.valid),
            dispatch.job.ready.eq(ffn.job.ready),
            ffn.entry.valid.eq(dispatch.o.valid),
            dispatch.o.ready.eq(ffn.entry.ready),
        ]
        if self.spec.scaled:
            m.d.comb += [entry.token.eq(of.token), entry.weight.eq(of.weight)]
        else:
            m.d.comb += entry.eq(of.token)
