"""The queues of two batches: one is filled while the other one goes out."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.moe.dispatch import DispatchSpec
from hdl.arith.bits import choose, index_bits
from hdl.stream.signature import lane_shape

READERS = ("job", "entry", "stats")
"""Who looks at counts."""


class Buckets(wiring.Component):
    """A queue per expert, in a memory with synchronous read, and a count per expert.

    Members
    -------
    write : In(1), an entry of ``expert`` : In comes, ``data`` : In, into the queues of ``bank`` : In(1); dropped :
    Out(1), it has no place; clear : In(1), the queues of ``reads`` : In(1) are free; some : Out(2 masks), who has
    entries; of the experts that <reader>_expert : In say, <reader>_count : Out, 0 of an empty one; go, rank : In, that
    entry of entry_expert stands at ``entry`` : Out from the next cycle on.
    """

    kind = "buckets"

    def __init__(self, spec: DispatchSpec):
        self.spec = spec
        expert = index_bits(spec.experts)
        entry = lane_shape(spec.port("o"))
        members = {
            "write": In(1),
            "expert": In(expert),
            "data": In(entry),
            "bank": In(1),
            "dropped": Out(1),
            "clear": In(1),
            "reads": In(1),
            "some": Out(2 * spec.experts),
            "go": In(1),
            "rank": In(index_bits(spec.depth)),
            "entry": Out(entry),
        }
        for reader in READERS:
            members |= {f"{reader}_expert": In(expert), f"{reader}_count": Out(spec.count_bits)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, banks = self.spec, Cat(~self.reads, self.reads)
        m.submodules.counts = counts = Memory(shape=spec.count_bits, depth=2 << len(self.expert), init=[])
        count = self._count(m, counts, self.expert, self.bank)
        for reader in READERS:
            read = self._count(m, counts, getattr(self, f"{reader}_expert"), self.reads)
            m.d.comb += getattr(self, f"{reader}_count").eq(read)
        increment = counts.write_port()
        m.d.comb += [
            increment.en.eq(self.write),
            increment.addr.eq(Cat(self.expert, self.bank)),
            increment.data.eq(count + 1),
            self.dropped.eq(self.write & (count >= spec.depth)),
        ]
        for bank, one in enumerate((~self.bank, self.bank)):
            for e in range(spec.experts):
                mark = self.some[bank * spec.experts + e]
                with m.If(self.clear & banks[bank]):
                    m.d.sync += mark.eq(0)
                with m.Elif(self.write & one & (self.expert == e)):
                    m.d.sync += mark.eq(1)
        self._entries(m, count)
        return m

    def _count(self, m: Module, counts: Any, expert: Value, bank: Value) -> Value:
        """What is written of an expert; nothing yet of one that has no mark."""
        read = counts.read_port(domain="comb")
        m.d.comb += read.addr.eq(Cat(expert, bank))
        marks = choose(self.some, self.spec.experts, bank)
        count = Signal(self.spec.count_bits, name=f"count_{len(counts.read_ports)}")
        m.d.comb += count.eq(Mux(choose(marks, 1, expert), read.data, 0))
        return count

    def _entries(self, m: Module, count: Value) -> None:
        bits = len(self.rank)
        m.submodules.entries = entries = Memory(
            shape=len(self.data.as_value()), depth=self.spec.experts * 2 << bits, init=[]
        )
        write, read = entries.write_port(), entries.read_port()
        m.d.comb += [
            write.en.eq(self.write & ~self.dropped),
            write.addr.eq(Cat(count[:bits], Value.cast(self.bank), self.expert)),
            write.data.eq(self.data),
            read.en.eq(self.go),
            read.addr.eq(Cat(self.rank, self.reads, self.entry_expert)),
            self.entry.as_value().eq(read.data),
        ]
