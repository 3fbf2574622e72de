"""Which result each lane works on in each cycle, and the column parameters that go with it."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import choose, index_bits
from hdl.arith.delay import delay


def slot_layout(spec: MixPESpec) -> data.StructLayout:
    """One result of one group in a lane.

    valid; first, final: the group is its tile's first, last; end: the group's last result in this lane;
    column: within the segment; turn: which of the lane's rows; slot: number of the result, ``turn*span + column``.
    """
    grid = spec.grid
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,
            "final": 1,
            "end": 1,
            "column": index_bits(grid.span),
            "turn": index_bits(grid.turns),
            "slot": index_bits(grid.depth),
        }
    )


def start_layout() -> data.StructLayout:
    """A group's last step has entered the array: ``valid``; first, final: of its tile."""
    return data.StructLayout({"valid": 1, "first": 1, "final": 1})


class Sequencer(wiring.Component):
    """The read order of one segment: after ``start``, slots 0, 1, ... depth - 1, with the columns' parameters.

    ``par_i`` is taken in the cycle of ``start``; for the segments to the right it comes out at ``par_o``, with
    ``start_o``, ``span`` cycles later. Starts are at least ``depth`` cycles apart.

    Latency     slot 0 stands ``lead + 1`` cycles after ``start``: when the array has the sums.

    Parameters
    ----------
    spec : MixPESpec.
    segment : which segment; ``par_i`` holds its columns and all to the right.
    """

    kind = "sequencer"

    def __init__(self, spec: MixPESpec, segment: int):
        self.spec = spec
        self.columns = spec.cols - segment * spec.grid.span
        self.par_width = spec.column_width
        span = spec.grid.span * self.par_width
        members: dict[str, Any] = {
            "start": In(start_layout()),
            "par_i": In(self.columns * self.par_width),
            "slot": Out(slot_layout(spec)),
            "par": Out(self.par_width),
        }
        self.last_segment = self.columns == spec.grid.span
        if not self.last_segment:
            members["start_o"] = Out(start_layout())
            members["par_o"] = Out(self.columns * self.par_width - span)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, grid = self.spec, self.spec.grid
        bank = Signal(self.columns * self.par_width)
        valid = Signal()
        first = Signal()
        final = Signal()
        end = Signal()
        column = Signal(index_bits(grid.span))
        turn = Signal(index_bits(grid.turns))
        slot = Signal(index_bits(grid.depth))

        m.d.comb += end.eq(slot == grid.depth - 1)
        with m.If(valid):
            m.d.sync += [slot.eq(slot + 1), column.eq(column + 1)]
            with m.If(column == grid.span - 1):
                m.d.sync += [column.eq(0), turn.eq(turn + 1)]
            with m.If(end):
                m.d.sync += valid.eq(0)
        with m.If(self.start.valid):
            m.d.sync += [bank.eq(self.par_i), valid.eq(1), first.eq(self.start.first), final.eq(self.start.final)]
            m.d.sync += [column.eq(0), turn.eq(0), slot.eq(0)]

        now = Cat(valid, first, final, end, column, turn, slot)  # the order of slot_layout
        par = choose(bank[: grid.span * self.par_width], self.par_width, column)
        lead = spec.timing.lead
        m.d.comb += [
            self.slot.as_value().eq(delay(m, now, lead, "slot_ahead", init=0)),
            self.par.eq(delay(m, par, lead, "par_ahead")),
        ]
        if not self.last_segment:
            m.d.comb += [
                self.start_o.as_value().eq(delay(m, self.start.as_value(), grid.span, "start_ahead", init=0)),
                self.par_o.eq(bank[grid.span * self.par_width :]),
            ]
        return m
