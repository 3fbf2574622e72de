"""Loads of an expert cache: which is next, which are under way, which are over."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.moe.cache import NUMBER_BITS, ExpertCacheSpec
from hdl.arith.bits import choose, named
from hdl.shared import Shared
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import lane_shape, stream_signature


def entry_layout(spec: ExpertCacheSpec) -> data.StructLayout:
    """What is loaded: its key, where it is and how long."""
    return data.StructLayout({"key": spec.key_bits, "place": lane_shape(spec.port("desc"))})


class Loads(wiring.Component):
    """Two queues, for needs and for hints, of slots that wait for their load. A slot may stand in both, or more than
    once: whoever comes first loads it, the others are passed over.

    Members
    -------
    clear : In(1), numbers begin anew; write : In(1), of ``slot`` : In, ``entry`` : In is to be loaded; forward : In(1),
    a load of ``slot`` that waits is now needed; need : In(1), it is for a need; room : Out(1), for a hint's load;
    again, again_slot : In, load that once more, first of all; repeats : Out(1), it goes out. dma : Out, fill : In,
    streams. loading, ready : Out, masks of slots; empty : Out(1), no slot waits. failed : Out(1), a load fails, of
    failed_key : Out; late : Out(1), because of the timeout; stray : Out(1), a fill is of a load that is over.
    """

    kind = "loads"

    def __init__(self, spec: ExpertCacheSpec):
        self.spec = spec
        flags = dict.fromkeys(("clear", "write", "forward", "need", "again"), In(1))
        said = dict.fromkeys(("room", "repeats", "empty", "failed", "late", "stray"), Out(1))
        super().__init__(
            flags
            | said
            | {
                "slot": In(spec.slot_bits),
                "entry": In(entry_layout(spec)),
                "again_slot": In(spec.slot_bits),
                "dma": Out(stream_signature(spec.port("dma"))),
                "fill": In(stream_signature(spec.port("fill"))),
                "loading": Out(spec.slots),
                "ready": Out(spec.slots),
                "failed_key": Out(spec.key_bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        queued = Signal(self.spec.slots)  # loads that have not gone out
        m.submodules.pending = pending = Shared(StreamFIFO, self._under_way, max(2, self.spec.outstanding))
        issue, slot = self._next(m, queued, self._may(m, pending))
        over = self._dma(m, issue, slot, pending)
        with m.If(issue):
            m.d.sync += [queued.bit_select(slot, 1).eq(0), self.loading.bit_select(slot, 1).eq(1)]
        with m.If(over):
            done = pending.o.payload.slot
            m.d.sync += [self.loading.bit_select(done, 1).eq(0), self.ready.bit_select(done, 1).eq(~self.failed)]
        with m.If(self.write):
            m.d.sync += [mask.bit_select(self.slot, 1).eq(1) for mask in (queued, self.loading)]
            m.d.sync += self.ready.bit_select(self.slot, 1).eq(0)
        return m

    @property
    def _under_way(self) -> data.StructLayout:
        return data.StructLayout({"slot": self.spec.slot_bits, "key": self.spec.key_bits})

    def _may(self, m: Module, pending: Any) -> Value:
        """Memory takes another load."""
        spec = self.spec
        count = Signal(range(spec.outstanding + 1))
        m.d.sync += count.eq(count + (pending.i.valid & pending.i.ready) - (pending.o.valid & pending.o.ready))
        return named(m, count != spec.outstanding, "may")

    def _next(self, m: Module, queued: Signal, may: Value) -> tuple[Value, Value]:
        """Whether a load goes out, and which."""
        spec = self.spec
        waits = named(m, choose(queued, 1, self.slot), "waits")
        queues = []
        for name, depth in (("needs", spec.queue), ("hints", max(2, spec.slots))):
            m.submodules[name] = queue = Shared(StreamFIFO, spec.slot_bits, depth)
            queues.append((queue, named(m, choose(queued, 1, queue.o.payload), f"{name}_live")))
            m.d.comb += queue.i.payload.eq(self.slot)
        (needs, need_live), (hints, hint_live) = queues
        live = named(m, Mux(needs.o.valid, need_live, hints.o.valid & hint_live), "live")
        issue = named(m, may & (self.again | live) & self.dma.ready, "issue")
        m.d.comb += [
            needs.i.valid.eq(self.need & (self.write | (self.forward & waits))),
            hints.i.valid.eq(self.write & ~self.need),
            self.room.eq(hints.i.ready),
            needs.o.ready.eq(~need_live | (issue & ~self.again)),
            hints.o.ready.eq(~hint_live | (issue & ~self.again & ~needs.o.valid)),
            self.repeats.eq(issue & self.again),
            self.empty.eq(~needs.o.valid & ~hints.o.valid),
        ]
        slot = Mux(self.again, self.again_slot, Mux(needs.o.valid, needs.o.payload, hints.o.payload))
        return issue, named(m, slot, "next_slot")

    def _dma(self, m: Module, issue: Value, slot: Value, pending: Any) -> Value:
        """Loads out, fills in. Returns that the oldest is over."""
        layout = entry_layout(self.spec)
        m.submodules.entries = entries = Memory(shape=layout.size, depth=max(2, self.spec.slots), init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        entry, number = data.View(layout, read.data), Signal(NUMBER_BITS)
        load, key = self.dma.payload.data[0], entry.key
        m.d.comb += [
            write.addr.eq(self.slot),
            write.data.eq(self.entry),
            write.en.eq(self.write),
            read.addr.eq(slot),
            self.dma.valid.eq(issue),
            *(load[name].eq(value) for name, value in (("number", number), ("slot", slot), ("key", key))),
            *(load[name].eq(entry.place[name]) for name in ("address", "length")),
            pending.i.valid.eq(issue),
            pending.i.payload.slot.eq(slot),
            pending.i.payload.key.eq(key),
        ]
        with m.If(issue):
            m.d.sync += number.eq(number + 1)
        with m.If(self.clear):
            m.d.sync += number.eq(0)
        return self._fill(m, pending)

    def _fill(self, m: Module, pending: Any) -> Value:
        oldest = Signal(NUMBER_BITS)
        said = self.fill.payload.data[0]
        ahead = named(m, (said.number - oldest)[:NUMBER_BITS], "ahead")  # in the upper half: it is over
        there = named(m, self.fill.valid & pending.o.valid, "there")
        fits = named(m, there & ~ahead.any(), "fits")
        expired = self._timeout(m, pending.o.valid, fits)
        over = named(m, fits | expired, "over")
        m.d.comb += [
            self.stray.eq(there & ahead[-1]),
            self.fill.ready.eq(pending.o.valid & (~ahead.any() | ahead[-1])),
            pending.o.ready.eq(over),
            self.late.eq(expired & ~fits),
            self.failed.eq(over & ~(fits & said.ok)),
            self.failed_key.eq(pending.o.payload.key),
        ]
        with m.If(over):
            m.d.sync += oldest.eq(oldest + 1)
        with m.If(self.clear):
            m.d.sync += oldest.eq(0)
        return over

    def _timeout(self, m: Module, waits: Value, fits: Value) -> Value:
        limit = self.spec.timeout
        if not limit:
            return Value.cast(0)
        age = Signal(range(limit))
        expired = named(m, waits & (age == limit - 1), "expired")
        m.d.sync += age.eq(Mux(waits & ~fits & ~expired, age + 1, 0))
        return expired
