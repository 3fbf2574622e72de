"""Finished tokens of a batch: kept out of the layer, put back as rows of zeros."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.moe.layer import MoEFFNSpec
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import stream_signature


class Prune(wiring.Component):
    """Between the streams of the unit and a layer that never hears of finished tokens.

    ::

        i       --> beats of live tokens, one held back: the last ends the batch --> inner_i
        cfg     --> with the first live token; of a batch without any: nowhere   --> inner_cfg
        entries --> those of live tokens                                         --> inner_entries
        o       <-- rows in the order of the tokens, zeros for finished ones     <-- inner_o

    Latency     a cycle for ``i``, none for the others.
    Throughput  a beat per cycle; the next batch begins in the cycle after the last row.

    Members
    -------
    live : In(stream, a bit per token), begins a batch; i, cfg, o : In, In, Out(streams of the unit); where a table
    decides, entries : In(stream as the dispatcher takes it); inner_... : the same of the layer; too_many : Out(1),
    sticky: a token came for which there is no bit, it is lost.
    """

    kind = "prune"

    def __init__(self, spec: MoEFFNSpec):
        self.spec = spec
        members: dict[str, Any] = {"live": In(stream_signature(spec.port("live"))), "too_many": Out(1)}
        ports = {name: spec.port(name) for name in ("i", "cfg", "o")}
        if spec.routing == "table":
            ports["entries"] = spec.dispatch.port("i")
        for name, port in ports.items():
            outer, inner = (Out, In) if name == "o" else (In, Out)
            members |= {name: outer(stream_signature(port)), f"inner_{name}": inner(stream_signature(port))}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        idle = Signal()
        begin = named(m, self.live.valid & idle, "begin")
        m.d.comb += self.live.ready.eq(idle)
        coming, some, left = self._tokens(m, begin)
        waits = self._configuration(m, begin, coming, some)
        listed = self._entries(m, begin, coming, some) if self.spec.routing == "table" else 0
        m.d.comb += idle.eq(~(coming | waits | listed | left.any()))
        return m

    def _mask(self, m: Module, name: str, begin: Value, following: Value) -> Value:
        """Whether the token that is next in a stream is live; behind the last bit none is."""
        mask = Signal(self.spec.tokens, name=f"{name}_mask", reset_less=True)
        with m.If(begin):
            m.d.sync += mask.eq(self.live.payload.data.as_value())
        with m.Elif(following):
            m.d.sync += mask.eq(mask >> 1)
        return mask[0]

    def _tokens(self, m: Module, begin: Value) -> tuple[Signal, Value, Signal]:
        """Returns that tokens of the batch still come, that a live one is there or has been, and how many rows are to
        be sent."""
        spec, i, inner = self.spec, self.i, self.inner_i
        coming = Signal()
        there = Signal()
        been = Signal()
        word = Signal(index_bits(spec.beats))
        left = Signal(range(spec.tokens + 1))
        held = Signal.like(Value.cast(i.payload.data), reset_less=True)
        take = named(m, i.valid & i.ready, "take")
        ends = named(m, (word == spec.beats - 1) | i.payload.last, "ends_token")
        live = self._mask(m, "i", begin, take & ends)
        comes = named(m, coming & i.valid & live, "comes")
        m.d.comb += [
            i.ready.eq(coming & (~live | ~there | inner.ready)),
            inner.valid.eq(there & (comes | ~coming)),
            Value.cast(inner.payload.data).eq(held),
            inner.payload.last.eq(~coming),
        ]
        with m.If(take):
            m.d.sync += [word.eq(Mux(ends, 0, word + 1)), coming.eq(~i.payload.last)]
        with m.If(take & live):
            m.d.sync += [held.eq(Value.cast(i.payload.data)), there.eq(1), been.eq(1)]
        with m.Elif(inner.valid & inner.ready):
            m.d.sync += there.eq(0)
        with m.If(begin):
            m.d.sync += [coming.eq(1), been.eq(0)]
        full = named(m, left == spec.tokens, "full")
        m.d.sync += self.too_many.eq(self.too_many | (take & full))
        sent = self._rows(m, begin, coming, left)
        m.d.sync += left.eq(left + (take & ends & ~full) - sent)
        return coming, been | comes, left

    def _rows(self, m: Module, begin: Value, coming: Value, left: Signal) -> Value:
        """When all tokens have come. Returns that a row's last beat leaves."""
        words = self.spec.d // self.spec.ffn.words
        word = Signal(index_bits(words), name="row_word")
        o, inner = self.o, self.inner_o
        ends = named(m, word == words - 1, "ends_row")
        leaves = named(m, o.valid & o.ready, "leaves")
        sent = named(m, leaves & ends, "sent")
        live = self._mask(m, "o", begin, sent)
        may = named(m, ~coming & left.any(), "may")
        m.d.comb += [
            o.valid.eq(may & (inner.valid | ~live)),
            inner.ready.eq(may & live & o.ready),
            Value.cast(o.payload.data).eq(Mux(live, Value.cast(inner.payload.data), 0)),
            o.payload.last.eq(ends & ~(left - 1)[: len(left)].any()),
        ]
        with m.If(leaves):
            m.d.sync += word.eq(Mux(ends, 0, word + 1))
        return sent

    def _configuration(self, m: Module, begin: Value, coming: Value, some: Value) -> Signal:
        """Returns that it is still to be taken."""
        cfg, inner = self.cfg, self.inner_cfg
        waits = Signal()
        m.d.comb += [
            inner.valid.eq(cfg.valid & waits & some),
            inner.payload.eq(cfg.payload),
            cfg.ready.eq(waits & Mux(some, inner.ready, ~coming)),
        ]
        with m.If(begin):
            m.d.sync += waits.eq(1)
        with m.Elif(cfg.valid & cfg.ready):
            m.d.sync += waits.eq(0)
        return waits

    def _entries(self, m: Module, begin: Value, coming: Value, some: Value) -> Signal:
        """The beat that ends the list goes on in any case, since the layer waits for it. Returns that the list is not
        through."""
        entries, inner = self.entries, self.inner_entries
        listed = Signal()
        take = named(m, entries.valid & entries.ready, "take_entry")
        final = named(m, entries.payload.last & entries.payload.data[0].final, "final")
        live = self._mask(m, "entries", begin, take & entries.payload.last)
        kept = named(m, live | final, "kept")
        m.d.comb += [
            inner.valid.eq(entries.valid & listed & kept & some),
            inner.payload.eq(entries.payload),
            inner.payload.data[0].pruned.eq(~live),
            entries.ready.eq(listed & (~kept | Mux(some, inner.ready, ~coming))),
        ]
        with m.If(begin):
            m.d.sync += listed.eq(1)
        with m.Elif(take & final):
            m.d.sync += listed.eq(0)
        return listed
