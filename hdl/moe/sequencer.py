"""From batch to batch, expert to expert, phase to phase."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.moe.expert import ExpertFFNSpec
from hdl.arith.bits import index_bits, named


class Sequencer(wiring.Component):
    """A batch: its activations and its table come, then expert after expert both phases, then its results leave.

    ::

        idle --> loading --> (up --> down), shared expert --> (up --> down), each queue --> sending --> report --> idle

    Members
    -------
    begin : In(1), a batch's configuration is taken; loaded : In(1), all that it needs is there; known, none : In(1),
    the next queue is there with its entries, or there is none; neurons, queued : In, of the expert whose turn it is;
    tokens : In, of the batch; start : Out(1), a phase begins; down, shared : Out(1); tiles, passes, words, steps,
    count : Out, of the phase, all but ``count`` less one; done : In(1), its last result is stored; next : Out(1), on to
    the next queue; send : Out(1), results may leave; sent : In(1), the last one has; report : Out(1),
    counters are handed on, until ``reported``; idle : Out(1).
    """

    kind = "expert_sequencer"

    def __init__(self, spec: ExpertFFNSpec):
        self.spec = spec
        count = spec.tokens.bit_length()
        super().__init__(
            {
                "begin": In(1),
                "loaded": In(1),
                "known": In(1),
                "none": In(1),
                "neurons": In(spec.neurons.bit_length()),
                "queued": In(count),
                "tokens": In(count),
                "start": Out(1),
                "down": Out(1),
                "shared": Out(1, init=1),
                "tiles": Out(index_bits(spec.most_tiles)),
                "passes": Out(index_bits(spec.most_passes)),
                "words": Out(index_bits(spec.most_words)),
                "steps": Out(index_bits(spec.engine.k_max)),
                "count": Out(count),
                "done": In(1),
                "next": Out(1),
                "send": Out(1),
                "sent": In(1),
                "report": Out(1),
                "reported": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        assert spec.lanes
        begin_phase = Signal()  # of the expert whose turn it is, up first
        down_next = Signal()
        m.d.sync += self.start.eq(begin_phase)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.begin):
                    m.next = "LOADING"
            with m.State("LOADING"):
                m.d.comb += begin_phase.eq(self.loaded)
                with m.If(self.loaded):
                    m.next = "UP"
            with m.State("UP"):
                m.d.comb += [begin_phase.eq(self.done), down_next.eq(1)]
                with m.If(self.done):
                    m.next = "DOWN"
            with m.State("DOWN"):
                m.d.comb += self.next.eq(self.done)
                with m.If(self.done):
                    m.d.sync += self.shared.eq(0)
                    m.next = "QUEUE"
            with m.State("QUEUE"):
                m.d.comb += [begin_phase.eq(self.known & ~self.none), self.send.eq(self.known & self.none)]
                with m.If(self.known):
                    m.next = "UP"
                with m.If(self.known & self.none):
                    m.d.sync += self.shared.eq(1)
                    m.next = "SENDING"
            with m.State("SENDING"), m.If(self.sent):
                m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += self.report.eq(1)
                with m.If(self.reported):
                    m.next = "IDLE"
        self._phase(m, begin_phase, down_next)
        return m

    def _phase(self, m: Module, begin: Signal, down: Signal) -> None:
        """Its sizes stand from the cycle of ``start`` on."""
        spec = self.spec
        assert spec.lanes
        inputs = named(m, Mux(down, self.neurons, spec.d), "inputs")
        up_tiles = self.neurons >> (spec.cols.bit_length() - 2)
        count = named(m, Mux(self.shared, self.tokens, self.queued), "count_now")
        with m.If(begin):
            m.d.sync += [
                self.down.eq(down),
                self.tiles.eq(Mux(down, spec.d // spec.cols, up_tiles) - 1),
                self.passes.eq((count - 1) >> (spec.rows.bit_length() - 1)),
                self.words.eq((inputs >> (spec.lanes.bit_length() - 1)) - 1),
                self.steps.eq(inputs - 1),
                self.count.eq(count),
            ]
