"""What is proved of ``moe_ffn``'s pruning: the layer gets the live tokens of a batch and nothing else, every token gets
a row, a finished one of zeros."""

from functools import partial
from typing import Any

from amaranth.hdl import Assert, Assume, C, Module, Mux, Signal, Value

from golden.moe.layer import MoEFFNSpec
from hdl.moe.prune import Prune
from tb.formal import Claim, Property
from tb.formal.dispatch import wire
from tb.formal.stream import implies


class Pruned(Property):
    """Any batches of up to ``tokens`` whole tokens, any beats at any time on all sides; the layer gives no row of a
    batch that it has not got whole. What is known of a batch is how many beats of it have come and how many rows have
    gone; its mask is looked up anew for each.

    Without ``invariant`` all is as seen from outside."""

    def __init__(self, dut: Prune, invariant: bool = True):
        super().__init__()
        self.dut, self.spec, self.invariant = dut, dut.spec, invariant
        for name, port in dut.signature.members.items():
            if port.is_signature:
                stream = getattr(dut, name)
                comes = [stream.valid, Value.cast(stream.payload)]
                outer = name in ("live", "i", "cfg", "entries", "inner_o")
                self.inputs += comes if outer else [stream.ready]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        begin = moves(m, dut.live, "live")
        self.mask = Signal(self.spec.tokens, name="their_mask")
        self.open = Signal(name="their_open")  # a batch is under way
        self.row = Signal(range(self.spec.tokens + 1), name="their_row")
        with m.If(begin):
            m.d.sync += [self.mask.eq(dut.live.payload.data.as_value()), self.open.eq(1)]
        closed, some = self._tokens(m, begin)
        left = self._rows(m, begin, closed)
        waits = self._configuration(m, begin, closed, some)
        listed = self._entries(m, begin, closed, some) if self.spec.routing == "table" else C(0)
        over = wire(m, closed & ~left & ~waits & ~listed, "their_over")
        m.d.comb += Assert(dut.live.ready == (~self.open | over))
        with m.If(self.open & over & ~begin):
            m.d.sync += self.open.eq(0)
        return m

    def _known(self, m: Module, path: str, value: Value) -> None:
        """Of the unit's own state while a batch is under way, for the induction."""
        if self.invariant:
            m.d.comb += Assert(~self.open | (self.probe(f"dut.{path}", len(value)) == value))

    def _tokens(self, m: Module, begin: Value) -> tuple[Value, Value]:
        """A live beat goes on when the next one comes, or when no more can; the last one is marked, and no other."""
        dut, spec = self.dut, self.spec
        token = Signal(range(spec.tokens + 1), name="their_token")
        beat = Signal(range(spec.beats), name="their_beat")
        coming = Signal(name="their_coming")
        behind = Signal(name="their_behind")  # a live beat has come that has not gone on
        been = Signal(name="their_been")
        data = Signal.like(Value.cast(dut.i.payload.data), name="their_data")
        last, final = dut.i.payload.last, beat == spec.beats - 1
        take, goes = moves(m, dut.i, "i"), moves(m, dut.inner_i, "inner_i")
        live = wire(m, (self.mask >> token)[0], "their_live")
        comes = wire(m, dut.i.valid & coming & live, "their_comes")
        with m.If(begin):
            m.d.sync += [token.eq(0), coming.eq(1), been.eq(0)]
        with m.If(take):
            m.d.sync += [beat.eq(Mux(final, 0, beat + 1)), token.eq(token + final), coming.eq(~last)]
        with m.If(take & live):
            m.d.sync += [data.eq(Value.cast(dut.i.payload.data)), behind.eq(1), been.eq(1)]
        with m.Elif(goes):
            m.d.sync += behind.eq(0)
        m.d.comb += [
            Assume(implies(dut.i.valid & last, final)),
            Assume(implies(dut.inner_o.valid, ~coming & ~behind)),  # the layer answers a batch that it has
            Assume(implies(dut.i.valid & (token == spec.tokens - 1) & final, last)),
            Assert(implies(dut.i.ready, coming)),
            Assert(implies(take & live & behind, goes)),  # none is lost
            Assert(implies(dut.inner_i.valid, behind & (Value.cast(dut.inner_i.payload.data) == data))),
            Assert(implies(dut.inner_i.valid, dut.inner_i.payload.last == ~coming)),
            Assert(implies(goes & coming, take & live)),
            # nobody waits for nothing
            Assert(implies(behind & ~coming, dut.inner_i.valid)),
            Assert(implies(comes & behind, dut.inner_i.valid)),
            Assert(implies(coming & dut.i.valid & (~live | ~behind | dut.inner_i.ready), dut.i.ready)),
            Assert(~dut.too_many),
        ]
        self.token = token
        for path, value in (("coming", coming), ("there", behind), ("been", been), ("word", beat)):
            self._known(m, path, value)
        self._known(m, "i_mask", (self.mask >> token)[: spec.tokens])
        if self.invariant:
            sound = (beat < spec.beats) & implies(coming, self.open & (token < spec.tokens)) & implies(beat > 0, coming)
            heard = wire(m, self.mask & ((1 << (token + (beat > 0))) - 1), "their_heard")  # live, and begun
            m.d.comb += [
                Assert(sound),
                Assert(implies(behind, been & self.open & (heard >> self.row).any())),
                Assert(implies(behind, self.probe("dut.held", len(data)) == data)),
            ]
            m.d.comb += Assert(implies(self.open & ~coming, token > 0))
        return wire(m, self.open & ~coming, "their_closed"), wire(m, been | comes, "their_some")

    def _rows(self, m: Module, begin: Value, closed: Value) -> Value:
        """A row per token, in order; the layer's where it is live. Returns that there is one left."""
        dut, spec = self.dut, self.spec
        words = spec.d // spec.ffn.words
        row = self.row
        word = Signal(range(words), name="their_word")
        final = word == words - 1
        goes, comes = moves(m, dut.o, "o"), moves(m, dut.inner_o, "inner_o")
        live = wire(m, (self.mask >> row)[0], "their_live_row")
        left = wire(m, row != self.token, "their_left")
        with m.If(begin):
            m.d.sync += row.eq(0)
        with m.Elif(goes):
            m.d.sync += [word.eq(Mux(final, 0, word + 1)), row.eq(row + final)]
        m.d.comb += [
            Assert(dut.o.valid == (closed & left & (dut.inner_o.valid | ~live))),
            Assert(comes == (goes & live)),
            Assert(implies(dut.o.valid, Value.cast(dut.o.payload.data) == Mux(live, dut.inner_o.payload.data, 0))),
            Assert(implies(dut.o.valid, dut.o.payload.last == (final & (row + 1 == self.token)))),
        ]
        self._known(m, "row_word", word)
        self._known(m, "o_mask", (self.mask >> row)[: spec.tokens])
        if self.invariant:
            m.d.comb += Assert((word < words) & (row <= self.token) & (self.token <= spec.tokens))
            m.d.comb += Assert(implies(~closed, (row == 0) | ~self.open) & implies(word > 0, left & closed))
            m.d.comb += Assert(implies(~self.open, ~left))
            m.d.comb += Assert(self.probe("dut.left", range(spec.tokens + 1)) == self.token - row)
        return left

    def _configuration(self, m: Module, begin: Value, closed: Value, some: Value) -> Signal:
        """Once a batch: to the layer once a live token is there, nowhere when the batch has none. Returns that it is
        still to come."""
        cfg, inner = self.dut.cfg, self.dut.inner_cfg
        waits = Signal(name="their_waits")
        taken = moves(m, cfg, "cfg")
        with m.If(begin):
            m.d.sync += waits.eq(1)
        with m.Elif(taken):
            m.d.sync += waits.eq(0)
        m.d.comb += [
            Assert(inner.valid == (cfg.valid & waits & some)),
            Assert(implies(inner.valid, Value.cast(inner.payload) == Value.cast(cfg.payload))),
            Assert(taken == (cfg.valid & waits & Mux(some, inner.ready, closed))),
        ]
        self._known(m, "waits", waits)
        if self.invariant:
            m.d.comb += Assert(implies(waits, self.open))
        return waits

    def _entries(self, m: Module, begin: Value, closed: Value, some: Value) -> Signal:
        """Those of live tokens go on, unchanged, and the beat that ends the list. Returns that the list is not
        through."""
        entries, inner = self.dut.entries, self.dut.inner_entries
        token = Signal(range(self.spec.tokens + 1), name="their_entry_token")
        listed = Signal(name="their_listed")
        beat, said = entries.payload.data[0], inner.payload.data[0]
        take, last = moves(m, entries, "entries"), entries.payload.last
        live = wire(m, (self.mask >> token)[0], "their_live_entry")
        kept = wire(m, live | (last & beat.final), "their_kept")
        with m.If(begin):
            m.d.sync += [token.eq(0), listed.eq(1)]
        with m.Elif(take):
            m.d.sync += [token.eq(token + last), listed.eq(~(last & beat.final))]
        same = [said[name] == beat[name] for name, _ in beat.shape() if name != "pruned"]
        m.d.comb += [
            Assume(implies(entries.valid & (token == self.spec.tokens - 1) & last, beat.final)),
            Assert(inner.valid == (entries.valid & listed & kept & some)),
            *(Assert(implies(inner.valid, s)) for s in same),
            Assert(implies(inner.valid, (said.pruned == ~live) & (inner.payload.last == last))),
            Assert(take == (entries.valid & listed & (~kept | Mux(some, inner.ready, closed)))),
        ]
        self._known(m, "listed", listed)
        self._known(m, "entries_mask", (self.mask >> token)[: self.spec.tokens])
        if self.invariant:
            m.d.comb += Assert((token <= self.spec.tokens) & implies(listed, self.open & (token < self.spec.tokens)))
        return listed


def moves(m: Module, stream: Any, name: str) -> Signal:
    """A beat is transferred."""
    return wire(m, stream.valid & stream.ready, f"{name}_moves")


def spec(tokens: int, d: int, routing: str) -> MoEFFNSpec:
    return MoEFFNSpec(
        d=d, neurons=32, experts=3, tokens=tokens, rows=2, cols=4, group=16, routing=routing, pruning=True
    )


def _pruned(tokens: int, d: int, routing: str) -> Pruned:
    return Pruned(Prune(spec(tokens, d, routing)))


TEXT = (
    "the layer gets the live tokens, marked where the last one ends; a row per token in order, zeros for finished ones"
)

CLAIMS = tuple(
    Claim("moe_ffn", TEXT, f"{tokens} tokens of {d}, routing={routing}", partial(_pruned, tokens, d, routing))
    for tokens, d, routing in ((1, 16, "router"), (3, 16, "router"), (2, 32, "table"), (5, 16, "table"))
)
