"""The top level of the unit ``moe_resident``.

::

    i, tables --> moe_ffn ------------------------------> o, stats
                   |   ^ `--> tiles wanted --> held --> fetch
                   |   |                        ^ `--> done --.
                   |  wgt, par                grant           |
                counts --> needs --.            |             v
    hint --------------------------+--> expert_cache  <-------'
                                          |  ^
                                        dma  fill
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from golden.moe.resident import MoEResidentSpec
from hdl.arith.bits import named
from hdl.layers.moe_ffn import MoEFFN
from hdl.moe.cache import ExpertCache
from hdl.moe.needs import Needs
from hdl.shared import Shared
from hdl.stream.fifo import StreamFIFO
from hdl.stream.fork import fork
from hdl.stream.signature import stream_members

BEATS = 24
"""Bits of the counts of beats: far more than there are on their way."""

JOBS = 4
"""Experts whose last beats are on their way."""


class MoEResident(wiring.Component):
    """A layer and a cache; the datasheet is :class:`golden.moe.resident.MoEResidentSpec`."""

    kind = "moe_resident"

    def __init__(self, spec: MoEResidentSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.moe = moe = Shared(MoEFFN, spec.moe)
        m.submodules.cache = cache = Shared(ExpertCache, spec.cache)
        own = {"cfg", "fetch", "counts"}
        for port in spec.moe.ports:
            if port.name not in own:
                outer, inner = getattr(self, port.name), getattr(moe, port.name)
                ends = (wiring.flipped(outer), inner) if port.direction == "in" else (inner, wiring.flipped(outer))
                wiring.connect(m, *ends)
        for outer, inner in ((self.far, cache.desc), (self.fill, cache.fill)):
            wiring.connect(m, wiring.flipped(outer), inner)
        for inner, outer in ((cache.dma, self.dma), (cache.stats, self.cache)):
            wiring.connect(m, inner, wiring.flipped(outer))
        self._request(m, cache, self._needs(m, moe, self._layer(m, moe)))
        stopped = self._fetch(m, moe, cache)
        m.d.comb += [
            self.sts_error.eq(Cat(moe.sts_error, cache.sts_error, stopped)),
            self.sts_key.eq(cache.sts_key),
        ]
        return m

    def _layer(self, m: Module, moe: Any) -> Signal:
        """The key of the first expert of the layer whose batch is computed."""
        spec, given = self.spec, self.cfg.payload.data[0]
        first = Signal(spec.cache.key_bits, reset_less=True)
        to = moe.cfg.payload.data[0]
        m.d.comb += [
            Value.cast(to).eq(Value.cast(given)),  # the layer stands above the rest
            moe.cfg.valid.eq(self.cfg.valid),
            self.cfg.ready.eq(moe.cfg.ready),
        ]
        with m.If(self.cfg.valid & self.cfg.ready):
            m.d.sync += first.eq(given.layer * spec.experts)
        return first

    def _needs(self, m: Module, moe: Any, first: Signal) -> Any:
        """The keys of all experts that have tokens."""
        spec = self.spec
        m.submodules.needs = needs = Shared(Needs, spec.cache.key_bits, spec.dispatch.port("stats"))
        fork(m, moe.counts, (self.counts, needs.i))
        m.d.comb += [
            needs.first.eq(first),
            *(sink.payload.eq(moe.counts.payload) for sink in (self.counts, needs.i)),
        ]
        return needs.o

    def _request(self, m: Module, cache: Any, needs: Any) -> None:
        """A list of needs, a list of hints, by turns."""
        hints = Signal()  # it is their turn
        to, hint = cache.i.payload, self.hint.payload
        of = hint.data[0]
        m.d.comb += [
            to.data[0].need.eq(~hints),
            to.data[0].key.eq(Mux(hints, of.key, needs.payload.key)),
            to.data[0].valid.eq(Mux(hints, of.valid, needs.payload.valid)),
            to.data[0].pin.eq(hints & of.pin),
            to.data[0].final.eq(hints & of.final),
            to.last.eq(Mux(hints, hint.last, needs.payload.last)),
            cache.i.valid.eq(Mux(hints, self.hint.valid, needs.valid)),
            self.hint.ready.eq(hints & cache.i.ready),
            needs.ready.eq(~hints & cache.i.ready),
        ]
        m.d.sync += hints.eq(hints ^ (cache.i.valid & cache.i.ready & to.last))

    def _fetch(self, m: Module, moe: Any, cache: Any) -> Value:
        """Tiles of routed experts wait for their grant. Returns that one has failed."""
        spec = self.spec
        there, failed = Signal(), Signal()
        slot = Signal(spec.cache.slot_bits, reset_less=True)
        wanted, grant = moe.fetch.payload.data[0], cache.grant.payload.data[0]
        routed = named(m, wanted.expert.any(), "routed")
        m.submodules.leaving = leaving = Shared(StreamFIFO, self._leaving(), JOBS)
        go = named(m, ~routed | (there & ~failed & leaving.i.ready), "go")
        taken = named(m, self.fetch.valid & self.fetch.ready, "taken")
        to = self.fetch.payload.data[0]
        m.d.comb += [
            *(to[name].eq(wanted[name]) for name in wanted.shape().members),
            to.slot.eq(Mux(routed, slot, 0)),
            self.fetch.valid.eq(moe.fetch.valid & go),
            moe.fetch.ready.eq(self.fetch.ready & go),
            cache.grant.ready.eq(~there),
        ]
        with m.If(cache.grant.valid & ~there):
            m.d.sync += [there.eq(grant.valid), slot.eq(grant.slot), failed.eq(grant.valid & grant.failed)]
        ends = named(m, taken & routed & wanted.final, "ends")
        with m.If(ends):
            m.d.sync += there.eq(0)
        m.d.comb += [leaving.i.valid.eq(ends), leaving.i.payload.slot.eq(slot)]
        self._done(m, cache, leaving, taken, wanted)
        return failed

    def _leaving(self) -> data.StructLayout:
        return data.StructLayout({"slot": self.spec.cache.slot_bits, "wgt": BEATS, "par": BEATS})

    def _done(self, m: Module, cache: Any, leaving: Any, taken: Value, wanted: Any) -> None:
        """An expert's place is free when the last beat of its last tile has come."""
        gone = []
        for name, stream, count in (("wgt", self.wgt, wanted.beats), ("par", self.par, wanted.pars)):
            asked, came = (Signal(BEATS, name=f"{name}_{what}") for what in ("asked", "came"))
            total = named(m, (asked + count)[:BEATS], f"{name}_total")
            with m.If(taken):
                m.d.sync += asked.eq(total)
            m.d.sync += came.eq(came + (stream.valid & stream.ready))
            m.d.comb += leaving.i.payload[name].eq(total)
            gone.append(~(came - leaving.o.payload[name])[BEATS - 1])
        done = named(m, leaving.o.valid & Cat(gone).all(), "done_now")
        m.d.comb += [
            cache.done.valid.eq(done),
            cache.done.payload.data[0].eq(leaving.o.payload.slot),
            leaving.o.ready.eq(done & cache.done.ready),
        ]
