"""The GEMM engine with stationary weights; the datasheet is :class:`golden.mixpe.stationary.WeightStationary`."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.mixpe.stationary import WeightStationary
from hdl.arith.bits import choose, index_bits
from hdl.arith.delay import delay
from hdl.mixpe.row import needs_row_sum
from hdl.mixpe.stationary.array import StationaryArray
from hdl.mixpe.stationary.column import Column, group_sum
from hdl.mixpe.stationary.feeder import StationaryFeeder, slot_layout
from hdl.shared import Shared
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import stream_members, stream_signature
from hdl.stream.skid import skid


class StationaryEngine(wiring.Component):
    """Streams in, systolic array, a dequantiser below each column, streams out.

    ::

        act -+          x, load, swap, w
        wgt -+-> Feeder ----------------> Array
        par -+     |                      |   |   |    sums
        scl -+     |                      s   v   v
                   +-- slot, scale ---> [sum] Column -> Column -> ...
                   +-- parameters --------------^---------^
                                              |         |
                                              +---------+--> o
    """

    kind = "engine_ws"

    def __init__(self, spec: WeightStationary):
        self.spec = spec
        super().__init__({**stream_members(spec.ports), "sts_error": Out(2)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.feeder = feeder = Shared(StationaryFeeder, spec)
        m.submodules.array = array = Shared(StationaryArray, spec)
        for port in (p for p in spec.ports if p.direction == "in"):
            skid(m, port, wiring.flipped(getattr(self, port.name)), getattr(feeder, port.name))
        m.d.comb += [
            array.x.eq(feeder.x),
            array.load.eq(feeder.load),
            array.swap.eq(feeder.swap),
            array.w.eq(feeder.w),
            self.sts_error.eq(feeder.error),
        ]
        slot = Signal(slot_layout(spec))
        ahead = delay(m, feeder.slot.as_value(), spec.passes.foot, "slot_ahead", init=0)
        m.d.comb += slot.as_value().eq(ahead)
        self._collect(m, self._columns(m, feeder, array, slot), feeder)
        return m

    def _columns(self, m: Module, feeder: Any, array: Any, slot: Any) -> list[Any]:
        """The columns from left to right, each a cycle after its neighbour."""
        spec = self.spec
        travelling = {}
        if needs_row_sum(spec):
            travelling["s"] = self._row_sum(m, array, slot)
        if spec.act_scale != "none":
            travelling["scl"] = self._scales(m, feeder, slot)
        columns = []
        for c in range(spec.cols):
            m.submodules[f"column_{c}"] = column = Shared(Column, spec)
            m.d.comb += [
                column.slot_i.eq(slot),
                column.a.eq(array.sums.word_select(c, len(column.a))),
                column.par.eq(feeder.columns.word_select(c, len(column.par))),
                column.push.eq(feeder.push),
                *(getattr(column, f"{name}_i").eq(value) for name, value in travelling.items()),
            ]
            slot = column.slot_o
            travelling = {name: getattr(column, f"{name}_o") for name in travelling}
            columns.append(column)
        return columns

    def _row_sum(self, m: Module, array: Any, slot: Any) -> Any:
        """The group's sum of activations, two cycles after its token's slot."""
        spec = self.spec
        now = Signal(slot_layout(spec))
        m.d.sync += now.eq(slot)
        return group_sum(m, spec, (spec.pass_row_sum_width, spec.row_sum_width), slot, now, array.s)

    def _scales(self, m: Module, feeder: Any, slot: Any) -> Any:
        """The token's scale when column 0 wants it: with the dequantised sum, or an exponent with the integer one."""
        spec = self.spec
        pow2 = spec.act_scale == "pow2"
        wait = 1 if pow2 else 1 + spec.dequant_latency
        pop = slot.valid & (slot.mark.ends if pow2 else slot.mark.final)
        depth = spec.passes.foot + wait + 1
        m.submodules.scales = scales = Shared(StreamFIFO, len(feeder.scale), depth)
        m.d.comb += [
            scales.i.payload.eq(feeder.scale),
            scales.i.valid.eq(feeder.push_scale),
            scales.o.ready.eq(delay(m, pop, wait, "pop", init=0)),
        ]
        return delay(m, scales.o.payload, 1, "scale")

    def _collect(self, m: Module, columns: list[Any], feeder: Any) -> None:
        """A token's words, ``words`` at a time, from the columns' queues to the output."""
        port, beats = self.spec.port("o"), self.spec.passes.beats
        words = Cat(column.o.payload[:-1] for column in columns)
        valid = Cat(column.o.valid for column in columns)
        turn = Signal(index_bits(beats))
        ends = turn == beats - 1
        beat = stream_signature(port).create()
        taken = beat.valid & beat.ready
        with m.If(taken):
            m.d.sync += turn.eq(Mux(ends, 0, turn + 1))
        m.d.comb += [
            beat.valid.eq(choose(Cat(v.all() for v in _parts(valid, beats)), 1, turn)),
            beat.payload.data.as_value().eq(choose(words, port.width, turn)),
            beat.payload.last.eq(ends & columns[-1].o.payload[-1]),
            feeder.give.eq(taken & ends),
        ]
        for c, column in enumerate(columns):
            m.d.comb += column.o.ready.eq(taken & (turn == c // port.lanes))
        skid(m, port, beat, wiring.flipped(self.o))


def _parts(words: Any, n: int) -> list[Any]:
    """n equal parts."""
    return [words.word_select(k, len(words) // n) for k in range(n)]
