"""The general channels: rows of an entry to words of a stream, and back."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.soc.accelerator import ROWS, AcceleratorSpec
from golden.soc.descriptor import ADDRESS_BITS, COUNT_BITS
from hdl.arith.bits import index_bits, named
from hdl.shared import Shared
from hdl.soc.bursts import Allowance, Splitter
from hdl.soc.layouts import ENTRY_LAYOUT, ROW, bounded, bounds, burst, extent, stored
from hdl.soc.rows import Measure, Meter, Rows
from hdl.stream.fifo import BlockFIFO, StreamFIFO
from hdl.stream.fork import fork

ASKED = data.StructLayout({"at": ADDRESS_BITS, "beats": COUNT_BITS})
"""A row that a unit asks for: beats, counted from the entry's address."""


class _Channel(wiring.Component):
    """What both directions share.

    ::

        entry --> Rows --> Measure --+--> Splitter --> Allowance --> bursts
                   (asked)           `--> queue --> Meter --> bounds of the words
    """

    def __init__(self, spec: AcceleratorSpec, slots: Sequence[int], members: dict[str, Any]):
        self.spec = spec
        self.slots = tuple(slots)
        common = {
            "load": In(1),
            "entry": In(ENTRY_LAYOUT),
            "slot": In(index_bits(max(slots) + 1)),
            "bursts": Out(stream.Signature(burst(spec))),
            "idle": Out(1),
        }
        super().__init__(common | members)

    def _rows(self, m: Module, rows: Any, busy: Any, begin: int, give: Any) -> Any:
        """Bursts of ``rows`` as far as words are given. Returns the bounds of the words."""
        spec = self.spec
        m.submodules.measure = measure = Shared(Measure, spec, self.slots)
        m.submodules.splitter = splitter = Shared(Splitter, spec)
        m.submodules.queue = queue = Shared(StreamFIFO, extent(spec), ROWS)
        m.submodules.meter = meter = Shared(Meter, spec)
        m.submodules.allowance = allowance = Shared(Allowance, spec, begin, spec.depth + 1)
        wiring.connect(m, rows, measure.i)
        fork(m, measure.o, (splitter.i, queue.i))
        wiring.connect(m, queue.o, meter.i)
        wiring.connect(m, splitter.o, allowance.i)
        wiring.connect(m, allowance.o, wiring.flipped(self.bursts))
        m.d.comb += [
            measure.slot.eq(self.slot),
            splitter.i.payload.eq(measure.o.payload),
            queue.i.payload.eq(measure.o.payload),
            allowance.give.eq(give),
            self.idle.eq(~(busy | measure.o.valid | splitter.o.valid | queue.o.valid)),
        ]
        return meter.o


class Input(_Channel):
    """From memory: words with bounds. ``slots``: what slots its streams have; ``asked``: whether a unit asks for rows.

    Members
    -------
    load : In(1), with ``entry``, while idle; slot : In, steady until idle; bursts : Out(stream), wanted; come : In(1),
    with ``word``, one of theirs; o : Out(stream of words with bounds); idle : Out(1), all have left. With ``asked``:
    follows : In(1), steady, rows are those of ``asked`` : In(stream), in the place of the entry's; beats : Out, of its
    entry.
    """

    kind = "input"

    def __init__(self, spec: AcceleratorSpec, slots: tuple[int, ...], asked: bool):
        self.asks = asked
        members: dict[str, Any] = {
            "come": In(1),
            "word": In(spec.bus),
            "o": Out(stream.Signature(bounded(spec))),
        }
        if asked:
            members |= {"follows": In(1), "asked": In(stream.Signature(ASKED)), "beats": Out(COUNT_BITS)}
        super().__init__(spec, slots, members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.loops = rows = Shared(Rows)
        m.submodules.words = words = Shared(BlockFIFO, spec.bus, spec.depth + 1)
        m.d.comb += rows.entry.eq(self.entry)
        source, busy = rows.o, rows.o.valid
        if self.asks:
            source = self._either(m, rows)
            busy = source.valid
        else:
            m.d.comb += rows.load.eq(self.load)
        left = named(m, words.o.valid & words.o.ready, "left")
        edges = self._rows(m, source, busy, spec.depth, left)
        m.d.comb += [
            words.i.valid.eq(self.come),
            words.i.payload.eq(self.word),
            self.o.payload.data.eq(words.o.payload),
            self.o.payload.bounds.eq(edges.payload),
            self.o.valid.eq(words.o.valid & edges.valid),
            words.o.ready.eq(self.o.ready & edges.valid),
            edges.ready.eq(self.o.ready & words.o.valid),
        ]
        return m

    def _either(self, m: Module, rows: Any) -> Any:
        """Rows of the entry, or those that are asked for."""
        base = Signal(ADDRESS_BITS, reset_less=True)
        with m.If(self.load):
            m.d.sync += [base.eq(self.entry.address), self.beats.eq(self.entry.beats)]
        source = stream.Signature(ROW).create()
        offset = Signal(ADDRESS_BITS)
        with m.Switch(self.slot):
            for slot in self.slots:
                with m.Case(slot):
                    m.d.comb += offset.eq(self.asked.payload.at << slot)
        m.d.comb += [
            rows.load.eq(self.load & ~self.follows),
            source.valid.eq(Mux(self.follows, self.asked.valid, rows.o.valid)),
            source.payload.address.eq(Mux(self.follows, base + offset, rows.o.payload.address)),
            source.payload.beats.eq(Mux(self.follows, self.asked.payload.beats, rows.o.payload.beats)),
            rows.o.ready.eq(source.ready & ~self.follows),
            self.asked.ready.eq(source.ready & self.follows),
        ]
        return source


class Output(_Channel):
    """To memory: words, as soon as there are those of a whole burst.

    Members
    -------
    load : In(1), with ``entry``, while idle; slot : In, steady until idle; bounds : Out(stream), of the words to come;
    i : In(stream of words); bursts : Out(stream), all of whose words are there; o : Out(stream of words); idle :
    Out(1), all bursts are on their way.
    """

    kind = "output"

    def __init__(self, spec: AcceleratorSpec, slots: tuple[int, ...]):
        word = stream.Signature(stored(spec))
        super().__init__(spec, slots, {"bounds": Out(stream.Signature(bounds(spec))), "i": In(word), "o": Out(word)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.loops = rows = Shared(Rows)
        m.submodules.words = words = Shared(BlockFIFO, stored(spec), spec.depth + 1)
        m.d.comb += [rows.entry.eq(self.entry), rows.load.eq(self.load)]
        edges = self._rows(m, rows.o, rows.o.valid, 0, named(m, words.i.valid & words.i.ready, "came"))
        wiring.connect(m, edges, wiring.flipped(self.bounds))
        wiring.connect(m, wiring.flipped(self.i), words.i)
        wiring.connect(m, words.o, wiring.flipped(self.o))
        return m
