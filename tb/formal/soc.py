"""What is proved of the accelerator's DMA: bursts, their order, their room, and which bytes of a word are a row's."""

from functools import partial
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Array, Assert, Assume, C, Cat, Module, Mux, Signal, Value

from golden.soc.accelerator import AcceleratorSpec
from hdl.soc.bursts import Allowance, Arbiter, Splitter
from hdl.soc.channels import Input
from hdl.soc.rows import Meter
from tb.formal import Claim, Property
from tb.formal.dispatch import wire
from tb.formal.stream import implies

SMALL = AcceleratorSpec(bus=64, burst=4, depth=4, outstanding=2)


def _inputs(*streams: tuple[Any, str]) -> list[Value]:
    """What drives them from outside: a source its payload and valid, a sink its ready."""
    driven: list[Value] = []
    for stream, side in streams:
        driven += [Value.cast(stream.payload), stream.valid] if side == "in" else [stream.ready]
    return driven


class Split(Property):
    """The words of a row, one after the other: each burst begins where the one before ended, stays between two
    multiples of ``burst``, and the last one ends with the row. (4 KiB are such a multiple.)"""

    def __init__(self, dut: Splitter, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.inputs += _inputs((dut.i, "in"), (dut.o, "out"))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        most = dut.spec.burst
        row, out = dut.i.payload, dut.o.payload
        word, left = Signal.like(row.word), Signal.like(row.words)
        with m.If(dut.o.valid & dut.o.ready):
            m.d.sync += [word.eq(word + out.length), left.eq(left - out.length)]
        with m.If(dut.i.valid & dut.i.ready):
            m.d.sync += [word.eq(row.word), left.eq(row.words)]
        stays = wire(m, left - out.length, "stays")
        m.d.comb += [
            Assume(row.words.any()),
            Assert(dut.o.valid == left.any()),
            Assert(dut.i.ready == (~left.any() | (dut.o.ready & ~stays.any()))),
            Assert(implies(dut.o.valid, (out.word == word) & out.length.any() & (out.length <= left))),
            Assert(implies(dut.o.valid, word % most + out.length <= most)),
            # no shorter than it must be
            Assert(implies(dut.o.valid & stays.any(), word % most + out.length == most)),
        ]
        if self.invariant:
            m.d.comb += [
                Assert(self.probe("dut.left", len(left)) == left),
                Assert(implies(left.any(), self.probe("dut.word", len(word)) == word)),
            ]
        return m


class Allowed(Property):
    """A burst goes exactly when there are words enough for it."""

    def __init__(self, dut: Allowance, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.inputs += [dut.give, *_inputs((dut.i, "in"), (dut.o, "out"))]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        words = Signal(8, init=dut.begin)
        length = dut.i.payload.length
        gone = wire(m, dut.i.valid & dut.i.ready, "gone")
        m.d.sync += words.eq(words + dut.give - Mux(gone, length, 0))
        m.d.comb += [
            Assume(length.any() & (length <= dut.spec.burst)),
            Assume(implies(dut.give, words != dut.most)),
            Assert(dut.o.valid == (dut.i.valid & (words >= length))),
            Assert(gone == (dut.o.valid & dut.o.ready)),
            Assert(Value.cast(dut.o.payload) == Value.cast(dut.i.payload)),
            Assert(words <= dut.most),
        ]
        if self.invariant:
            m.d.comb += Assert(self.probe("dut.words", range(dut.most + 1)) == words)
        return m


class Fair(Property):
    """Any one channel that waits is passed over by each other one at most once; a burst comes out as it went in, under
    its channel's number, and is offered until it is taken."""

    def __init__(self, dut: Arbiter, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.sources = [getattr(dut, f"i_{n}") for n in range(dut.channels)]
        self.inputs += [dut.go, *_inputs(*((i, "in") for i in self.sources), (dut.o, "out"))]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        n = dut.channels
        mine = AnyConst(range(n))
        taken = [wire(m, i.valid & i.ready, f"taken_{k}") for k, i in enumerate(self.sources)]
        waits = Array(i.valid & ~t for i, t in zip(self.sources, taken, strict=True))[mine]
        passed = Signal(n)  # those that went while mine waits
        last = Signal(range(n), init=n - 1)
        m.d.sync += passed.eq(Mux(waits, passed | Cat(taken), 0))
        was = Signal(Value.cast(dut.next).shape(), name="was")
        with m.If(dut.taken):
            m.d.sync += [last.eq(dut.next.channel), was.eq(dut.next)]
        m.d.comb += [
            Assume(mine < n),
            Assert(dut.taken == Cat(taken).any()),
            Assert(implies(dut.taken, dut.go & (~dut.o.valid | dut.o.ready))),
            Assert(implies(Cat(taken).any(), ~(Cat(taken) & (Cat(taken) - 1)[:n]).any())),
            Assert(implies(waits, ~(passed & Cat(taken)).any())),
            Assert(implies(dut.o.valid, Value.cast(dut.o.payload) == was)),
        ]
        for k, i in enumerate(self.sources):
            chosen = (dut.next.channel == k) & (Value.cast(dut.next.burst) == Value.cast(i.payload))
            # bursts stay until they are taken
            held, before = Signal(name=f"held_{k}"), Signal(Value.cast(i.payload).shape(), name=f"before_{k}")
            m.d.sync += [held.eq(i.valid & ~taken[k]), before.eq(i.payload)]
            m.d.comb += [
                Assert(implies(taken[k], chosen)),
                Assume(implies(held, i.valid & (Value.cast(i.payload) == before))),
            ]
        offered = Signal()
        m.d.sync += offered.eq(dut.taken | (dut.o.valid & ~dut.o.ready))
        m.d.comb += Assert(dut.o.valid == offered)
        if self.invariant:
            self._relate(m, mine, passed, last)
        return m

    def _relate(self, m: Module, mine: Value, passed: Signal, last: Signal) -> None:
        """Turns go upwards from ``mine`` on: none that passed stands above the one that went last."""
        n = self.dut.channels
        above = Array(C((1 << n) - (2 << k), n) for k in range(n))
        rank = {k: wire(m, (k + 2 * n - mine - 1) % n, f"rank_{k}") for k in range(n)}
        m.d.comb += [
            Assert(last < n),
            Assert(self.probe("dut.after", n) == above[last]),
            Assert(~Array(Value.cast(passed[k]) for k in range(n))[mine]),
            *(Assert(implies(passed[k], rank[k] <= Array(rank.values())[last])) for k in range(n)),
            Assert(implies(passed.any(), Array(rank.values())[last] != n - 1)),
        ]


class Metered(Property):
    """A row's first word begins at its first byte, its last word ends at its last byte, and there are as many as it
    has."""

    def __init__(self, dut: Meter, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.inputs += _inputs((dut.i, "in"), (dut.o, "out"))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        row, out = dut.i.payload, dut.o.payload
        number = Signal.like(row.words)
        last = wire(m, number + 1 == row.words, "the_last")
        held, before = Signal(), Signal(Value.cast(row).shape())
        m.d.sync += [held.eq(dut.i.valid & ~dut.i.ready), before.eq(row)]
        with m.If(dut.o.valid & dut.o.ready):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
        m.d.comb += [
            Assume(row.words.any() & ~row.words[-1]),
            Assume(implies(held, dut.i.valid & (Value.cast(row) == before))),
            Assert(dut.o.valid == dut.i.valid),
            Assert(dut.i.ready == (dut.o.ready & last)),
            Assert(out.first == Mux(number.any(), 0, row.first)),
            Assert(out.end == Mux(last, row.end, dut.spec.bus_bytes - 1)),
            Assert(out.last == last),
        ]
        if self.invariant:
            m.d.comb += [
                Assert(self.probe("dut.inside") == number.any()),
                Assert(implies(number.any(), held & (number < before_words(dut, before)))),
                Assert(
                    implies(number.any(), self.probe("dut.left", len(number)) == before_words(dut, before) - number - 1)
                ),
            ]
        return m


def before_words(dut: Meter, before: Signal) -> Value:
    """The words of the row that was there before."""
    width = dut.spec.word_width
    return before[width : width + dut.spec.words_width]


class Roomy(Property):
    """A channel from memory, its bursts answered at any time: there is room for every word that comes."""

    def __init__(self, dut: Input, invariant: bool = True):
        super().__init__()
        self.dut = dut
        self.invariant = invariant
        self.inputs += [dut.load, Value.cast(dut.entry), dut.slot, dut.bursts.ready, dut.come, dut.word, dut.o.ready]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        depth = dut.spec.depth
        coming = Signal(8)  # words of bursts that were begun
        gone = wire(m, dut.bursts.valid & dut.bursts.ready, "gone")
        m.d.sync += coming.eq(coming + Mux(gone, dut.bursts.payload.length, 0) - dut.come)
        level = self.probe("dut.words.block.queue.inner_level", range(depth + 1))
        m.d.comb += [
            Assume(implies(dut.come, coming.any())),
            Assert(implies(dut.come, level != depth)),  # the queue's own condition
        ]
        if self.invariant:
            head = self.probe("dut.words.block.o__valid")
            words = self.probe("dut.allowance.block.words", range(depth + 2))
            m.d.comb += Assert(coming + level + head + words == depth)
        return m


def _claim(unit: Any, spec: Any, text: str, size: str, *args: Any) -> Claim:
    return Claim(unit.__name__, text, size, partial(_circuit, unit, spec, args))


def _circuit(unit: Any, spec: Any, args: tuple[Any, ...]) -> Property:
    circuit: Property = spec(unit(SMALL, *args))
    return circuit


CLAIMS = (
    _claim(Splitter, Split, "bursts are a row's words in order, none across a multiple of burst", "burst 4"),
    *(
        _claim(Allowance, Allowed, "a burst goes when there are words enough for it", f"from {n}, depth 4", n, 4)
        for n in (0, 4)
    ),
    *(
        _claim(Arbiter, Fair, "a channel is passed over once by each other; bursts are unchanged", f"{n} channels", n)
        for n in (1, 2, 3)
    ),
    _claim(Meter, Metered, "the bytes of each word that are a row's", "8 bytes a word"),
    _claim(Input, Roomy, "there is room for every word that comes", "depth 4", (3,), False),
)
