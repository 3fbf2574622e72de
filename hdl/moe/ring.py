"""Weights on their way: what a tile needs is kept until its last use, while the next tile's comes in behind it."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import named


class Ring(wiring.Component):
    """A ring of words. Tiles of ``length`` words are read ``passes`` times each, one after the other; what has been
    read for the last time is free.

    Latency     2 cycles from a word's arrival, or from ``start``, to the same word at ``o``.
    Throughput  one word per cycle in, one out.

    Parameters
    ----------
    width : of a word; depth : a power of two; most : words of the longest tile, and tiles and passes.

    Members
    -------
    due, more : In, so many words will come (there is room for them); i : In(stream of words), refused while none are
    due; start : In(1); length, passes, tiles : In, less one, steady while tiles are read; o : Out(stream of word and
    ``last``, of a tile); freed : Out(1), a word is.
    """

    kind = "ring"

    def __init__(self, width: int, depth: int, most: tuple[int, int, int]):
        self.depth = depth
        length, tiles, passes = ((n - 1).bit_length() or 1 for n in most)
        super().__init__(
            {
                "due": In(1),
                "more": In(depth.bit_length()),
                "i": In(stream.Signature(width)),
                "start": In(1),
                "length": In(length),
                "tiles": In(tiles),
                "passes": In(passes),
                "o": Out(stream.Signature(data.StructLayout({"data": width, "last": 1}))),
                "freed": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.words = memory = Memory(shape=self.i.payload.shape(), depth=self.depth, init=[])
        keep = self._write(m, memory.write_port())
        ahead = Signal(self.depth.bit_length())  # words from the beginning of the tile that have come
        leave = self._read(m, memory.read_port(), ahead)
        m.d.sync += ahead.eq(ahead + keep - Mux(leave, self.length + 1, 0))
        return m

    def _write(self, m: Module, write: Any) -> Value:
        """Returns that a word comes."""
        coming = Signal(self.depth.bit_length())
        at = Signal(range(self.depth), name="write_at")
        keep = named(m, self.i.valid & self.i.ready, "keep")
        m.d.comb += [
            self.i.ready.eq(coming.any()),
            write.addr.eq(at),
            write.data.eq(self.i.payload),
            write.en.eq(keep),
        ]
        m.d.sync += coming.eq(coming + Mux(self.due, self.more, 0) - keep)
        with m.If(keep):
            m.d.sync += at.eq(at + 1)
        return keep

    def _read(self, m: Module, read: Any, ahead: Value) -> Value:
        """Word after word, pass after pass. Returns that a tile has been read for the last time."""
        running = Signal()
        base = Signal(range(self.depth))
        step = Signal.like(self.length)
        pass_ = Signal.like(self.passes)
        tile = Signal.like(self.tiles)
        there = Signal()
        last = Signal()
        go = named(m, ~there | self.o.ready, "go")
        take = named(m, running & (step < ahead) & go, "take")
        ends = named(m, step == self.length, "ends")
        last_pass = named(m, pass_ == self.passes, "last_pass")
        leave = named(m, take & ends & last_pass, "leave")
        m.d.comb += [
            read.addr.eq((base + step)[: len(base)]),
            read.en.eq(take),
            self.freed.eq(take & last_pass),
            self.o.valid.eq(there),
            self.o.payload.data.eq(read.data),
            self.o.payload.last.eq(last),
        ]
        with m.If(go):
            m.d.sync += there.eq(take)
        with m.If(take):
            m.d.sync += [last.eq(ends), step.eq(Mux(ends, 0, step + 1))]
            with m.If(ends):
                m.d.sync += pass_.eq(Mux(last_pass, 0, pass_ + 1))
        with m.If(leave):
            m.d.sync += [base.eq(base + self.length + 1), tile.eq(Mux(tile == self.tiles, 0, tile + 1))]
            with m.If(tile == self.tiles):
                m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += running.eq(1)
        return leave
