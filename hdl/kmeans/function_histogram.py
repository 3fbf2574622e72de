"""How often each index came in a vector."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans.function import KMeansFunctionSpec
from hdl.arith.bits import count_ones
from hdl.stream.signature import payload_layout


class Histogram(wiring.Component):
    """A counter for each index, and one for all.

    Throughput  a beat per cycle, also from vector to vector; while a vector's counts wait, none.
    Ranges      counts are modulo ``2**count_bits``.

    Members
    -------
    accept, i : In, a beat of indices, only while no counts wait or they are taken; bank : In(1), the vector's table;
    ended : Out(1), the cycle after a vector's last beat and until ``taken`` : In(1); then its counts : Out, count :
    Out, ended_bank : Out(1); over : Out(1), it has more than n.
    """

    kind = "histogram"

    def __init__(self, spec: KMeansFunctionSpec):
        self.spec = spec
        super().__init__(
            {
                "accept": In(1),
                "i": In(payload_layout(spec.port("i"))),
                "bank": In(1),
                "ended": Out(1),
                "taken": In(1),
                "counts": Out(spec.entries * spec.count_bits),
                "count": Out(spec.count_bits),
                "ended_bank": Out(1),
                "over": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        lanes = [self.i.data[lane] for lane in range(spec.lanes)]
        for j, total in enumerate(self.counts.word_select(j, spec.count_bits) for j in range(spec.entries)):
            hits = Cat(lane.valid & (lane.index == j) for lane in lanes)
            m.d.comb += total.eq(self._counter(m, f"index_{j}", hits))
        count = self._counter(m, "all", Cat(lane.valid for lane in lanes))
        m.d.comb += [self.count.eq(count), self.over.eq(count > spec.n)]
        with m.If(~self.ended | self.taken):
            m.d.sync += self.ended.eq(self.accept & self.i.last)
        with m.If(self.accept):
            m.d.sync += self.ended_bank.eq(self.bank)
        return m

    def _counter(self, m: Module, name: str, hits: Value) -> Signal:
        """Hits of a beat in one cycle, added up in the next: returns the sum with those of the last beat."""
        more = Signal(range(self.spec.lanes + 1), name=f"more_{name}")
        before = Signal(self.spec.count_bits, name=f"before_{name}")
        total = Signal(range((1 << len(before)) + self.spec.lanes), name=f"total_{name}")
        m.d.comb += total.eq(before + more)
        with m.If(~self.ended | self.taken):
            m.d.sync += [more.eq(Mux(self.accept, count_ones(hits), 0)), before.eq(Mux(self.ended, 0, total))]
        return total
