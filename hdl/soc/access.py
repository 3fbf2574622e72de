"""One word of registers or memory read or written: the bus side of the bridge."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.axi import INCR
from golden.soc.bridge import CACHE, SIZE, WORD, BridgeSpec
from golden.soc.descriptor import ADDRESS_BITS
from hdl.arith.bits import choose, named
from hdl.stream.signature import stream_members

ACCESS = data.StructLayout({"write": 1, "memory": 1, "address": ADDRESS_BITS, "data": 8 * WORD})
ANSWERED = data.StructLayout({"data": 8 * WORD, "resp": 2})


class Access(wiring.Component):
    """An access at a time, to AXI4-Lite or to AXI4.

    Latency     1 cycle from ``i`` to the address (and the word to write), none from the answer to ``o``; 2 cycles from
                access to access, slaves answering at once.

    An answer is taken when the address and the word have been, and ``o`` is ready.

    Members
    -------
    i : In(stream of ACCESS); o : Out(stream of ANSWERED); the channels of ``m_axil`` and ``m_axi``.
    """

    kind = "access"

    def __init__(self, spec: BridgeSpec):
        self.spec = spec
        members = {"i": In(stream.Signature(ACCESS)), "o": Out(stream.Signature(ANSWERED))}
        super().__init__(members | stream_members(p for p in spec.ports if p.name.startswith("m_")))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        now = Signal(ACCESS, reset_less=True)
        busy = Signal()
        address, word = Signal(), Signal()  # they wait to be taken
        m.d.comb += self.i.ready.eq(~busy)
        with m.If(self.i.valid & ~busy):
            m.d.sync += [now.eq(self.i.payload), busy.eq(1), address.eq(1), word.eq(self.i.payload.write)]
        awaits = named(m, busy & ~address & ~word, "awaits")
        for memory, prefix in enumerate(("m_axil", "m_axi") if self.spec.bus else ("m_axil",)):
            ar, r, aw, w, b = (getattr(self, f"{prefix}_{name}") for name in ("ar", "r", "aw", "w", "b"))
            mine = named(m, now.memory == memory, f"{prefix}_mine")
            m.d.comb += [
                ar.valid.eq(mine & address & ~now.write),
                aw.valid.eq(mine & address & now.write),
                w.valid.eq(mine & word),
                r.ready.eq(mine & awaits & ~now.write & self.o.ready),
                b.ready.eq(mine & awaits & now.write & self.o.ready),
            ]
            self._fields(m, memory, now, ar.payload.data[0], aw.payload.data[0], w.payload.data[0])
            with m.If((ar.valid & ar.ready) | (aw.valid & aw.ready)):
                m.d.sync += address.eq(0)
            with m.If(w.valid & w.ready):
                m.d.sync += word.eq(0)
            with m.If(mine):
                read, written = r.payload.data[0], b.payload.data[0]
                m.d.comb += [
                    self.o.valid.eq(awaits & Mux(now.write, b.valid, r.valid)),
                    self.o.payload.resp.eq(Mux(now.write, written.resp if memory else written, read.resp)),
                    self.o.payload.data.eq(self._lane(now, read.data)),
                ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        return m

    def _fields(self, m: Module, memory: int, now: Any, ar: Any, aw: Any, w: Any) -> None:
        lanes = len(w.data) // (8 * WORD)
        m.d.comb += [
            w.data.eq(now.data.replicate(lanes)),
            w.strb.eq(((1 << WORD) - 1) << (self._place(now, lanes) * WORD)),
            ar.addr.eq(now.address),
            aw.addr.eq(now.address),
        ]
        if memory:
            m.d.comb += w.last.eq(1)
            for channel in (ar, aw):
                m.d.comb += [channel.size.eq(SIZE), channel.burst.eq(INCR), channel.cache.eq(CACHE)]

    def _lane(self, now: Any, word: Any) -> Any:
        lanes = len(word) // (8 * WORD)
        return choose(word, 8 * WORD, self._place(now, lanes))

    def _place(self, now: Any, lanes: int) -> Any:
        """Of a word of 32 bits on the bus."""
        return now.address[SIZE : SIZE + (lanes - 1).bit_length()]
