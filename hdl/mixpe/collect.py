"""From the lanes' queues to one stream of results, row-major: who is next, and which beat is a tile's last."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe import schedule
from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import index_bits


class Collector(wiring.Component):
    """Takes the lanes' chunks in turn: the lanes hold row segments, dealt out round-robin in row-major order.

    A beat is one chunk, or one chunk each of several lanes side by side; a lane's segment may be several beats. This is
    the control; the engine holds the multiplexer, ``turn`` says which of the groups of lanes makes the beat.

    Latency     none, combinational; the engine puts a skid buffer behind it.
    Throughput  one beat per cycle.

    Members
    -------
    lane_valid, lane_ready : one bit per lane, lane (i, j) is number ``i*lane_cols + j``;
    valid, ready, last, turn : the beat.
    """

    kind = "collect"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        chunk = schedule.chunk(spec.grid, spec.timing.words)
        assert chunk
        lanes = spec.grid.lanes
        self.together = spec.timing.words // chunk  # lanes side by side in a beat
        self.repeats = 1 if lanes == 1 else spec.grid.span // chunk  # beats of one lane in a row
        self.turns = lanes // self.together
        super().__init__(
            {
                "lane_valid": In(lanes),
                "lane_ready": Out(lanes),
                "valid": Out(1),
                "ready": In(1),
                "last": Out(1),
                "turn": Out(index_bits(self.turns)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beats = self.spec.timing.beats
        beat = Signal(range(beats))
        repeat = Signal(range(self.repeats))
        taken = self.valid & self.ready
        with m.Switch(self.turn):
            for n in range(self.turns):
                with m.Case(n):
                    m.d.comb += self.valid.eq(self.lane_valid.word_select(n, self.together).all())
                    m.d.comb += self.lane_ready.word_select(n, self.together).eq(taken.replicate(self.together))
        m.d.comb += self.last.eq(beat == beats - 1)
        with m.If(taken):
            m.d.sync += [beat.eq(_next(beat, beats)), repeat.eq(_next(repeat, self.repeats))]
            with m.If(repeat == self.repeats - 1):
                m.d.sync += self.turn.eq(_next(self.turn, self.turns))
        return m


def _next(counter: Signal, end: int) -> Any:
    """The next value of a counter modulo ``end``."""
    return Mux(counter == end - 1, 0, counter + 1)
