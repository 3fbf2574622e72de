"""The top level of the unit ``expert_table``: batches in, layers out.

::

    i --> fill --> [ banks of two batches ] --> tell --> o, hint
                                     request ---^
"""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from golden.moe.prediction_table import BATCH_BITS, ExpertTableSpec
from hdl.arith.bits import choose, index_bits, named
from hdl.stream.signature import payload_layout, stream_members
from hdl.stream.skid import skids


class ExpertTable(wiring.Component):
    """Streams around two banks; the datasheet is :class:`golden.moe.prediction_table.ExpertTableSpec`."""

    kind = "expert_table"

    def __init__(self, spec: ExpertTableSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        streams = skids(m, self, self.spec.ports)
        came = Signal(BATCH_BITS)  # batches complete
        oldest = Signal(BATCH_BITS)  # batches released
        shape = payload_layout(self.spec.port("i"))
        m.submodules.entries = entries = Memory(shape=shape.size, depth=max(2, 2 * self.spec.depth), init=[])
        m.submodules.starts = starts = Memory(shape=index_bits(self.spec.depth), depth=2 << self._layer_bits, init=[])
        wrong = self._fill(m, streams["i"], came, oldest, entries, starts)
        asked, strange = self._ask(m, streams["request"], came, oldest, starts)
        self._tell(m, streams, asked, entries, oldest)
        m.d.sync += self.sts_error.eq(self.sts_error | Cat(wrong, strange))
        return m

    @property
    def _layer_bits(self) -> int:
        return index_bits(self.spec.layers)

    def _bank(self, bank: Value, place: Value) -> Value:
        """An entry's address."""
        return (Mux(bank, self.spec.depth, 0) + place)[: index_bits(max(2, 2 * self.spec.depth))]

    def _fill(self, m: Module, i: Any, came: Signal, oldest: Value, entries: Any, starts: Any) -> Value:
        """Beats to the next place; what is too much to the last one again. Returns what is wrong."""
        spec, beat, last = self.spec, i.payload.data[0], i.payload.last
        write, start = entries.write_port(), starts.write_port()
        place = Signal(range(spec.depth + 1))
        token = Signal(range(spec.tokens + 1))
        slot = Signal(range(spec.slots + 1))
        layer = Signal(self._layer_bits)
        room = named(m, (came - oldest)[:BATCH_BITS] != 2, "room")
        accept = named(m, i.valid & room, "accept")
        beyond = named(m, Cat(slot == spec.slots, token == spec.tokens), "beyond")
        unknown = named(m, beat.valid & (beat.expert >= spec.experts), "unknown")
        ends = named(m, accept & last & beat.final, "layer_ends")
        whole = named(m, ends & (layer == spec.layers - 1), "batch_ends")
        at = named(m, (place - beyond.any())[: len(place)], "at")
        stored = data.View(payload_layout(spec.port("i")), write.data)
        m.d.comb += [
            i.ready.eq(room),
            write.en.eq(accept),
            write.addr.eq(self._bank(came[0], at)),
            write.data.eq(i.payload),
            stored.data[0].valid.eq(beat.valid & ~unknown),
            start.en.eq(accept & (token == 0) & (slot == 0)),
            start.addr.eq(Cat(layer, came[0])),
            start.data.eq(place),
        ]
        with m.If(accept):
            m.d.sync += [
                place.eq(Mux(whole, 0, at + 1)),
                slot.eq(Mux(last, 0, slot + ~beyond[0])),
                token.eq(Mux(ends, 0, token + (last & ~beyond[1]))),
                layer.eq(Mux(whole, 0, layer + ends)),
                came.eq(came + whole),
            ]
        return Mux(accept, Cat(beyond, unknown), 0)

    def _ask(self, m: Module, request: Any, came: Value, oldest: Value, starts: Any) -> tuple[Any, Value]:
        """What is asked for, while it is told. Returns it, and what is wrong with it."""
        asks, read = request.payload.data[0], starts.read_port(domain="comb")
        ahead = named(m, (asks.batch - oldest)[:BATCH_BITS], "ahead")
        absent = named(m, ahead[1:].any(), "absent")  # neither of the two
        early = named(m, ~absent & (ahead >= (came - oldest)[:BATCH_BITS]), "early")
        known = named(m, asks.layer < self.spec.layers, "known_layer")
        there = named(m, ~absent & ~early, "there")
        busy = Signal(name="busy")
        begin = named(m, request.valid & ~busy & ~(early & asks.wait), "begin")
        widths = {name: len(asks[name]) for name in ("layer", "least")}
        widths |= dict.fromkeys(("entries", "hints", "release", "none", "bank"), 1)
        asked = {name: Signal(width, name=f"asked_{name}", reset_less=True) for name, width in widths.items()}
        release = asks.release & there & ~ahead.any()
        values = {"none": ~(there & known), "bank": asks.batch[0], "release": release}
        m.d.comb += [read.addr.eq(Cat(asks.layer, asks.batch[0])), request.ready.eq(begin)]
        with m.If(begin):
            m.d.sync += [signal.eq(values[name] if name in values else asks[name]) for name, signal in asked.items()]
        strange = Cat(absent, early, ~known, asks.release & ~release)
        return asked | {"busy": busy, "begin": begin, "start": read.data}, Mux(begin, strange, 0)

    def _tell(self, m: Module, streams: Any, asked: Any, entries: Any, oldest: Signal) -> None:
        """Beat after beat from the layer's first; after it the hint that is still held."""
        read = entries.read_port()
        place = Signal(index_bits(self.spec.depth), name="told_place")
        runs, flush = Signal(name="runs"), Signal(name="flush")
        beat = data.View(
            payload_layout(self.spec.port("i")), named(m, Mux(asked["none"], self._nothing, read.data), "beat")
        )
        o, hint = streams["o"], streams["hint"]
        moves = Signal(name="moves")
        held = self._hints(m, hint, asked, beat, moves, flush)
        may_o, may_hint = ~asked["entries"] | o.ready, ~held | hint.ready
        ends = named(m, moves & beat.last & beat.data[0].final, "ends")
        flushed = named(m, flush & hint.ready, "flushed")
        following = Mux(asked["begin"], asked["start"], place + moves)[: len(place)]
        m.d.comb += [
            moves.eq(runs & may_o & may_hint),
            read.addr.eq(
                self._bank(Mux(asked["begin"], streams["request"].payload.data[0].batch[0], asked["bank"]), following)
            ),
            o.valid.eq(runs & asked["entries"] & may_hint),
            o.payload.eq(beat),
            hint.valid.eq(flush | (runs & held & may_o)),
        ]
        m.d.sync += place.eq(following)
        busy = asked["busy"]
        with m.If(asked["begin"]):
            m.d.sync += [busy.eq(1), runs.eq(1)]
        with m.Elif(ends):
            m.d.sync += [busy.eq(asked["hints"]), runs.eq(0), flush.eq(asked["hints"])]
            m.d.sync += oldest.eq(oldest + asked["release"])
        with m.Elif(flushed):
            m.d.sync += [busy.eq(0), flush.eq(0)]

    @property
    def _nothing(self) -> Value:
        """A beat that ends a layer without entries."""
        port = self.spec.port("i")
        return C(1 << port.width | 1 << port.lsb("final"), port.width + 1)

    def _hints(self, m: Module, hint: Any, asked: Any, beat: Any, moves: Value, flush: Value) -> Value:
        """An expert that was not yet named is held until the next one, or the end. Returns that the held one goes."""
        spec, entry = self.spec, beat.data[0]
        seen = Signal(spec.experts)
        some, key = Signal(name="some_hint"), Signal.like(hint.payload.data[0].key, name="held_key", reset_less=True)
        fresh = entry.valid & (entry.confidence >= asked["least"]) & ~choose(seen, 1, entry.expert)
        fresh = named(m, fresh & asked["hints"], "fresh")
        m.d.comb += [
            hint.payload.data[0].key.eq(Mux(some, key, 0)),
            hint.payload.data[0].valid.eq(some),
            hint.payload.last.eq(flush),
        ]
        with m.If(asked["begin"]):
            m.d.sync += [seen.eq(0), some.eq(0)]
        with m.Elif(moves & fresh):
            named_now = (asked["layer"] * spec.experts + entry.expert)[: len(key)]
            m.d.sync += [seen.bit_select(entry.expert, 1).eq(1), some.eq(1), key.eq(named_now)]
        return named(m, fresh & some, "held")
