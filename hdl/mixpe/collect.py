"""From the lanes' queues to one stream of results, row-major."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe import schedule
from golden.mixpe.gemm import MixPESpec
from hdl.stream.signature import stream_signature


class Collector(wiring.Component):
    """Takes the lanes' chunks in turn: the lanes hold row segments, dealt out round-robin in row-major order.

    A beat is one chunk, or one chunk each of several lanes side by side; a lane's segment may be several beats. tlast on
    a tile's last beat.

    Latency     none, combinational; the engine puts a skid buffer behind it.
    Throughput  one beat per cycle.

    Members
    -------
    i_0, i_1, ... : the lanes' chunks, lane (i, j) is number ``i*lane_cols + j``; o : results.
    """

    kind = "collect"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        chunk = schedule.chunk(spec.grid, spec.timing.words)
        assert chunk
        self.chunk = chunk
        lanes = {f"i_{n}": In(stream.Signature(32 * chunk)) for n in range(spec.grid.lanes)}
        super().__init__({**lanes, "o": Out(stream_signature(spec.ports[-1]))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        grid, words, chunk = self.spec.grid, self.spec.timing.words, self.chunk
        together = words // chunk  # lanes side by side in a beat
        repeats = 1 if grid.lanes == 1 else grid.span // chunk  # beats of one lane in a row
        turns = grid.lanes // together

        lanes = [getattr(self, f"i_{n}") for n in range(grid.lanes)]
        beat, turn, repeat = Signal(range(self.spec.timing.beats)), Signal(range(turns)), Signal(range(repeats))
        ready = Signal(grid.lanes)
        valid = Cat(lane.valid for lane in lanes).word_select(turn, together)
        taken = self.o.valid & self.o.ready
        m.d.comb += [
            self.o.valid.eq(valid.all()),
            self.o.payload.data.as_value().eq(Cat(lane.payload for lane in lanes).word_select(turn, 32 * words)),
            self.o.payload.last.eq(beat == self.spec.timing.beats - 1),
            ready.word_select(turn, together).eq(taken.replicate(together)),
        ]
        m.d.comb += [lane.ready.eq(bit) for lane, bit in zip(lanes, ready, strict=True)]
        with m.If(taken):
            _count(m, beat, self.spec.timing.beats)
            if _count(m, repeat, repeats) is not None:
                with m.If(repeat == repeats - 1):
                    _count(m, turn, turns)
        return m


def _count(m: Module, counter: Signal, end: int) -> Signal:
    """Next value of a counter modulo ``end``."""
    with m.If(counter == end - 1):
        m.d.sync += counter.eq(0)
    with m.Else():
        m.d.sync += counter.eq(counter + 1)
    return counter
