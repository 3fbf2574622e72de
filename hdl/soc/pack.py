"""Between words of memory and beats of a stream, which have slots of a power of two of bytes there."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.soc.accelerator import AcceleratorSpec
from hdl.arith.bits import choose, lookup, named
from hdl.shared import Shared
from hdl.soc.layouts import bounded, bounds, stored
from hdl.stream.width import Narrow, Widen


def beat(bits: int) -> data.StructLayout:
    """A beat, and whether it ends its row."""
    return data.StructLayout({"data": bits, "last": 1})


class Unpack(wiring.Component):
    """Beats of ``bits`` from words with bounds.

    Latency     none where a slot is at most a word, else 1 cycle from a beat's last word.
    Throughput  a word per cycle, or a beat per cycle.

    Members
    -------
    i : In(stream of words with bounds); o : Out(stream of beats).
    """

    kind = "unpack"

    def __init__(self, spec: AcceleratorSpec, slot: int, bits: int):
        self.spec = spec
        self.slot = slot
        self.bits = bits
        super().__init__({"i": In(stream.Signature(bounded(spec))), "o": Out(stream.Signature(beat(bits)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.slot < self.spec.word_bits:
            self._one_of_several(m)
        else:
            self._several_for_one(m)
        return m

    def _one_of_several(self, m: Module) -> None:
        word, edges = self.i.payload, self.i.payload.bounds
        place, ends = _places(m, self.slot, edges, self.o.valid & self.o.ready)
        m.d.comb += [
            self.o.payload.data.eq(choose(word.data, 8 << self.slot, place)[: self.bits]),
            self.o.payload.last.eq(edges.last & ends),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & ends),
        ]

    def _several_for_one(self, m: Module) -> None:
        ratio = 1 << self.slot - self.spec.word_bits
        m.submodules.collect = collect = Shared(Widen, self.spec.bus, ratio, True)
        m.d.comb += [
            collect.i.payload.data.eq(self.i.payload.data),
            collect.i.payload.last.eq(self.i.payload.bounds.last),
            collect.i.valid.eq(self.i.valid),
            self.i.ready.eq(collect.i.ready),
            self.o.payload.data.eq(collect.o.payload.data.as_value()[: self.bits]),
            self.o.payload.last.eq(collect.o.payload.last),
            self.o.valid.eq(collect.o.valid),
            collect.o.ready.eq(self.o.ready),
        ]


class Pack(wiring.Component):
    """Words, and which of their bytes are to be written, from beats of ``bits``; the bytes of a slot beyond are 0.

    Latency     none where a slot is at most a word: a word is there with its last beat; else 1 cycle.
    Throughput  a beat per cycle, or a word per cycle.

    Members
    -------
    i : In(stream of beats); bounds : In(stream), of each word; o : Out(stream of words); there : Out(1), a beat has
    come, whether there is a word for it or not.
    """

    kind = "pack"

    def __init__(self, spec: AcceleratorSpec, slot: int, bits: int):
        self.spec = spec
        self.slot = slot
        self.bits = bits
        super().__init__(
            {
                "i": In(stream.Signature(bits)),
                "bounds": In(stream.Signature(bounds(spec))),
                "o": Out(stream.Signature(stored(spec))),
                "there": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.slot < self.spec.word_bits:
            self._several_in_one(m)
        else:
            self._one_in_several(m)
        return m

    def _several_in_one(self, m: Module) -> None:
        edges, width = self.bounds.payload, 8 << self.slot
        count = self.spec.bus // width
        place, ends = _places(m, self.slot, edges, self.i.valid & self.i.ready)
        held = Signal(self.spec.bus, reset_less=True)
        now = Cat(self.i.payload, C(0, width - self.bits))
        size = self.spec.bus_bytes
        upwards = [(1 << size) - (1 << (n << self.slot)) for n in range(count)]  # the bytes from slot n on
        downwards = [(1 << (n + 1 << self.slot)) - 1 for n in range(count)]  # those up to it
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += held.eq(self.o.payload.data)
        m.d.comb += [
            self.there.eq(self.i.valid),
            self.i.ready.eq(self.bounds.valid & (~ends | self.o.ready)),
            self.bounds.ready.eq(self.i.valid & ends & self.o.ready),
            self.o.valid.eq(self.bounds.valid & self.i.valid & ends),
            self.o.payload.data.eq(Cat(Mux(place == n, now, held.word_select(n, width)) for n in range(count))),
            self.o.payload.strobe.eq(
                lookup(upwards, size, edges.first[self.slot :]) & lookup(downwards, size, edges.end[self.slot :])
            ),
        ]

    def _one_in_several(self, m: Module) -> None:
        ratio = 1 << self.slot - self.spec.word_bits
        m.submodules.hand_out = hand_out = Shared(Narrow, self.spec.bus, ratio)
        m.d.comb += [
            hand_out.i.payload.as_value().eq(self.i.payload),
            hand_out.i.valid.eq(self.i.valid),
            self.i.ready.eq(hand_out.i.ready),
            self.there.eq(hand_out.o.valid),
            self.o.payload.data.eq(hand_out.o.payload),
            self.o.payload.strobe.eq(~0),
            self.o.valid.eq(hand_out.o.valid & self.bounds.valid),
            hand_out.o.ready.eq(self.o.ready & self.bounds.valid),
            self.bounds.ready.eq(self.o.ready & hand_out.o.valid),
        ]


def _places(m: Module, slot: int, edges: Any, moves: Any) -> tuple[Any, Any]:
    """Of a beat in its word: which slot it has, and whether it is the last that the row has there."""
    inside = Signal()
    next_ = Signal(len(edges.first) - slot, reset_less=True)
    place = named(m, Mux(inside, next_, edges.first[slot:]), "place")
    ends = named(m, place == edges.end[slot:], "ends")
    with m.If(moves):
        m.d.sync += [inside.eq(~ends), next_.eq(place + 1)]
    return place, ends
