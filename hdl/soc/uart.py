"""A serial line, 8N1, to bytes and back."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from golden.soc.uart import BITS, Line
from hdl.arith.bits import named

SYMBOL = data.StructLayout({"byte": 8, "gap": 1})
"""A byte, or a gap."""


class Receiver(wiring.Component):
    """Looks at each bit once, in its middle, counted from the falling edge of the start bit.

    After ``silence`` bits without a start it gives a gap, once. A byte whose stop bit is low, as in a break, is none;
    it and all that follow up to the next gap are dropped, and so is a byte that comes while the one before waits at
    ``o``, with all that follow.

    Latency     3 cycles from the middle of the stop bit to ``o``: two registers bring the line into the clock domain.
    Ranges      the line may be faster or slower by half a bit in ten, less one cycle of the clock.

    Members
    -------
    rx : In(1), the line; o : Out(stream of symbols).
    """

    kind = "receiver"

    def __init__(self, line: Line):
        self.line = line
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(SYMBOL))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        level = Signal(init=1)
        before = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, level, init=1)
        m.d.sync += before.eq(level)
        bit = Signal(range(BITS))
        busy = Signal()
        timer = Signal(range(self.line.divisor))
        byte = Signal(8, reset_less=True)
        heard = Signal()
        deaf = Signal()
        now = named(m, busy & ~timer.any(), "now")
        ends = named(m, now & (bit == BITS - 1), "ends")
        begins = named(m, ~busy & before & ~level, "begins")
        free = named(m, ~self.o.valid | self.o.ready, "free")
        gap = named(m, heard & free & ~busy & self._silent(m, busy | ~level), "gap")
        with m.If(begins):
            m.d.sync += [busy.eq(1), bit.eq(0), timer.eq(self.line.divisor // 2 - 1), heard.eq(1)]
        with m.If(busy):
            m.d.sync += timer.eq(timer - 1)
        with m.If(now):
            m.d.sync += [bit.eq(bit + 1), timer.eq(self.line.divisor - 1), byte.eq(Cat(byte[1:], level))]
            with m.If(ends | (~bit.any() & level)):
                m.d.sync += busy.eq(0)
        with m.If(free):
            m.d.sync += self.o.valid.eq((ends & level & ~deaf) | gap)
            m.d.sync += [self.o.payload.byte.eq(byte), self.o.payload.gap.eq(gap)]
        with m.If(ends & (~level | ~free)):
            m.d.sync += deaf.eq(1)
        with m.If(gap):
            m.d.sync += [heard.eq(0), deaf.eq(0)]
        return m

    def _silent(self, m: Module, restart: Any) -> Any:
        quiet = Signal(range(self.line.quiet + 1))
        silent = named(m, quiet == self.line.quiet, "silent")
        with m.If(restart):
            m.d.sync += quiet.eq(0)
        with m.Elif(~silent):
            m.d.sync += quiet.eq(quiet + 1)
        return silent


class Transmitter(wiring.Component):
    """Latency     1 cycle to the start bit.
    Throughput  a byte in ten bits and a cycle.

    Members
    -------
    i : In(stream of bytes); tx : Out(1), the line.
    """

    kind = "transmitter"

    def __init__(self, line: Line):
        self.line = line
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = Signal(BITS, init=-1)
        left = Signal(range(BITS + 1))
        timer = Signal(range(self.line.divisor))
        m.d.comb += [self.i.ready.eq(~left.any()), self.tx.eq(bits[0])]
        with m.If(self.i.ready):
            m.d.sync += timer.eq(self.line.divisor - 1)
            with m.If(self.i.valid):
                m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), left.eq(BITS)]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
            with m.If(~timer.any()):
                m.d.sync += [timer.eq(self.line.divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], 1))]
        return m
