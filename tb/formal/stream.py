"""What is proved of the stream kit: nothing lost, duplicated, reordered or changed, and outputs stable under stall."""

from functools import partial
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Array, Assert, Assume, C, Module, Mux, Signal, Value

from hdl.stream.credit import Credit
from hdl.stream.fifo import BlockFIFO, StreamFIFO
from hdl.stream.replay import Replay
from hdl.stream.skid import Skid
from hdl.stream.width import Narrow, Widen
from tb.formal import Claim, Property

WIDTH = 3  # bits of an item in the proofs: no unit of the kit looks at them


def implies(condition: Any, consequence: Any) -> Value:
    return ~Value.cast(condition).bool() | Value.cast(consequence).bool()


class StreamProperty(Property):
    """A unit with streams ``i`` and ``o``, both driven and taken at any time.

    ``put`` and ``get`` are the cycles of transfer; ``choose`` is free to pick an item to be followed. The offer at
    ``o`` is asserted to stay until it is taken.
    """

    def __init__(self, dut: Any, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.choose = Signal()
        self.inputs += [dut.i.valid, Value.cast(dut.i.payload), dut.o.ready, self.choose]
        self.put = dut.i.valid & dut.i.ready
        self.get = dut.o.valid & dut.o.ready

    def frame(self) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        payload = Value.cast(dut.o.payload)
        waited = Signal()
        offered = Signal(len(payload))
        m.d.sync += [waited.eq(dut.o.valid & ~dut.o.ready), offered.eq(payload)]
        m.d.comb += Assert(implies(waited, dut.o.valid & (payload == offered)))
        return m


class Queue(StreamProperty):
    """Any one item is followed through a queue: it leaves after exactly those that came before it, unchanged.

    ``i`` is refused only while ``depth`` items are inside, ``o`` is offered whenever one is: nothing can stay inside.
    """

    def __init__(self, dut: Any, invariant: bool = True):
        super().__init__(dut, invariant)
        self.depth = dut.depth
        self.count = Signal(range(self.depth + 2))
        self.followed = Signal()
        self.ahead = Signal(range(self.depth + 1))
        self.item = Signal(WIDTH)

    def elaborate(self, platform: Any) -> Module:
        m, dut = self.frame(), self.dut
        m.d.sync += self.count.eq(self.count + self.put - self.get)
        with m.If(self.followed & self.get):
            m.d.sync += [self.ahead.eq(self.ahead - 1), self.followed.eq(self.ahead != 0)]
        with m.If(~self.followed & self.choose & self.put):
            m.d.sync += [self.followed.eq(1), self.item.eq(dut.i.payload), self.ahead.eq(self.count - self.get)]
        m.d.comb += [Assert(condition) for condition in self.offers(m)]
        if self.invariant:
            inside = [
                self.count <= self.depth,
                implies(self.followed, self.ahead < self.count),
                *INSIDE[dut.kind](self),
            ]
            m.d.comb += [Assert(condition) for condition in inside]
        return m

    def offers(self, m: Module) -> list[Value]:
        """When ``i`` is accepted and ``o`` offered, and what."""
        dut = self.dut
        return [
            dut.o.valid == (self.count != 0),
            dut.i.ready == (self.count != self.depth),
            implies(self.followed & (self.ahead == 0), dut.o.valid & (dut.o.payload == self.item)),
        ]


class LateQueue(Queue):
    """The same for a queue that offers its head a cycle late: ``i`` is refused only while ``depth - 1`` items are
    inside, ``o`` is offered at the latest in the second cycle in which one is."""

    def offers(self, m: Module) -> list[Value]:
        dut = self.dut
        late = Signal()
        m.d.sync += late.eq((self.count != 0) & ~dut.o.valid)
        return [
            implies(dut.o.valid, self.count != 0),
            implies(late, dut.o.valid),
            implies(~dut.i.ready, self.count >= self.depth - 1),
            implies(self.followed & (self.ahead == 0) & dut.o.valid, dut.o.payload == self.item),
        ]


def skid_inside(p: Queue) -> list[Value]:
    return [implies(p.followed & (p.ahead == 1), p.probe("dut.second", WIDTH) == p.item)]


def fifo_inside(p: Queue) -> list[Value]:
    if p.depth == 1:
        return []
    level = p.probe("dut.queue.level", range(p.depth + 1))
    produce = p.probe("dut.queue.produce", range(p.depth))
    consume = p.probe("dut.queue.consume", range(p.depth))
    words = Array(p.probe(f"dut.queue.storage[{k}]", WIDTH) for k in range(p.depth))
    return [
        level == p.count,
        produce < p.depth,
        consume < p.depth,
        produce == (consume + p.count) % p.depth,
        implies(p.followed, words[(consume + p.ahead) % p.depth] == p.item),
    ]


def block_fifo_inside(p: Queue) -> list[Value]:
    depth, head = p.depth - 1, p.dut.o.valid
    produce = p.probe("dut.queue.produce", range(depth))
    consume = p.probe("dut.queue.consume", range(depth))
    words = Array(p.probe(f"dut.queue.storage[{k}]", WIDTH) for k in range(depth))
    return [
        p.probe("dut.queue.inner_level", range(depth + 1)) == p.count - head,
        p.count - head <= depth,
        produce < depth,
        consume < depth,
        produce == (consume + p.count - head) % depth,
        implies(p.followed & (p.ahead >= head), words[(consume + p.ahead - head) % depth] == p.item),
    ]


INSIDE = {"skid": skid_inside, "fifo": fifo_inside, "block_fifo": block_fifo_inside}


class Collected(StreamProperty):
    """Any one item is followed into its beat: item n of a beat stands in place n, and places without an item are 0."""

    def elaborate(self, platform: Any) -> Module:
        m, dut, ratio = self.frame(), self.dut, self.dut.ratio
        item, ends = (dut.i.payload.data, dut.i.payload.last) if dut.last else (dut.i.payload, C(0, 1))
        beat = dut.o.payload.data if dut.last else dut.o.payload
        places = Array(beat[k] for k in range(ratio))
        followed = Signal()
        content = Signal(WIDTH)
        place = Signal(range(max(2, ratio)))
        filled = Signal(range(ratio + 1))
        complete = Signal()
        ended = Signal()

        start = Mux(complete, 0, filled)
        with m.If(self.get):
            m.d.sync += [complete.eq(0), filled.eq(0), followed.eq(0)]
        with m.If(self.put):
            m.d.sync += [filled.eq(start + 1), complete.eq((start == ratio - 1) | ends), ended.eq(ends)]
            with m.If(self.choose & (~followed | self.get)):
                m.d.sync += [followed.eq(1), content.eq(item), place.eq(start)]

        m.d.comb += [
            Assert(dut.o.valid == complete),
            Assert(dut.i.ready == (~dut.o.valid | dut.o.ready)),
            Assert(implies(dut.o.valid & followed, places[place] == content)),
        ]
        if dut.last:
            m.d.comb += Assert(implies(dut.o.valid, dut.o.payload.last == ended))
            m.d.comb += [Assert(implies(dut.o.valid & (filled <= k), beat[k] == 0)) for k in range(ratio)]
        if self.invariant:
            held = [self.probe(f"dut.held_{k}", WIDTH) for k in range(ratio)]
            slot = self.probe("dut.slot", ratio)
            m.d.comb += [
                Assert(filled <= ratio),
                Assert(implies(~complete, filled < ratio)),
                Assert(implies(complete & ~ended, filled == ratio)),
                Assert(slot == (1 << Mux(complete, 0, filled))),
                Assert(implies(followed, (place < filled) & (Array(held)[place] == content))),
            ]
            if dut.last:
                m.d.comb += [Assert(implies((filled != 0) & (filled <= k), held[k] == 0)) for k in range(ratio)]
        return m


class HandedOut(StreamProperty):
    """Any one place of any one beat is followed: item n of a beat leaves n-th, the final one with the beat's last."""

    def elaborate(self, platform: Any) -> Module:
        m, dut, ratio = self.frame(), self.dut, self.dut.ratio
        beat = dut.i.payload.data if dut.last else dut.i.payload
        item = dut.o.payload.data if dut.last else dut.o.payload
        place = AnyConst(range(max(2, ratio)))
        content = Signal(WIDTH)
        busy = Signal()
        ended = Signal()
        out = Signal(range(max(2, ratio)))

        with m.If(self.get):
            m.d.sync += [out.eq(out + 1), busy.eq(1)]
            with m.If(out == ratio - 1):
                m.d.sync += [out.eq(0), busy.eq(0)]
        with m.If(self.put):
            m.d.sync += [busy.eq(1), content.eq(Array(beat[k] for k in range(ratio))[place])]
            if dut.last:
                m.d.sync += ended.eq(dut.i.payload.last)

        m.d.comb += [
            Assume(place < ratio),
            Assert(dut.o.valid == busy),
            Assert(dut.i.ready == (~busy | (self.get & (out == ratio - 1)))),
            Assert(implies(busy & (out == place), item == content)),
        ]
        if dut.last:
            m.d.comb += Assert(implies(busy, dut.o.payload.last == (ended & (out == ratio - 1))))
        if self.invariant:
            held = Array(self.probe(f"dut.held_{k}", WIDTH) for k in range(ratio))
            slot = self.probe("dut.slot", ratio)
            m.d.comb += [
                Assert(out < ratio),
                Assert(implies(~busy, out == 0)),
                Assert(slot == (1 << out)),
                Assert(implies(busy & (out <= place), held[(place - out)[: len(place)]] == content)),
            ]
            if dut.last:
                m.d.comb += Assert(implies(busy, self.probe("dut.ended") == ended))
        return m


class Bounded(Property):
    """Of work started only when ready, at most ``depth`` is ever under way, and ready is withheld only then."""

    def __init__(self, dut: Any, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.inputs += [dut.take, dut.give]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        depth = dut.depth
        under_way = Signal(range(depth + 2))
        m.d.sync += under_way.eq(under_way + dut.take - dut.give)
        m.d.comb += [
            Assume(implies(dut.take, dut.ready)),
            Assume(implies(dut.give, under_way != 0)),
            Assert(under_way <= depth),
            Assert(dut.ready == (under_way != depth)),
        ]
        if self.invariant:
            m.d.comb += Assert(self.probe("dut.free", range(depth + 1)) + under_way == depth)
        return m


class Replayed(StreamProperty):
    """Any one place is followed: the word that came there last is handed out at that place of every round, and there
    are as many rounds as were asked for, each begun in time."""

    def __init__(self, dut: Replay, invariant: bool = True):
        super().__init__(dut, invariant)
        self.inputs += [dut.load, dut.again]

    def elaborate(self, platform: Any) -> Module:
        m, dut = self.frame(), self.dut
        depth, most = dut.depth, dut.most
        place = AnyConst(range(depth))
        word = Signal(WIDTH)
        came = Signal(range(depth + 1), init=depth)  # of the words that are loaded
        loaded = Signal()
        out = Signal(range(depth))
        owed = Signal(range(most + 2))
        waits = Signal(2)
        coming = came != depth
        ends = self.get & (out == depth - 1)
        m.d.sync += [owed.eq(owed + dut.again - ends), waits.eq(Mux(coming | dut.o.valid, 0, waits + (owed > 0)))]
        with m.If(self.get):
            m.d.sync += out.eq(Mux(ends, 0, out + 1))
        with m.If(self.put):
            m.d.sync += came.eq(came + 1)
            with m.If(came == place):
                m.d.sync += word.eq(dut.i.payload)
        with m.If(dut.load):
            m.d.sync += [came.eq(0), loaded.eq(1)]
        m.d.comb += [
            Assume(implies(dut.load, (owed == 0) & ~dut.again & ~coming)),
            Assume(implies(dut.again, loaded & (owed < most))),
            Assert(dut.i.ready == coming),
            Assert(implies(dut.o.valid, (owed > 0) & ~coming)),
            Assert(implies(dut.o.valid & (out == place), dut.o.payload == word)),
            Assert(waits < 2),
        ]
        if self.invariant:
            there, at = dut.o.valid, self.probe("dut.at", range(depth) if depth > 1 else 1)
            written = self.probe("dut.write_at", range(depth) if depth > 1 else 1)
            words = Array(self.probe(f"dut.words[{k}]", WIDTH) for k in range(depth))
            m.d.comb += [
                Assert((came <= depth) & (owed <= most) & (out < depth)),
                Assert(written == Mux(coming, came, 0)),
                Assert(at == (out + there) % depth),
                Assert(self.probe("dut.left", range(most + 1)) == owed - (there & (out == depth - 1))),
                Assert(implies(loaded & (came > place), words[place] == word)),
                Assert(implies(coming | (owed > 0), loaded)),
            ]
        return m


QUEUE = "every item leaves once, unchanged and in order; refused only when full; the offer is stable"
LATE_QUEUE = "every item leaves once, unchanged and in order; refused only when nearly full; the offer is stable"
WIDEN = "item n of a beat stands in place n, missing ones are 0; a beat per ratio items or last; the offer is stable"
NARROW = "item n of a beat leaves n-th, once and unchanged, last with the final one; the offer is stable"
REPLAY = "as many rounds as asked for, of all words in order, each as it came; the offer is stable and in time"
CREDIT = "never more than depth under way, ready whenever there are fewer"


def _claims(unit: Any, spec: Any, text: str, *sizes: tuple[str, tuple[Any, ...]]) -> list[Claim]:
    return [Claim(unit.__name__, text, size, partial(_circuit, unit, spec, args)) for size, args in sizes]


def _circuit(unit: Any, spec: Any, args: tuple[Any, ...]) -> Property:
    circuit: Property = spec(unit(*args))
    return circuit


_ITEMS = f"{WIDTH}-bit items"
_RATIOS = [
    (f"ratio {n}{', with last' * last}, {_ITEMS}", (WIDTH, n, last)) for n in (1, 2, 3, 4) for last in (False, True)
]

CLAIMS = (
    *_claims(Skid, Queue, QUEUE, (_ITEMS, (WIDTH,))),
    *_claims(StreamFIFO, Queue, QUEUE, *((f"depth {n}, {_ITEMS}", (WIDTH, n)) for n in (1, 2, 3, 4, 7))),
    *_claims(BlockFIFO, LateQueue, LATE_QUEUE, *((f"depth {n}, {_ITEMS}", (WIDTH, n)) for n in (3, 4, 7))),
    *_claims(Widen, Collected, WIDEN, *_RATIOS),
    *_claims(Narrow, HandedOut, NARROW, *_RATIOS),
    *_claims(Replay, Replayed, REPLAY, *((f"{n} words, {_ITEMS}", (WIDTH, n, 2)) for n in (1, 2, 3, 5))),
    *_claims(Credit, Bounded, CREDIT, *((f"depth {n}", (n,)) for n in (1, 2, 5, 8))),
)
