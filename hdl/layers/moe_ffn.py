"""The top level of the unit ``moe_ffn``.

::

    i --+--------------------------------------------> experts --> o
        `--> queue --> one by one --> router --> gate --> dispatch --(queues of tokens)--^
                          rows, kept ---^
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from golden.moe.layer import MoEFFNSpec
from hdl.arith.bits import index_bits, named
from hdl.layers.expert_ffn import ExpertFFN
from hdl.layers.gate import Gate
from hdl.layers.router import Router
from hdl.moe.dispatch import Dispatch
from hdl.shared import Shared
from hdl.stream.fifo import BlockFIFO, StreamFIFO
from hdl.stream.replay import Replay
from hdl.stream.signature import stream_members
from hdl.stream.width import Narrow


class MoEFFN(wiring.Component):
    """Units and what is between them; the datasheet is :class:`golden.moe.layer.MoEFFNSpec`."""

    kind = "moe_ffn"

    def __init__(self, spec: MoEFFNSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.ffn = ffn = Shared(ExpertFFN, spec.ffn)
        m.submodules.router = router = Shared(Router, spec.router)
        m.submodules.gate = gate = Shared(Gate, spec.gate)
        m.submodules.dispatch = dispatch = Shared(Dispatch, spec.dispatch)
        for name in ("desc", "wgt", "par"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(ffn, name))
        for name in ("fetch", "o", "stats"):
            wiring.connect(m, getattr(ffn, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, dispatch.stats, wiring.flipped(self.counts))
        begin, cfg, coming = self._batch(m, ffn)
        again, open_ = self._route(m, router, begin)
        token = self._tokens(m, ffn, router, coming & open_, again)
        self._select(m, router, gate, dispatch, cfg, token)
        self._queues(m, dispatch, ffn)
        strange = gate.sts_error[3] if spec.softmax else 0
        dropped = dispatch.sts_error[4] if spec.capacity else 0
        m.d.comb += self.sts_error.eq(
            Cat(ffn.sts_error[0], gate.sts_error[2] | strange, dispatch.sts_error[1] | dropped)
        )
        return m

    def _batch(self, m: Module, ffn: Any) -> tuple[Value, Any, Signal]:
        """One at a time: that one begins, its configuration, and that its tokens come."""
        active = Signal()
        coming = Signal()
        given = self.cfg.payload.data[0]
        cfg = Signal(given.shape(), reset_less=True)
        begin = named(m, self.cfg.valid & ~active & ffn.cfg.ready, "begin")
        m.d.comb += [
            ffn.cfg.valid.eq(self.cfg.valid & ~active),
            ffn.cfg.payload.data[0].eq(given.load),
            self.cfg.ready.eq(~active & ffn.cfg.ready),
        ]
        with m.If(begin):
            m.d.sync += [active.eq(1), coming.eq(1), cfg.eq(given)]
        with m.If(self.stats.valid & self.stats.ready):
            m.d.sync += active.eq(0)
        with m.If(self.i.valid & self.i.ready & self.i.payload.last):
            m.d.sync += coming.eq(0)
        return begin & given.load, cfg, coming

    def _tokens(self, m: Module, ffn: Any, router: Any, coming: Value, again: Signal) -> Any:
        """To the experts and into a queue for the router, activation after activation. Returns a stream of one beat per
        token: whether it is the batch's last."""
        spec = self.spec
        assert spec.lanes
        words = spec.words
        beat = data.StructLayout({"data": 16 * spec.lanes, "last": 1})
        m.submodules.waiting = waiting = Shared(BlockFIFO, beat, spec.tokens * words + 3)
        m.submodules.narrow = narrow = Narrow(16, spec.lanes, last=True)
        m.submodules.ends = ends = Shared(StreamFIFO, 1, spec.tokens + 2)
        word = Signal(index_bits(words))
        ends_token = named(m, (word == words - 1) | self.i.payload.last, "ends_token")
        sinks = [ffn.i, waiting.i]
        room = named(m, ffn.i.ready & waiting.i.ready & ends.i.ready & coming, "room")
        take = named(m, self.i.valid & room, "take")
        m.d.comb += [
            self.i.ready.eq(room),
            *(sink.valid.eq(take) for sink in sinks),
            Value.cast(ffn.i.payload).eq(self.i.payload),
            waiting.i.payload.data.eq(Value.cast(self.i.payload.data)),
            waiting.i.payload.last.eq(ends_token),
            ends.i.valid.eq(take & ends_token),
            ends.i.payload.eq(self.i.payload.last),
            again.eq(take & ends_token),
            Value.cast(narrow.i.payload.data).eq(waiting.o.payload.data),
            narrow.i.payload.last.eq(waiting.o.payload.last),
            narrow.i.valid.eq(waiting.o.valid),
            waiting.o.ready.eq(narrow.i.ready),
            router.i.payload.data[0].eq(narrow.o.payload.data),
            router.i.payload.last.eq(narrow.o.payload.last),
            router.i.valid.eq(narrow.o.valid),
            narrow.o.ready.eq(router.i.ready),
        ]
        with m.If(take):
            m.d.sync += word.eq(Mux(ends_token, 0, word + 1))
        return ends

    def _route(self, m: Module, router: Any, load: Value) -> tuple[Signal, Signal]:
        """The router's rows, once for each token. Returns where a token is told, and whether one may be."""
        spec = self.spec
        groups = spec.d // spec.group
        sizes = {"wgt": spec.d, "par": groups} | ({"norm": 1} if spec.norms else {})
        again = Signal()
        open_ = []
        for name, length in sizes.items():
            port, sink = getattr(self, f"r{name}"), getattr(router, name)
            m.submodules[f"rows_{name}"] = rows = Shared(Replay, spec.port(f"r{name}").width, length, spec.tokens)
            m.d.comb += [
                rows.load.eq(load),
                rows.i.payload.eq(Value.cast(port.payload)),
                rows.i.valid.eq(port.valid),
                port.ready.eq(rows.i.ready),
                rows.again.eq(again),
                Value.cast(sink.payload.data).eq(rows.o.payload),
                sink.valid.eq(rows.o.valid),
                rows.o.ready.eq(sink.ready),
            ]
            if name == "wgt":
                step = Signal(index_bits(spec.d))
                with m.If(rows.o.valid & rows.o.ready):
                    m.d.sync += step.eq(Mux(step == spec.d - 1, 0, step + 1))
                m.d.comb += sink.payload.last.eq(step == spec.d - 1)
            open_.append(rows.open)
        return again, named(m, Cat(open_).all(), "open_")

    def _select(self, m: Module, router: Any, gate: Any, dispatch: Any, cfg: Any, token: Any) -> None:
        """Scores to experts of a token, with its configuration, and those to the dispatcher."""
        spec = self.spec
        m.submodules.final = final = Shared(StreamFIFO, 1, spec.tokens + 2)
        first = Signal(init=1)  # the batch's first token brings the table
        configure = named(m, token.o.valid & gate.cfg.ready & final.i.ready, "configure")
        given = gate.cfg.payload.data[0]
        m.d.comb += [
            gate.i.valid.eq(router.o.valid),
            router.o.ready.eq(gate.i.ready),
            gate.i.payload.last.eq(router.o.payload.last),
            *(to.eq(lane.score) for to, lane in zip(gate.i.payload.data, router.o.payload.data, strict=True)),
            gate.cfg.valid.eq(configure),
            final.i.valid.eq(configure),
            token.o.ready.eq(configure),
            final.i.payload.eq(token.o.payload),
            *(given[name].eq(cfg[name]) for name in ("k_min", "k_max", "tau")),
        ]
        with m.If(configure):
            m.d.sync += first.eq(token.o.payload)
        if spec.bias or spec.scaled:
            m.d.comb += given.load.eq(cfg.load & first)
            wiring.connect(m, wiring.flipped(self.table), gate.table)
        chosen, to = gate.o.payload, dispatch.i.payload.data[0]
        m.d.comb += [
            *(to[name].eq(chosen.data[0][name]) for name in ("expert", "weight", "valid")),
            to.final.eq(final.o.payload),
            dispatch.i.payload.last.eq(chosen.last),
            dispatch.i.valid.eq(gate.o.valid & final.o.valid),
            gate.o.ready.eq(dispatch.i.ready & final.o.valid),
            final.o.ready.eq(dispatch.i.ready & gate.o.valid & chosen.last),
        ]

    def _queues(self, m: Module, dispatch: Any, ffn: Any) -> None:
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
