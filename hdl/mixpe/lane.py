"""A dequantiser lane: reads sums from its rows, dequantises them, and queues the finished words."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.mixpe import schedule
from golden.mixpe.formats import EXPONENTS
from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import choose
from hdl.arith.delay import delay
from hdl.arith.floats import Convert, Multiply
from hdl.mixpe.dequant import ExactDequantiser, Fp32Dequantiser
from hdl.mixpe.row import needs_row_sum
from hdl.mixpe.sequencer import slot_layout
from hdl.shared import Shared, prototype
from hdl.stream.fifo import StreamFIFO


class Lane(wiring.Component):
    """One result a cycle, in step with the wave through the array; below it runs the same lane a cycle later.

    ::

        slot, par --+--[reg]--> lane below
                    |
        a, s ------> pick turn -> dequantise -> (x token scale) -> chunk of words -> queue -> o

    It never stops: the engine admits a tile only while its words are sure to find room in the queue.

    Latency     ``spec.timing.lane_depth`` cycles from a slot at ``slot_i`` to its word's entry into the queue.

    Members
    -------
    slot_i, par_i -> slot_o, par_o : the sequence, one cycle later; a, s : read-outs of this lane's rows;
    scl, push : scales of this lane's rows, one push per tile (per group with powers of two); o : chunks of words.
    """

    kind = "lane"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        turns = spec.grid.turns
        chunk = schedule.chunk(spec.grid, spec.timing.words)
        assert chunk
        self.chunk = chunk
        members: dict[str, Any] = {
            "slot_i": In(slot_layout(spec)),
            "slot_o": Out(slot_layout(spec)),
            "par_i": In(spec.port("par").lane_width),
            "par_o": Out(spec.port("par").lane_width),
            "a": In(turns * (spec.pe.sum_width + spec.special_width)),
            "o": Out(stream.Signature(spec.out_format.bits * chunk)),
        }
        if spec.act_scale != "none":
            members |= {"scl": In(turns * spec.port("scl").lane_width), "push": In(1)}
        if needs_row_sum(spec):
            members["s"] = In(turns * (spec.row_sum_width + spec.special_width))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.d.sync += self.slot_o.eq(self.slot_i)
        m.d.comb += self.par_o.eq(delay(m, self.par_i, 1, "par"))

        # cycle 1: the rows have read out their columns; pick the row
        slot = self.slot_o
        dequantiser = ExactDequantiser if spec.accumulate == "exact" else Fp32Dequantiser
        m.submodules.dequant = dequant = Shared(dequantiser, spec)
        m.d.comb += dequant.a.eq(delay(m, choose(self.a, len(dequant.a), slot.turn), 1, "a_chosen"))
        if needs_row_sum(spec):
            m.d.comb += dequant.s.eq(delay(m, choose(self.s, len(dequant.s), slot.turn), 1, "s_chosen"))
        m.d.comb += [
            dequant.par.eq(delay(m, self.par_o, 1, "par_late")),
            dequant.valid.eq(delay(m, slot.valid, 1, "valid", init=0)),
            dequant.first.eq(delay(m, slot.first, 1, "first")),
            dequant.slot.eq(delay(m, slot.slot, 1, "slot")),
        ]
        done = slot.valid & slot.final
        if spec.act_scale == "pow2":
            up = self._scales(m, slot.turn, slot.valid & slot.end, spec.timing.groups) - EXPONENTS[0]
            m.d.comb += dequant.up.eq(delay(m, up[:5], 1, "up"))
            word, done = dequant.o, delay(m, done, 1 + spec.dequant_latency, "done", init=0)
        elif spec.act_scale == "none":
            word, done = dequant.o, delay(m, done, 1 + spec.dequant_latency, "done", init=0)
        else:
            # the scale is read one cycle early, into a register
            early = spec.dequant_latency
            turn, end = delay(m, slot.turn, early, "turn"), delay(m, slot.end, early, "end")
            done = delay(m, done, early, "done", init=0)
            m.submodules.scaled = scaled = Shared(Multiply, "fp32")
            scale = self._scales(m, turn, done & end, spec.timing.tiles)
            m.d.comb += [scaled.a.eq(delay(m, scale, 1, "scale")), scaled.b.eq(dequant.o)]
            word, done = scaled.o, delay(m, done, 1 + latency.MULTIPLY, "scaled_done", init=0)
        if spec.out != "fp32":
            m.submodules.convert = convert = Shared(Convert, spec.out)
            m.d.comb += convert.i.eq(word)
            word, done = convert.o, delay(m, done, latency.CONVERT, "converted_done", init=0)
        self._queue(m, word, done)
        return m

    def _scales(self, m: Module, turn: Any, pop: Any, depth: int) -> Any:
        """Scale of the lane's row ``turn`` for the oldest tile (group) under way."""
        width = self.spec.port("scl").lane_width
        m.submodules.scales = scales = Shared(StreamFIFO, len(self.scl), max(2, depth))
        m.d.comb += [scales.i.payload.eq(self.scl), scales.i.valid.eq(self.push), scales.o.ready.eq(pop)]
        chosen = choose(scales.o.payload, width, turn)
        return chosen.as_signed() if self.spec.act_scale == "pow2" else chosen

    def _queue(self, m: Module, word: Any, done: Any) -> None:
        """Chunks of consecutive words; there is room for all tiles under way."""
        spec = self.spec
        depth = spec.timing.tiles * spec.grid.depth // self.chunk
        m.submodules.results = results = Shared(StreamFIFO, len(word) * self.chunk, max(2, depth))
        held = Signal(len(word) * self.chunk, reset_less=True)  # the newest word on top
        latest = Cat(held[len(word) :], word)
        filled = Signal(range(self.chunk))
        full = filled == self.chunk - 1
        with m.If(done):
            m.d.sync += [held.eq(latest), filled.eq(filled + 1)]
            with m.If(full):
                m.d.sync += filled.eq(0)
        m.d.comb += [results.i.payload.eq(latest), results.i.valid.eq(done & full)]
        m.d.comb += [
            self.o.payload.eq(results.o.payload),
            self.o.valid.eq(results.o.valid),
            results.o.ready.eq(self.o.ready),
        ]


class LaneRow(wiring.Component):
    """The lanes of one lane row, from segment to segment: all that reads the rows i, i + lane_rows, ...

    Members
    -------
    slot_i, par_i -> slot_o, par_o : one sequence per segment, side by side, one cycle later;
    column : which column of each segment the rows are to read out; a, s : the rows' read-outs, row after row;
    scl, push : as :class:`Lane`; valid, ready, payload : the lanes' chunks, side by side.
    """

    kind = "lane_row"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        self._lane = lane = prototype(Lane, (spec,))
        n = spec.grid.lane_cols
        members: dict[str, Any] = {
            "slot_i": In(n * len(lane.slot_i.as_value())),
            "slot_o": Out(n * len(lane.slot_i.as_value())),
            "par_i": In(n * len(lane.par_i)),
            "par_o": Out(n * len(lane.par_i)),
            "column": Out(n * len(lane.slot_i.column)),
            "a": In(n * len(lane.a)),
            "valid": Out(n),
            "ready": In(n),
            "payload": Out(n * len(lane.o.payload)),
        }
        if spec.act_scale != "none":
            members |= {"scl": In(len(lane.scl)), "push": In(1)}
        if needs_row_sum(spec):
            members["s"] = In(n * len(lane.s))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, n = self.spec, self.spec.grid.lane_cols
        lanes = []
        for j in range(n):
            m.submodules[f"lane_{j}"] = lane = Shared(Lane, spec)
            m.d.comb += [
                lane.slot_i.as_value().eq(_share(self.slot_i, j, n)),
                lane.par_i.eq(_share(self.par_i, j, n)),
                lane.a.eq(_segment(self.a, j, n, spec.pe.sum_width + spec.special_width)),
                lane.o.ready.eq(self.ready[j]),
            ]
            if spec.act_scale != "none":
                m.d.comb += [lane.scl.eq(self.scl), lane.push.eq(self.push)]
            if needs_row_sum(spec):
                m.d.comb += lane.s.eq(_segment(self.s, j, n, spec.row_sum_width + spec.special_width))
            lanes.append(lane)
        m.d.comb += [
            self.slot_o.eq(Cat(lane.slot_o for lane in lanes)),
            self.par_o.eq(Cat(lane.par_o for lane in lanes)),
            self.column.eq(Cat(lane.slot_i.column for lane in lanes)),
            self.valid.eq(Cat(lane.o.valid for lane in lanes)),
            self.payload.eq(Cat(lane.o.payload for lane in lanes)),
        ]
        return m


def _share(words: Any, j: int, n: int) -> Any:
    """Part j of n equal parts."""
    return words.word_select(j, len(words) // n)


def _segment(words: Any, j: int, n: int, width: int) -> Any:
    """Segment j's word of every row."""
    return Cat(words.word_select(at, width) for at in range(j, len(words) // width, n))
