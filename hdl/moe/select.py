"""Ranked experts to those that are selected."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.moe.gate import GateSpec
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import payload_layout


class Select(wiring.Component):
    """Keeps the first ``k_min`` ranks and those above the threshold, and finds the last of them.

    Latency     a cycle from a rank to its expert, if the next one is kept too or the token ends.
    Throughput  a rank per cycle.

    Members
    -------
    write, expert, weight, above : In, what a score gave; k_min : In, steady from a token's first rank to its last;
    i : In(stream of ranks: expert, valid, last); o : Out(stream of selected experts).
    """

    kind = "select"

    def __init__(self, spec: GateSpec):
        self.spec = spec
        expert = index_bits(spec.experts)
        rank = data.StructLayout({"expert": expert, "valid": 1, "last": 1})
        super().__init__(
            {
                "write": In(1),
                "expert": In(expert),
                "weight": In(32),
                "above": In(1),
                "k_min": In(spec.count_bits),
                "i": In(stream.Signature(rank)),
                "o": Out(stream.Signature(payload_layout(spec.port("o")))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        weight, above = self._look_up(m)
        rank = Signal(self.spec.count_bits)  # stays at k_min
        there = Signal()  # one waits until it is known whether it is the last
        ended = Signal()  # it is, or there is none
        held = Signal(len(self.expert) + 32, reset_less=True)
        coming = self.i.payload
        keep = named(m, coming.valid & ((rank != self.k_min) | above), "keep")
        accept = named(m, self.i.valid & self.i.ready, "accept")
        out = self.o.payload.data[0]
        m.d.comb += [
            self.o.valid.eq(ended | (there & self.i.valid & keep)),
            self.o.payload.last.eq(ended),
            Cat(out.expert, out.weight).eq(Mux(there, held, 0)),
            out.valid.eq(there),
            self.i.ready.eq(self.o.ready | ~(ended | (there & keep))),
        ]
        with m.If(accept):
            m.d.sync += [ended.eq(coming.last), there.eq(keep | (there & ~ended))]
            m.d.sync += rank.eq(Mux(coming.last, 0, rank + (rank != self.k_min)))
            with m.If(keep):
                m.d.sync += held.eq(Cat(coming.expert, weight))
        with m.Elif(ended & self.o.ready):
            m.d.sync += [ended.eq(0), there.eq(0)]
        return m

    def _look_up(self, m: Module) -> Any:
        """Weight of the rank's expert, and whether its score is above the threshold."""
        m.submodules.scores = scores = Memory(shape=33, depth=1 << len(self.expert), init=[])
        write, read = scores.write_port(), scores.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.expert),
            write.data.eq(Cat(self.above, self.weight)),
            read.addr.eq(self.i.payload.expert),
        ]
        return read.data[1:], read.data[0]
