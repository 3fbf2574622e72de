"""Admission control with stationary weights: which weights and which token enter the array."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.stationary import WeightStationary
from hdl.arith.bits import index_bits
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import act_operand, operand_width, weight_operand
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.signature import stream_members


def pass_layout() -> data.StructLayout:
    """start, ends: the pass is its group's first, last; first, final: its group is its tile's first, it is its tile's
    last."""
    return data.StructLayout({"start": 1, "ends": 1, "first": 1, "final": 1})


def slot_layout(spec: WeightStationary) -> data.StructLayout:
    """A token in a pass. valid; mark: the pass; end: the pass's last token; token: its number in the tile."""
    return data.StructLayout({"valid": 1, "mark": pass_layout(), "end": 1, "token": index_bits(spec.slots)})


class StationaryFeeder(wiring.Component):
    """Loads weights and feeds tokens into the array, which itself cannot be stopped.

    Weights enter as they come, as long as there is room: until all of a pass wait beside those that are in use. A token
    enters when it is there; a pass's first also waits for its weights, for its group's parameters where it ends a
    group, and until ``spec.passes.recurrence`` cycles after the pass before; a token of a tile's last pass for room for
    its results; one that needs its scale for that. Nothing behind the feeder has to wait, then.

    Members
    -------
    act, wgt, par, scl : as the engine's streams; x, load, swap, w : for the array; slot : the token that enters;
    columns, push : the parameters of a group, with the first token of its last pass; scale, push_scale : the token's
    scale, with its last pass (of each group with powers of two); give : a token's results have left; error : sticky,
    see ``spec.status``.
    """

    kind = "feeder_ws"

    def __init__(self, spec: WeightStationary):
        self.spec = spec
        members = stream_members(p for p in spec.ports if p.direction == "in")
        members |= {
            "x": Out(spec.rows * operand_width(spec.act_format)),
            "load": Out(spec.rows),
            "swap": Out(1),
            "w": Out(spec.cols * product_core(spec.element).width),
            "slot": Out(slot_layout(spec)),
            "columns": Out(spec.port("par").width),
            "push": Out(1),
            "give": In(1),
            "error": Out(2),
        }
        if spec.act_scale != "none":
            members |= {"scale": Out(spec.port("scl").width), "push_scale": Out(1)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.credit = credit = Shared(Credit, spec.passes.places)
        codes = self.act.payload.data
        # the weight that is loaded first goes to the last row
        rows = [act_operand(codes[k], spec.act_format) for k in reversed(range(spec.rows))]
        enter = Signal()
        inside = Signal()  # a pass has begun and not ended
        complete, ahead = self._weights(m)
        mark = self._mark(m, inside, ahead)

        may_begin = complete & self._rested(m, enter | ~inside) & (~ahead.ends | self.par.valid)
        may_enter = self.act.valid & (inside | may_begin) & (~mark.final | credit.ready)
        if spec.act_scale != "none":
            scaled = mark.ends if spec.act_scale == "pow2" else mark.final
            may_enter &= ~scaled | self.scl.valid
            m.d.comb += [
                self.scl.ready.eq(enter & scaled),
                self.scale.eq(self.scl.payload.data.as_value()),
                self.push_scale.eq(enter & scaled),
            ]
        with m.If(enter):
            m.d.sync += inside.eq(~self.act.payload.last)
        m.d.comb += [
            enter.eq(may_enter),
            self.act.ready.eq(enter),
            self.x.eq(Cat(rows)),
            self.swap.eq(enter & ~inside),
            self.push.eq(self.swap & ahead.ends),
            self.par.ready.eq(self.push),
            self.columns.eq(self.par.payload.data.as_value()),
            credit.take.eq(enter & mark.final),
            credit.give.eq(self.give),
            Cat(self.slot.valid, self.slot.mark, self.slot.end).eq(Cat(enter, mark, self.act.payload.last)),
        ]
        self._tokens(m, enter, mark)
        return m

    def _weights(self, m: Module) -> tuple[Any, Any]:
        """Load a pass's weights; whether all wait in the array, and what pass they are for."""
        spec, beat = self.spec, self.wgt.payload
        core = product_core(spec.element)
        everything = (1 << spec.rows) - 1
        loading = Signal(spec.rows, init=everything)  # the rows that the next weights pass or stay in
        complete = Signal()
        last = Signal()
        take = Signal()
        ends = ~loading[1:].any()
        operands = (weight_operand(beat.data[c], spec.weight_format) for c in range(spec.cols))
        m.d.comb += [
            self.wgt.ready.eq(~complete | self.swap),
            take.eq(self.wgt.valid & self.wgt.ready),
            self.load.eq(Mux(take, loading, 0)),
            self.w.eq(Cat(core.decode(operand) for operand in operands)),
        ]
        with m.If(self.swap):
            m.d.sync += complete.eq(0)
        with m.If(take):
            m.d.sync += loading.eq(Mux(ends, everything, loading >> 1))
            with m.If(ends):
                m.d.sync += [complete.eq(1), last.eq(beat.last)]
            with m.Elif(beat.last):
                m.d.sync += self.error[0].eq(1)
        return complete, self._next_pass(m, last)

    def _next_pass(self, m: Module, final: Any) -> Any:
        """The place in group and tile of the pass that begins next."""
        spec = self.spec
        ahead = Signal(pass_layout())
        start = Signal(init=1)
        first = Signal(init=1)
        full = self._group_full(m, ahead.ends)
        m.d.comb += [ahead.start.eq(start), ahead.ends.eq(final | full), ahead.first.eq(first), ahead.final.eq(final)]
        number = Signal(range(spec.most_passes + 1))  # in its tile
        with m.If(self.swap):
            m.d.sync += start.eq(ahead.ends)
            with m.If(ahead.ends):
                m.d.sync += first.eq(final)
            with m.If(number == spec.most_passes):
                m.d.sync += self.error[1].eq(1)
            with m.Else():
                m.d.sync += number.eq(number + 1)
            with m.If(final):
                m.d.sync += number.eq(0)
        return ahead

    def _group_full(self, m: Module, ends: Any) -> Any:
        """Whether the next pass is its group's last by count."""
        passes = self.spec.group_passes
        if not passes:
            return 0
        count = Signal(range(passes))
        with m.If(self.swap):
            m.d.sync += count.eq(Mux(ends, 0, count + 1))
        return count == passes - 1

    def _mark(self, m: Module, inside: Any, ahead: Any) -> Any:
        """What pass the token at the head is of."""
        mark = Signal(pass_layout())
        held = Signal(pass_layout())
        m.d.comb += mark.eq(Mux(inside, held, ahead))
        with m.If(self.swap):
            m.d.sync += held.eq(ahead)
        return mark

    def _rested(self, m: Module, counts: Any) -> Any:
        """Whether no token can come again before ``recurrence`` cycles: counted by the tokens of a pass, and by the
        cycles after it."""
        rest = Signal(range(self.spec.passes.recurrence))
        with m.If(self.swap):
            m.d.sync += rest.eq(self.spec.passes.recurrence - 1)
        with m.Elif(rest.any() & counts):
            m.d.sync += rest.eq(rest - 1)
        return ~rest.any()

    def _tokens(self, m: Module, enter: Any, mark: Any) -> None:
        """Number the tokens of a pass; all passes of a tile have equally many."""
        token = Signal.like(self.slot.token)
        before = Signal.like(self.slot.token)
        m.d.comb += self.slot.token.eq(token)
        with m.If(enter):
            m.d.sync += token.eq(token + 1)
            with m.If(self.act.payload.last):
                m.d.sync += [token.eq(0), before.eq(token)]
                with m.If(~(mark.start & mark.first) & (token != before)):
                    m.d.sync += self.error[0].eq(1)
            with m.Elif(token == self.spec.slots - 1):
                m.d.sync += self.error[1].eq(1)
