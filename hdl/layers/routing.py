"""How ``moe_ffn`` learns which experts its tokens need: two ways behind one interface.

Members of both
    begin : In(1), a batch begins; load : In(1), with new tables; cfg : In, its configuration, from then on; i : In
    (stream of activations), its tokens; o : Out(stream as the dispatcher takes it), their experts; strange : Out(1),
    sticky, bit 1 of the unit's status but for what the dispatcher finds.
"""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.layer import MoEFFNSpec
from hdl.arith.bits import index_bits, named
from hdl.layers.gate import Gate
from hdl.layers.router import Router
from hdl.shared import Shared
from hdl.stream.fifo import BlockFIFO, StreamFIFO
from hdl.stream.replay import Replay
from hdl.stream.signature import lane_shape, stream_members, stream_signature
from hdl.stream.width import Narrow

TOKENS = 16
"""Bits in which tokens are counted: far more than a batch may have."""


def _members(spec: MoEFFNSpec) -> dict[str, Any]:
    return {
        "begin": In(1),
        "load": In(1),
        "cfg": In(lane_shape(spec.port("cfg"))),
        "i": In(stream_signature(spec.port("i"))),
        "o": Out(stream_signature(spec.dispatch.port("i"))),
        "strange": Out(1),
    }


class ByTable(wiring.Component):
    """A list of entries comes with the batch, and goes on to the dispatcher.

    Members
    -------
    entries : In(stream as the dispatcher takes it); ``pruned`` marks a token that is none of the batch.
    """

    kind = "by_table"

    def __init__(self, spec: MoEFFNSpec):
        self.spec = spec
        super().__init__(_members(spec) | {"entries": In(stream_signature(spec.dispatch.port("i")))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        entries = self.entries
        listed = Signal()  # the batch's list is still to come
        take = named(m, entries.valid & entries.ready, "take")
        final = named(m, entries.payload.last & entries.payload.data[0].final, "final")
        m.d.comb += [
            self.o.payload.eq(entries.payload),
            self.o.valid.eq(entries.valid & listed),
            entries.ready.eq(self.o.ready & listed),
            self.i.ready.eq(1),
        ]
        with m.If(self.begin):
            m.d.sync += listed.eq(1)
        with m.Elif(take & final):
            m.d.sync += listed.eq(0)
        self._compare(m, take & entries.payload.last & ~entries.payload.data[0].pruned, take & final)
        return m

    def _compare(self, m: Module, named_one: Value, named_all: Value) -> None:
        """Whether as many tokens come as are named."""
        words = self.spec.beats
        word = Signal(index_bits(words))
        ends = named(m, (word == words - 1) | self.i.payload.last, "ends_token")
        come, came_all = Signal(2), Signal(2)  # a token; all of them have: of the batch, of the list
        difference, now = Signal(TOKENS), Signal(TOKENS)
        before = Signal(2)
        m.d.comb += [
            come.eq((self.i.valid & ends) | named_one << 1),
            came_all.eq(before | (self.i.valid & self.i.payload.last) | named_all << 1),
            now.eq(difference + come[0] - come[1]),
        ]
        over = named(m, came_all.all(), "over")
        m.d.sync += [
            before.eq(Mux(over, 0, came_all)),
            difference.eq(Mux(over, 0, now)),
            self.strange.eq(self.strange | (over & now.any())),
        ]
        with m.If(self.i.valid):
            m.d.sync += word.eq(Mux(ends, 0, word + 1))


class ByRouter(wiring.Component):
    """Every token is scored, its experts are selected.

    ::

        i --> queue --> one by one --> router --> gate --> o
                            rows, kept --^

    Members
    -------
    rwgt, rpar, rnorm, table : In(streams of the unit, those that there are).
    """

    kind = "by_router"

    def __init__(self, spec: MoEFFNSpec):
        self.spec = spec
        super().__init__(_members(spec) | stream_members(spec.way.ports))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.router = router = Shared(Router, spec.router)
        m.submodules.gate = gate = Shared(Gate, spec.gate)
        token = self._tokens(m, router)
        self._rows(m, router, token)
        self._select(m, router, gate, token)
        m.d.comb += self.strange.eq(gate.sts_error[2] | (gate.sts_error[3] if spec.softmax else 0))
        return m

    def _tokens(self, m: Module, router: Any) -> Any:
        """As far as a batch has room for them into a queue, activation after activation to the router. Returns a queue
        of one beat per token: whether it is the batch's last."""
        spec, i = self.spec, self.i
        assert spec.lanes
        words = spec.beats
        beat = data.StructLayout({"data": 16 * spec.lanes, "last": 1})
        m.submodules.waiting = waiting = Shared(BlockFIFO, beat, spec.tokens * words + 3)
        m.submodules.narrow = narrow = Narrow(16, spec.lanes, last=True)
        m.submodules.ends = ends = Shared(StreamFIFO, 1, spec.tokens + 2)
        word = Signal(index_bits(words))
        ends_token = named(m, (word == words - 1) | i.payload.last, "ends_token")
        number = Signal(range(spec.tokens + 1))  # tokens before this one
        full = named(m, number == spec.tokens, "full")
        take = named(m, i.valid & i.ready, "take")
        m.d.comb += [
            i.ready.eq(full | (waiting.i.ready & ends.i.ready)),
            waiting.i.valid.eq(take & ~full),
            waiting.i.payload.data.eq(Value.cast(i.payload.data)),
            waiting.i.payload.last.eq(ends_token),
            ends.i.valid.eq(take & ends_token & ~full),
            ends.i.payload.eq(i.payload.last | (number == spec.tokens - 1)),
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
            m.d.sync += number.eq(Mux(i.payload.last, 0, number + (ends_token & ~full)))
        return ends

    def _rows(self, m: Module, router: Any, token: Any) -> None:
        """The router's rows, once for each token."""
        spec = self.spec
        groups = spec.d // spec.group
        sizes = {"wgt": spec.d, "par": groups} | ({"norm": 1} if spec.norms else {})
        again = named(m, token.i.valid & token.i.ready, "again")
        for name, length in sizes.items():
            port, sink = getattr(self, f"r{name}"), getattr(router, name)
            m.submodules[f"rows_{name}"] = rows = Shared(Replay, spec.port(f"r{name}").width, length, spec.tokens)
            m.d.comb += [
                rows.load.eq(self.load),
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

    def _select(self, m: Module, router: Any, gate: Any, token: Any) -> None:
        """Scores to experts of a token, by the batch's configuration."""
        spec, o = self.spec, self.o
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
            *(given[name].eq(self.cfg[name]) for name in ("k_min", "k_max", "tau")),
        ]
        with m.If(configure):
            m.d.sync += first.eq(token.o.payload)
        if spec.bias or spec.scaled:
            m.d.comb += given.load.eq(self.cfg.load & first)
            wiring.connect(m, wiring.flipped(self.table), gate.table)
        chosen, to = gate.o.payload, o.payload.data[0]
        m.d.comb += [
            *(to[name].eq(chosen.data[0][name]) for name in ("expert", "weight", "valid")),
            to.final.eq(final.o.payload),
            o.payload.last.eq(chosen.last),
            o.valid.eq(gate.o.valid & final.o.valid),
            gate.o.ready.eq(o.ready & final.o.valid),
            final.o.ready.eq(o.ready & gate.o.valid & chosen.last),
        ]
