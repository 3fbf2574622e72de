"""A block of words that a stream repeats."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import index_bits, named


class Replay(wiring.Component):
    """Keeps ``depth`` words and hands out all of them, in order, once for each ``again``.

    Latency     2 cycles from ``again`` to the first word, if the words are there.
    Throughput  one word per cycle.

    Members
    -------
    load : In(1), other words will come, when none are handed out nor will be; i : In(stream of words), refused but
    after ``load``; open : Out(1), fewer than ``most`` times are due; again : In(1), once more, only while ``open``;
    o : Out(stream of words).
    """

    kind = "replay"

    def __init__(self, width: int, depth: int, most: int):
        self.depth = depth
        self.most = most
        super().__init__(
            {
                "load": In(1),
                "i": In(stream.Signature(width)),
                "open": Out(1),
                "again": In(1),
                "o": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.words = memory = Memory(shape=self.i.payload.shape(), depth=max(2, self.depth), init=[])
        write, read = memory.write_port(), memory.read_port()
        coming = Signal()
        write_at = Signal(index_bits(self.depth))
        keep = named(m, self.i.valid & coming, "keep")
        m.d.comb += [
            self.i.ready.eq(coming),
            write.addr.eq(write_at),
            write.data.eq(self.i.payload),
            write.en.eq(keep),
        ]
        full = named(m, write_at == self.depth - 1, "full")
        with m.If(keep):
            m.d.sync += [write_at.eq(Mux(full, 0, write_at + 1)), coming.eq(~full)]
        with m.If(self.load):
            m.d.sync += coming.eq(1)

        left = Signal(range(self.most + 1))  # times that they are still to be handed out
        at = Signal(index_bits(self.depth))
        there = Signal()
        go = named(m, ~there | self.o.ready, "go")
        take = named(m, left.any() & ~coming & go, "take")
        ends = named(m, at == self.depth - 1, "ends")
        m.d.comb += [
            self.open.eq(left != self.most),
            read.addr.eq(at),
            read.en.eq(take),
            self.o.valid.eq(there),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += left.eq(left + self.again - (take & ends))
        with m.If(go):
            m.d.sync += there.eq(take)
        with m.If(take):
            m.d.sync += at.eq(Mux(ends, 0, at + 1))
        return m
