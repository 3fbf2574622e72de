"""The GEMM engine: the top level of the unit ``mixpe``; the datasheet is :class:`golden.mixpe.gemm.MixPESpec`."""

from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import choose
from hdl.mixpe.align import Aligner
from hdl.mixpe.array import Array
from hdl.mixpe.collect import Collector
from hdl.mixpe.feeder import Feeder
from hdl.mixpe.lane import LaneRow
from hdl.mixpe.row import needs_row_sum
from hdl.mixpe.sequencer import Sequencer
from hdl.shared import Shared
from hdl.stream.signature import stream_members, stream_signature
from hdl.stream.skid import skid


class Engine(wiring.Component):
    """Streams in, systolic array, dequantiser lanes, streams out.

    ::

        act -(Aligner)-+           x, w, last                 a, s (read-out)
        wgt -----------+-> Feeder -----------------> Array <------------------+
        par, chn ------+     |  start, columns                               |
        scl -----------+     +-------------------> Sequencer per segment -> Lane rows -> Collector -> o
                             |  tokens, up                slot, par         ^
                             +----------------------------------------------+
    """

    kind = "engine"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        super().__init__({**stream_members(spec.ports), "sts_error": Out(2)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.feeder = feeder = Shared(Feeder, spec)
        m.submodules.array = array = Shared(Array, spec)
        m.submodules.collect = collect = Shared(Collector, spec)
        sinks = {port.name: getattr(feeder, port.name) for port in spec.ports if port.direction == "in"}
        if spec.aligned:
            m.submodules.aligner = aligner = Shared(Aligner, spec)
            wiring.connect(m, aligner.o, feeder.act)
            sinks["act"] = aligner.i
        for name, sink in sinks.items():
            skid(m, spec.port(name), wiring.flipped(getattr(self, name)), sink)
        m.d.comb += [
            array.x.eq(feeder.x),
            array.w.eq(feeder.w),
            array.last.eq(feeder.last),
            self.sts_error.eq(feeder.error),
        ]
        slots, pars = self._sequencers(m, feeder)
        chunks = self._lanes(m, feeder, array, collect, slots, pars)

        beat = stream_signature(spec.port("o")).create()
        m.d.comb += [
            beat.valid.eq(collect.valid),
            collect.ready.eq(beat.ready),
            beat.payload.data.as_value().eq(choose(Cat(chunks), spec.port("o").width, collect.turn)),
            beat.payload.last.eq(collect.last),
        ]
        skid(m, spec.port("o"), beat, wiring.flipped(self.o))
        m.d.comb += feeder.give.eq(self.o.valid & self.o.ready & self.o.payload.last)
        return m

    def _sequencers(self, m: Module, feeder: Any) -> tuple[Any, Any]:
        """One per segment, from left to right; their sequences side by side."""
        sequencers = []
        start, columns = feeder.start, feeder.columns
        for j in range(self.spec.grid.lane_cols):
            m.submodules[f"sequencer_{j}"] = sequencer = Shared(Sequencer, self.spec, j)
            m.d.comb += [sequencer.start.eq(start), sequencer.par_i.eq(columns)]
            if j + 1 < self.spec.grid.lane_cols:
                start, columns = sequencer.start_o, sequencer.par_o
            sequencers.append(sequencer)
        return Cat(s.slot for s in sequencers), Cat(s.par for s in sequencers)

    def _lanes(self, m: Module, feeder: Any, array: Any, collect: Any, slots: Any, pars: Any) -> list[Any]:
        """Lane rows under one another; lane row i reads the rows i, i + lane_rows, ... Returns their chunks."""
        chunks = []
        spec, grid = self.spec, self.spec.grid
        for i in range(grid.lane_rows):
            m.submodules[f"lane_row_{i}"] = lane = Shared(LaneRow, spec)
            rows = range(i, grid.rows, grid.lane_rows)
            m.d.comb += [
                lane.slot_i.eq(slots),
                lane.par_i.eq(pars),
                lane.a.eq(_words(array.a, rows, len(array.a) // grid.rows)),
                lane.ready.eq(collect.lane_ready.word_select(i, grid.lane_cols)),
                collect.lane_valid.word_select(i, grid.lane_cols).eq(lane.valid),
            ]
            if spec.act_scale == "token":
                m.d.comb += [lane.tokens.eq(_words(feeder.tokens, rows, 32)), lane.push.eq(feeder.push)]
            if spec.exponent_bits:
                m.d.comb += [lane.up.eq(_words(feeder.up, rows, spec.exponent_bits)), lane.push_up.eq(feeder.push_up)]
            if needs_row_sum(spec):
                m.d.comb += lane.s.eq(_words(array.s, rows, len(array.s) // grid.rows))
            width = len(lane.column)
            m.d.comb += [array.column.word_select(r, width).eq(lane.column) for r in rows]
            slots, pars = lane.slot_o, lane.par_o
            chunks.append(lane.payload)
        return chunks


def _words(values: Value, which: range, width: int) -> Value:
    """Those words of ``values``, side by side."""
    return Cat(values.word_select(n, width) for n in which)
