"""The top level of the unit ``kmeans_quantizer``: a token's memory, its scale, its indices.

::

    beats -> [ rows, two tokens ] -> align, search -> indices
         |                             ^        ^
         `-> magnitudes, sum, log -> shift    boundaries
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.kmeans.quantizer import QuantizerSpec
from hdl.arith.bits import named
from hdl.arith.delay import delay
from hdl.kmeans.cluster import Cluster
from hdl.kmeans.memory import TokenMemory
from hdl.kmeans.scale import Exponent, TokenScales, signed_exponent
from hdl.shared import Shared
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids


class Quantizer(wiring.Component):
    """Streams around memory, scale and clustering; the datasheet is :class:`golden.kmeans.quantizer.QuantizerSpec`."""

    kind = "quantizer"

    def __init__(self, spec: QuantizerSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        i, cfg, o, exp = skids(m, self, spec.ports).values()
        m.submodules.memory = memory = Shared(TokenMemory, spec.port("i"), spec.rows)
        wiring.connect(m, i, memory.i)
        m.submodules.scales = scales = Shared(TokenScales, spec)
        kept = memory.write & ~memory.lost
        for lane, given in zip(scales.row, i.payload.data, strict=True):
            m.d.comb += [lane.x.eq(given.x), lane.valid.eq(given.valid & kept)]
        m.d.comb += [scales.write.eq(memory.write), scales.last.eq(memory.last)]
        self._read(m, memory, cfg, exp, o, scales)
        lost = memory.lost & Cat(lane.valid for lane in i.payload.data).any()
        m.d.sync += self.sts_error.eq(self.sts_error | Cat(lost, scales.strange))
        return m

    def _read(self, m: Module, memory: Any, cfg: Any, exp: Any, o: Any, scales: Any) -> None:
        """Token after token through the clustering; all of it waits while ``o`` does."""
        spec = self.spec
        go = named(m, ~o.valid | o.ready, "go")
        reading, live, bank = Signal(), Signal(), Signal()  # live: rows are left
        row = Signal(range(max(spec.rows, spec.bits + 1)))
        rows = memory.rows[bank]
        at_last = named(m, row == rows, "at_last")
        over = (~live | at_last) & (row >= spec.bits)  # a level's boundaries are taken so much later
        begin = named(m, go & (~reading | over) & scales.ready & cfg.valid & exp.ready, "begin")
        m.d.comb += [
            memory.go.eq(go),
            memory.read_bank.eq(bank),
            memory.read_row.eq(row),
            memory.done.eq(go & reading & live & at_last),
            scales.taken.eq(begin),
            cfg.ready.eq(begin),
            exp.valid.eq(begin),
        ]
        with m.If(go):
            m.d.sync += [row.eq(row + 1), live.eq(live & ~at_last), reading.eq(reading & ~over)]
        with m.If(begin):
            m.d.sync += [row.eq(0), live.eq(1), reading.eq(1), bank.eq(scales.bank)]
        m.submodules.exponent = exponent = Shared(Exponent, spec.log_width)
        m.submodules.cluster = cluster = Shared(Cluster, spec)
        limits = cfg.payload.data[0]
        boundaries = Cat(limits[f"boundary_{i}"] for i in range((1 << spec.bits) - 1))
        held = [delay(m, value, 1, name, go=begin) for value, name in ((exponent.o, "above"), (boundaries, "book"))]
        there = reading & live
        m.d.comb += [
            exponent.log.eq(scales.log),
            exponent.zero.eq(scales.zero),
            exponent.shift.eq(limits.shift),
            exp.payload.data[0].eq(signed_exponent(exponent.o)),
            cluster.go.eq(go),
            cluster.first.eq(delay(m, there & ~row.any(), 1, "first", init=0, go=go)),
            *(cluster.row[i].eq(memory.row[i].x) for i in range(spec.lanes)),
            cluster.above.eq(delay(m, held[0], 1, "above_then", go=go)),
            cluster.boundaries.eq(held[1]),
        ]
        valid = delay(m, Cat(lane.valid for lane in memory.row), 1 + spec.bits, "valid", go=go)
        m.d.comb += [
            o.valid.eq(delay(m, there, 2 + spec.bits, "there", init=0, go=go)),
            o.payload.last.eq(delay(m, at_last, 2 + spec.bits, "last", go=go)),
        ]
        for i, lane in enumerate(o.payload.data):
            m.d.comb += [lane.valid.eq(valid[i]), lane.index.eq(Mux(valid[i], cluster.o[i], 0))]
