"""A dequantiser lane: reads sums from its rows, dequantises them, and queues the finished words."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.formats import IntegerOutput
from golden.mixpe import schedule
from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import choose
from hdl.arith.delay import delay
from hdl.arith.floats import Convert, Multiply, Requantise
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
        a, s ------> pick turn -> dequantise -> (x channel's scale) -> (x token's) -> chunk of words -> queue -> o

    It never stops: the engine admits a tile only while its words are sure to find room in the queue.

    Latency     ``spec.timing.lane_depth`` cycles from a slot at ``slot_i`` to its word's entry into the queue.

    Members
    -------
    slot_i, par_i -> slot_o, par_o : the sequence, one cycle later; a, s : read-outs of this lane's rows;
    tokens, push : scales of this lane's rows, one push per tile; up, push_up : exponents of their activations, one per
    group; o : chunks of words.
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
            "par_i": In(spec.column_width),
            "par_o": Out(spec.column_width),
            "a": In(turns * (spec.pe.sum_width + spec.special_width)),
            "o": Out(stream.Signature(spec.out_format.bits * chunk)),
        }
        members |= scale_members(spec, turns)
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
            dequant.par.eq(delay(m, self.par_o[: len(dequant.par)], 1, "par_late")),
            dequant.valid.eq(delay(m, slot.valid, 1, "valid", init=0)),
            dequant.first.eq(delay(m, slot.first, 1, "first")),
            dequant.slot.eq(delay(m, slot.slot, 1, "slot")),
        ]
        if spec.exponent_bits:
            m.submodules.exponents = queue = Shared(StreamFIFO, len(self.up), max(2, spec.timing.groups))
            up = _oldest(m, queue, self.up, self.push_up, slot.turn, slot.valid & slot.end, spec.exponent_bits)
            m.d.comb += dequant.up.eq(delay(m, up, 1, "up"))
        at = 1 + spec.dequant_latency
        channel = delay(m, self.par_o[len(dequant.par) :], at, "channel")
        token = self._token(m, slot, at + latency.MULTIPLY * spec.channel_scaled)
        word = finish(m, spec, dequant.o, channel, token)
        self._queue(m, word, delay(m, slot.valid & slot.final, at + spec.finish_latency, "done", init=0))
        return m

    def _token(self, m: Module, slot: Any, at: int) -> Value:
        """The token's scale, ``at`` cycles after its slot: read one cycle early, into a register."""
        if self.spec.act_scale != "token":
            return C(0, 0)
        turn = delay(m, slot.turn, at - 1, "turn")
        end = delay(m, slot.valid & slot.final & slot.end, at - 1, "end", init=0)
        m.submodules.scales = queue = Shared(StreamFIFO, len(self.tokens), max(2, self.spec.timing.tiles))
        return delay(m, _oldest(m, queue, self.tokens, self.push, turn, end, 32), 1, "scale")

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


def finish(m: Module, spec: MixPESpec, word: Value, channel: Value, token: Value) -> Value:
    """A dequantised sum times the channel's scale, which comes with it, and the token's, which comes with that product,
    in the format of the results: ``spec.finish_latency`` cycles later."""
    if spec.channel_scaled:
        m.submodules.by_channel = by_channel = Shared(Multiply, "fp32")
        m.d.comb += [by_channel.a.eq(channel), by_channel.b.eq(word)]
        word = by_channel.o
    if spec.act_scale == "token":
        m.submodules.by_token = by_token = Shared(Multiply, "fp32")
        m.d.comb += [by_token.a.eq(token), by_token.b.eq(word)]
        word = by_token.o
    if spec.out == "fp32" or spec.raw:
        return word
    out = spec.out_format
    args = (Requantise, out.low, spec.rounding) if isinstance(out, IntegerOutput) else (Convert, spec.out)
    m.submodules.convert = convert = Shared(*args)
    m.d.comb += convert.i.eq(word)
    return convert.o


def scale_members(spec: MixPESpec, rows: int) -> dict[str, Any]:
    """Inputs for the scales and exponents of ``rows`` rows, as far as there are any."""
    members: dict[str, Any] = {}
    if spec.act_scale == "token":
        members |= {"tokens": In(rows * 32), "push": In(1)}
    if spec.exponent_bits:
        members |= {"up": In(rows * spec.exponent_bits), "push_up": In(1)}
    return members


def _oldest(m: Module, queue: Any, words: Value, push: Value, turn: Value, pop: Value, width: int) -> Value:
    """Word ``turn`` of the oldest words in a queue that ``push`` fills."""
    m.d.comb += [queue.i.payload.eq(words), queue.i.valid.eq(push), queue.o.ready.eq(pop)]
    return choose(queue.o.payload, width, turn)


class LaneRow(wiring.Component):
    """The lanes of one lane row, from segment to segment: all that reads the rows i, i + lane_rows, ...

    Members
    -------
    slot_i, par_i -> slot_o, par_o : one sequence per segment, side by side, one cycle later;
    column : which column of each segment the rows are to read out; a, s : the rows' read-outs, row after row;
    tokens, push, up, push_up : as :class:`Lane`; valid, ready, payload : the lanes' chunks, side by side.
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
        members |= scale_members(spec, spec.grid.turns)
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
            m.d.comb += [getattr(lane, name).eq(getattr(self, name)) for name in scale_members(spec, spec.grid.turns)]
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
