"""The GEMM engine: the top level of the unit ``mixpe``; the datasheet is :class:`golden.mixpe.gemm.MixPESpec`."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.mixpe.array import Array
from hdl.mixpe.collect import Collector
from hdl.mixpe.feeder import Feeder
from hdl.mixpe.lane import Lane
from hdl.mixpe.row import needs_row_sum
from hdl.mixpe.sequencer import Sequencer
from hdl.shared import Shared
from hdl.stream.signature import payload_layout, stream_signature
from hdl.stream.skid import Skid


class Engine(wiring.Component):
    """Streams in, systolic array, dequantiser lanes, streams out.

    ::

        act -+                x, w, last                 a, s (read-out)
        wgt -+-> Feeder ----------------------> Array <------------------+
        par -+     |  start, columns                                    |
        scl -+     +----------------------> Sequencer per segment ---> Lanes -> Collector -> o
                   |  tokens                      slot, par             ^
                   +----------------------------------------------------+
    """

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        members: dict[str, Any] = {
            p.name: (In if p.direction == "in" else Out)(stream_signature(p)) for p in spec.ports
        }
        super().__init__({**members, "sts_error": Out(2)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.feeder = feeder = Feeder(spec)
        m.submodules.array = array = Array(spec)
        for port in spec.ports[:4]:
            m.submodules[f"skid_{port.name}"] = skid = Skid(payload_layout(port))
            wiring.connect(m, wiring.flipped(getattr(self, port.name)), skid.i)
            wiring.connect(m, skid.o, getattr(feeder, port.name))
        m.d.comb += [
            array.x.eq(feeder.x),
            array.w.eq(feeder.w),
            array.last.eq(feeder.last),
            self.sts_error.eq(feeder.error),
        ]
        lanes = self._lanes(m, feeder, array)

        m.submodules.collect = collect = Collector(spec)
        m.submodules.skid_o = skid = Skid(payload_layout(spec.ports[-1]))
        for n, lane in enumerate(lanes):
            wiring.connect(m, lane.o, getattr(collect, f"i_{n}"))
        wiring.connect(m, collect.o, skid.i)
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        m.d.comb += feeder.give.eq(self.o.valid & self.o.ready & self.o.payload.last)
        return m

    def _lanes(self, m: Module, feeder: Feeder, array: Array) -> list[Any]:
        """Sequencers from left to right, lanes below them; returns lanes by number, row by row."""
        spec, grid = self.spec, self.spec.grid
        lanes: dict[tuple[int, int], Any] = {}
        start, columns = feeder.start, feeder.columns
        token_width = spec.ports[3].lane_width
        for j in range(grid.lane_cols):
            m.submodules[f"sequencer_{j}"] = sequencer = Sequencer(spec, j)
            m.d.comb += [sequencer.start.eq(start), sequencer.par_i.eq(columns)]
            if not sequencer.last_segment:
                start, columns = sequencer.start_o, sequencer.par_o
            slot, par = sequencer.slot, sequencer.par
            for i in range(grid.lane_rows):
                m.submodules[f"lane_{i}_{j}"] = lanes[i, j] = lane = Shared(Lane, spec)
                rows = range(i, grid.rows, grid.lane_rows)
                at = [r * grid.lane_cols + j for r in rows]
                m.d.comb += [
                    lane.slot_i.eq(slot),
                    lane.par_i.eq(par),
                    lane.a.eq(Cat(array.a.word_select(n, spec.pe.sum_width) for n in at)),
                    lane.scl.eq(Cat(feeder.tokens.word_select(r, token_width) for r in rows)),
                    lane.push.eq(feeder.push),
                ]
                if needs_row_sum(spec):
                    m.d.comb += lane.s.eq(Cat(array.s.word_select(n, spec.row_sum_width) for n in at))
                width = len(slot.column)
                m.d.comb += [array.column.word_select(n, width).eq(slot.column) for n in at]
                slot, par = lane.slot_o, lane.par_o
        return [lanes[i, j] for i in range(grid.lane_rows) for j in range(grid.lane_cols)]
