"""Variant ``threshold``: no selection, two comparisons per lane with thresholds that are given."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import OrizuruSpec
from hdl.arith.bits import named
from hdl.orizuru.first import First
from hdl.orizuru.keys import encode
from hdl.orizuru.loader import Loader
from hdl.orizuru.popper import result
from hdl.orizuru.shape import Shape
from hdl.shared import Shared
from hdl.stream.signature import payload_layout


class Thresholds(wiring.Component):
    """Keys at a threshold or beyond, by index, the first ``k`` of each side.

    Throughput  a beat stays one cycle, or one per hit; a vector's last beat one per hit and two more. A result waits
                until another one follows, since it may be the vector's last.

    Members
    -------
    i : In(stream of keys); begin : In(1), k and the thresholds are there: k, upper, lower : In; done : Out(1), they are
    used up; o : Out(stream of results); error : Out(1), a key has no place.
    """

    kind = "thresholds"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        self.shape = Shape.of(spec)
        bits = spec.key_format.bits
        members = {
            "i": In(stream.Signature(payload_layout(spec.port("i")))),
            "begin": In(1),
            "k": In(range(spec.k_max + 1)),
            "done": Out(1),
            "o": Out(stream.Signature(payload_layout(spec.port("o")))),
            "error": Out(1),
        }
        super().__init__(members | {name: In(bits) for name in spec.thresholds})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, shape = self.spec, self.shape
        m.submodules.loader = loader = Shared(Loader, spec)
        m.submodules.first = first = Shared(First, shape.word + 1, spec.lanes, False)
        wiring.connect(m, wiring.flipped(self.i), loader.i)
        last = named(m, self.i.valid & self.i.ready & self.i.payload.last, "last")
        taken = named(m, loader.write | last, "taken")  # a beat; what is too much of a vector counts as its end

        busy, ends, row = Signal(), Signal(), Signal.like(loader.row)  # a beat is here, it is a vector's last one
        words = Signal(shape.word * spec.lanes, reset_less=True)
        below, more = self._hits(m, loader, taken, first, busy)
        step = self._send(m, first, busy, ends, row)
        release = named(m, ~first.valid | (step & ~more), "release")  # all its hits are gone in the next cycle
        with m.If(taken):
            m.d.sync += [busy.eq(1), ends.eq(last), row.eq(loader.row)]
            m.d.sync += words.eq(Cat(slot.word for slot in loader.slots))
        with m.Elif(Mux(ends, self.done, release)):
            m.d.sync += busy.eq(0)
        m.d.comb += [
            first.keys.eq(Cat(Cat(words.word_select(i, shape.word), below[i]) for i in range(spec.lanes))),
            first.take.eq(step),
            loader.hold.eq(~self.begin | (busy & (~release | ends))),
            loader.swap.eq(self.done),
            self.error.eq(loader.error),
        ]
        return m

    def _send(self, m: Module, first: Any, busy: Value, ends: Value, row: Value) -> Value:
        """A hit takes the place of the one that waits, which is sent; after the vector's last hit the one that waits is
        sent with tlast, or a beat that says that there was none. Returns that a hit is used up."""
        waiting, held = Signal(), Signal(self.o.payload.data.shape(), reset_less=True)
        step = named(m, first.valid & (~waiting | self.o.ready), "step")
        m.d.comb += [
            self.o.valid.eq(busy & Mux(first.valid, waiting, ends)),
            self.o.payload.last.eq(~first.valid),
            self.o.payload.data.eq(Mux(waiting, held, 0)),
            self.done.eq(busy & ends & ~first.valid & self.o.ready),
        ]
        with m.If(self.done):
            m.d.sync += waiting.eq(0)
        with m.Elif(step):
            m.d.sync += [waiting.eq(1), held.eq(self._result(m, first, row))]
        return step

    def _hits(self, m: Module, loader: Any, taken: Value, first: Any, busy: Value) -> tuple[Value, Value]:
        """The keys beyond a threshold, and not past the k-th, to ``first``. Returns those below, and whether any will
        be left in the beat."""
        spec = self.spec
        live, more = dict[str, Value](), []
        there = Cat(slot.valid & loader.write for slot in loader.slots)
        for name in spec.thresholds:
            limit = encode(getattr(self, name), spec.key_format, spec.sides == "magnitude")[-self.shape.key :]
            keys = [slot.word[-self.shape.key :] for slot in loader.slots]
            found = named(m, Cat(k >= limit if name == "upper" else k <= limit for k in keys) & there, f"at_{name}")
            hits = Signal(spec.lanes, name=f"hits_{name}")
            left = named(m, hits & ~Cat(first.one), f"left_{name}")
            m.d.sync += hits.eq(Mux(taken, found, left))
            there = there & ~found  # beyond both is above
            side = first.winner[-1] if name == "lower" else ~first.winner[-1]
            live[name], more_of_side = self._first_of(m, name, hits, left, first.take & side)
            more.append(more_of_side)
        m.d.comb += first.there.eq(reduce(or_, live.values()) & busy.replicate(spec.lanes))
        return live.get("lower", C(0, spec.lanes)), Cat(more).any()

    def _first_of(self, m: Module, name: str, hits: Value, left: Value, step: Value) -> tuple[Value, Value]:
        """The hits of a side as long as there are not k of them, and whether any will be left."""
        count, following = Signal.like(self.k, name=f"count_{name}"), Signal.like(self.k, name=f"next_{name}")
        m.d.comb += following.eq(count + step)
        m.d.sync += count.eq(Mux(self.done, 0, following))
        live = named(m, hits & (count < self.k).replicate(len(hits)), f"live_{name}")
        return live, left.any() & (following < self.k)

    def _result(self, m: Module, first: Any, row: Value) -> Value:
        spec = self.spec
        winner, fields = Signal(self.shape.winner(spec.depth)), Signal(self.o.payload.data[0].shape(), name="fields")
        m.d.comb += [winner.word.eq(first.winner[:-1]), winner.index.eq(first.place | row << self.shape.lane_bits)]
        result(m, spec, fields, winner, first.winner[-1], C(1, 1))
        return fields
