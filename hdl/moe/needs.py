"""From the numbers of tokens per expert to the list of experts that are needed."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.ports import StreamPort
from hdl.arith.bits import named
from hdl.stream.signature import stream_signature


class Needs(wiring.Component):
    """Counts of experts 0, 1, ... in, keys of those that have tokens out; a batch without any gives one beat that is
    not ``valid``.

    Throughput  a count per cycle while ``o`` is taken; a list's last key goes out behind its last count.

    Parameters
    ----------
    key_bits : of a key; counts : the stream of counts.

    Members
    -------
    first : In, the key of expert 0, steady while a batch's counts come; i : In(stream of counts); o : Out(stream of
    key, ``valid`` and ``last``).
    """

    kind = "needs"

    def __init__(self, key_bits: int, counts: StreamPort):
        super().__init__(
            {
                "first": In(key_bits),
                "i": In(stream_signature(counts)),
                "o": Out(stream.Signature(data.StructLayout({"key": key_bits, "valid": 1, "last": 1}))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        key = Signal.like(self.first)
        held = Signal.like(self.first)
        some = Signal()  # a key is held: whether it is the last is not known yet
        ended = Signal()
        needed = named(m, self.i.payload.data[0].count.any(), "needed")
        accept = named(m, self.i.valid & self.i.ready, "accept")
        m.d.comb += [
            self.o.valid.eq(ended | (some & self.i.valid & needed)),
            self.o.payload.key.eq(held),
            self.o.payload.valid.eq(some),
            self.o.payload.last.eq(ended),
            self.i.ready.eq(~ended & (~some | ~needed | self.o.ready)),
        ]
        with m.If(accept):
            m.d.sync += [key.eq(Mux(self.i.payload.last, 0, key + 1)), ended.eq(self.i.payload.last)]
            with m.If(needed):
                m.d.sync += [held.eq((self.first + key)[: len(held)]), some.eq(1)]
        with m.If(ended & self.o.ready):
            m.d.sync += [ended.eq(0), some.eq(0)]
        return m
