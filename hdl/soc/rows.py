"""From an entry to the words of its rows."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ADDRESS_BITS, COUNT_BITS
from hdl.arith.bits import index_bits, named
from hdl.soc.layouts import ENTRY_LAYOUT, ROW, bounds, extent


class Rows(wiring.Component):
    """The rows of an entry, one after the other: two loops, the inner one over ``rows``.

    Latency     1 cycle from ``load`` to the first row.
    Throughput  a row per cycle.

    Members
    -------
    load : In(1), with ``entry``, while there are no rows; o : Out(stream of rows).
    """

    kind = "rows"

    def __init__(self) -> None:
        super().__init__({"load": In(1), "entry": In(ENTRY_LAYOUT), "o": Out(stream.Signature(ROW))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        kept = {name: Signal(shape, name=f"kept_{name}", reset_less=True) for name, shape in _KEPT.items()}
        at, first = Signal(ADDRESS_BITS, reset_less=True), Signal(ADDRESS_BITS, reset_less=True)
        row = Signal(COUNT_BITS, reset_less=True)  # left of this time, this one included
        left = Signal(COUNT_BITS)  # times, this one included
        ends = named(m, row == 1, "ends")
        again = named(m, (first + kept["repeat_stride"])[:ADDRESS_BITS], "again")
        m.d.comb += [
            self.o.valid.eq(left.any()),
            self.o.payload.address.eq(at),
            self.o.payload.beats.eq(kept["beats"]),
        ]
        with m.If(self.load):
            m.d.sync += [
                *(signal.eq(self.entry[name]) for name, signal in kept.items()),
                at.eq(self.entry.address),
                first.eq(self.entry.address),
                row.eq(self.entry.rows),
                left.eq(self.entry.repeats),
            ]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [
                at.eq(Mux(ends, again, at + kept["stride"])),
                row.eq(Mux(ends, kept["rows"], row - 1)),
                left.eq(left - ends),
            ]
            with m.If(ends):
                m.d.sync += first.eq(again)
        return m


_KEPT = {name: ENTRY_LAYOUT[name].shape for name in ("beats", "rows", "stride", "repeat_stride")}


class Measure(wiring.Component):
    """Rows of beats as words of memory.

    ::

        memory   |....####|########|########|##......|     first  4, end 1, words 4
                  word     word + 1 ...

    Latency     1 cycle.
    Throughput  a row per cycle; ``i`` is refused while one waits at ``o``.

    Members
    -------
    slot : In, steady: two to this are the bytes of a beat, one of ``slots``; i : In(stream of rows);
    o : Out(stream of extents).
    """

    kind = "measure"

    def __init__(self, spec: AcceleratorSpec, slots: tuple[int, ...]):
        self.spec = spec
        self.slots = slots
        super().__init__(
            {
                "slot": In(index_bits(max(slots) + 1)),
                "i": In(stream.Signature(ROW)),
                "o": Out(stream.Signature(extent(spec))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        edge = self.spec.word_bits
        row = self.i.payload
        size = Signal(COUNT_BITS + max(self.slots))
        with m.Switch(self.slot):
            for slot in self.slots:
                with m.Case(slot):
                    m.d.comb += size.eq(row.beats << slot)
        start = row.address[:edge]
        stop = Signal(len(size) + 1)  # the row's last byte, from its first word on
        m.d.comb += [stop.eq((start + size - 1)[: len(stop)]), self.i.ready.eq(~self.o.valid | self.o.ready)]
        with m.If(self.i.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid),
                self.o.payload.word.eq(row.address[edge:]),
                self.o.payload.words.eq(stop[edge:] + 1),
                self.o.payload.first.eq(start),
                self.o.payload.end.eq(stop[:edge]),
            ]
        return m


class Meter(wiring.Component):
    """The bounds of each word of a row.

    Latency     none: bounds stand at ``o`` while their extent stands at ``i``, which is taken with the last of them.

    Members
    -------
    i : In(stream of extents); o : Out(stream of bounds).
    """

    kind = "meter"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        super().__init__({"i": In(stream.Signature(extent(spec))), "o": Out(stream.Signature(bounds(spec)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        row, to = self.i.payload, self.o.payload
        left = Signal(self.spec.words_width)  # words behind this one, from the second on
        inside = Signal()
        behind = named(m, Mux(inside, left, (row.words - 1)[: self.spec.words_width]), "behind")
        last = named(m, ~behind.any(), "last")
        m.d.comb += [
            to.first.eq(Mux(inside, 0, row.first)),
            to.end.eq(Mux(last, row.end, self.spec.bus_bytes - 1)),
            to.last.eq(last),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [left.eq(behind - 1), inside.eq(~last)]
        return m
