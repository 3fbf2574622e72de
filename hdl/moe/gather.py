"""Activations on their way into the array: a token per row, from wherever it stands."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.expert import ExpertFFNSpec
from hdl.arith.bits import index_bits, named
from hdl.arith.delay import delay

READ = 2
"""Cycles from a position to its word: which token stands there, its activations."""


class Gather(wiring.Component):
    """Reads a word of ``lanes`` activations for each row in turn, while those before leave step by step.

    ::

        place --> [queue] --> token --> [activations] --> row 0, 1, ... (next) --> row 0, 1, ... (shifting) --> o

    Latency     rows + 4 cycles from ``start`` to the first step.
    Throughput  a step per cycle.

    Members
    -------
    start : In(1); tiles, passes, words : In, steady, all less one: column tiles, tiles of tokens and words of a token;
    count : In, tokens of the queue; place : Out, an entry's number in its queue; word : Out, one cycle later, of that
    token's activations; data : In, that word, in the cycle after; o : Out(stream of a step, with tlast): rows without
    a token are 0.
    """

    kind = "gather"

    def __init__(self, spec: ExpertFFNSpec):
        self.spec = spec
        assert spec.lanes
        super().__init__(
            {
                "start": In(1),
                "tiles": In(index_bits(spec.most_tiles)),
                "passes": In(index_bits(spec.most_passes)),
                "words": In(index_bits(spec.most_words)),
                "count": In(spec.tokens.bit_length()),
                "place": Out(index_bits(spec.tokens)),
                "word": Out(index_bits(spec.most_words)),
                "data": In(16 * spec.lanes),
                "o": Out(stream.Signature(data.StructLayout({"data": 16 * spec.rows, "last": 1}))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        swap = Signal()  # the next words become those that leave
        next_, full, next_last = self._read(m, swap)
        self._shift(m, swap, next_, full, next_last)
        return m

    def _read(self, m: Module, swap: Signal) -> tuple[list[Signal], Signal, Signal]:
        """The next word of each row; whether all are there; whether they are a tile's last."""
        spec = self.spec
        running = Signal()
        row = Signal(index_bits(spec.rows))
        word = Signal.like(self.word)
        pass_ = Signal.like(self.passes)
        tile = Signal.like(self.tiles)
        filling = Signal()  # words are being read
        kept = Signal()  # they, or words that are there, wait for those before to leave
        full = Signal()
        ends = [row == spec.rows - 1, word == self.words, pass_ == self.passes, tile == self.tiles]
        take = named(m, running & (filling | ~kept | swap), "take")
        place = named(m, Cat(row[: spec.rows.bit_length() - 1], pass_), "place_now")
        m.d.comb += [self.place.eq(place), self.word.eq(delay(m, word, 1, "word_then"))]
        ended = take
        for counter, end in zip((row, word, pass_, tile), ends, strict=True):
            with m.If(ended):
                m.d.sync += counter.eq(Mux(end, 0, counter + 1))
            ended = named(m, ended & end, f"ended_{counter.name}")
        with m.If(take):
            m.d.sync += [filling.eq(~ends[0]), kept.eq(1)]
        with m.Elif(swap):
            m.d.sync += kept.eq(0)
        with m.If(ended):
            m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += running.eq(1)
        # two cycles later
        there = delay(m, take, READ, "there", init=0)
        at = delay(m, row, READ, "at")
        absent = delay(m, place >= self.count, READ, "absent")
        complete = delay(m, take & ends[0], READ, "complete", init=0)
        next_ = [Signal(len(self.data), name=f"next_{r}", reset_less=True) for r in range(spec.rows)]
        last = delay(m, ends[1], READ, "last_then")
        with m.If(there):
            m.d.sync += Array(next_)[at].eq(Mux(absent, 0, self.data))
        held = Signal(reset_less=True)
        with m.If(complete):
            m.d.sync += [full.eq(1), held.eq(last)]
        with m.Elif(swap):
            m.d.sync += full.eq(0)
        return next_, full, held

    def _shift(self, m: Module, swap: Signal, next_: list[Signal], full: Signal, next_last: Signal) -> None:
        spec = self.spec
        assert spec.lanes
        now = [Signal(len(self.data), name=f"now_{r}", reset_less=True) for r in range(spec.rows)]
        left = Signal(range(spec.lanes))  # steps behind this one
        there = Signal()
        last = Signal(reset_less=True)
        gone = named(m, ~there | (self.o.ready & ~left.any()), "gone")
        m.d.comb += [
            swap.eq(full & gone),
            self.o.valid.eq(there),
            self.o.payload.data.eq(Cat(one[:16] for one in now)),
            self.o.payload.last.eq(last & ~left.any()),
        ]
        with m.If(gone):
            m.d.sync += [there.eq(full), left.eq(spec.lanes - 1), last.eq(next_last)]
            m.d.sync += [one.eq(new) for one, new in zip(now, next_, strict=True)]
        with m.Elif(self.o.ready):
            m.d.sync += [left.eq(left - 1), *(one.eq(one[16:]) for one in now)]
