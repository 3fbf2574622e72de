"""The top level of the unit ``kmeans_function``: two tables in turn, look-up, histogram, sums."""

from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from golden.kmeans.function import KMeansFunctionSpec
from hdl.arith.bits import named
from hdl.kmeans.function_histogram import Histogram
from hdl.kmeans.function_moments import Moments
from hdl.kmeans.function_turns import Turns
from hdl.shared import Shared
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids


class KMeansFunction(wiring.Component):
    """Streams around a table; the datasheet is :class:`golden.kmeans.function.KMeansFunctionSpec`."""

    kind = "kmeans_function"

    def __init__(self, spec: KMeansFunctionSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        streams = skids(m, self, self.spec.ports)
        i, table, o = streams["i"], streams["table"], streams["o"]
        m.submodules.turns = turns = Shared(Turns, self.spec)
        wiring.connect(m, streams["cfg"], turns.cfg)
        free = self._moments(m, streams, turns) if self.spec.moments else 1
        accept = named(m, i.valid & i.ready, "accept")
        m.d.comb += [
            turns.valid.eq(table.valid),
            table.ready.eq(turns.ready),
            turns.ended.eq(accept & i.payload.last),
            i.ready.eq(turns.open & o.ready & free),
            o.valid.eq(i.valid & turns.open & free),
            o.payload.last.eq(i.payload.last),
        ]
        self._look_up(m, i, o, table, turns)
        return m

    def _look_up(self, m: Module, i: Any, o: Any, table: Any, turns: Any) -> None:
        """Both tables' values in one memory, the number of the table above the index."""
        value = Value.cast(table.payload.data[0])[: len(Value.cast(o.payload.data[0].value))]
        m.submodules.values = values = Memory(shape=len(value), depth=2 * self.spec.entries, init=[])
        write = values.write_port()
        m.d.comb += [write.en.eq(turns.write), write.addr.eq(turns.address), write.data.eq(value)]
        for lane in range(self.spec.lanes):
            read = values.read_port(domain="comb")
            m.d.comb += [
                read.addr.eq(Cat(i.payload.data[lane].index, turns.bank)),
                Value.cast(o.payload.data[lane].value).eq(read.data),
                o.payload.data[lane].valid.eq(i.payload.data[lane].valid),
            ]

    def _moments(self, m: Module, streams: Any, turns: Any) -> Value:
        """Histogram and sums. Returns that a beat can be counted."""
        i, table = streams["i"], streams["table"]
        m.submodules.histogram = histogram = Shared(Histogram, self.spec)
        m.submodules.moments = moments = Shared(Moments, self.spec)
        wiring.connect(m, moments.o, wiring.flipped(streams["stats"]))
        entry = table.payload.data[0]
        m.d.comb += [
            histogram.accept.eq(i.valid & i.ready),
            histogram.i.eq(i.payload),
            histogram.bank.eq(turns.bank),
            histogram.taken.eq(moments.taken),
            moments.counts.eq(histogram.counts),
            moments.count.eq(histogram.count),
            moments.valid.eq(histogram.ended),
            moments.bank.eq(histogram.ended_bank),
            moments.write.eq(turns.write),
            moments.address.eq(turns.address),
            moments.first.eq(entry.first),
            moments.second.eq(entry.second),
            turns.hold.eq(
                (histogram.ended & (histogram.ended_bank ^ turns.bank)) | (moments.busy & (moments.reads ^ turns.bank))
            ),
        ]
        m.d.sync += self.sts_error.eq(self.sts_error | histogram.over)
        return named(m, ~histogram.ended | moments.taken, "free")
