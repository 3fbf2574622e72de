"""Admission control: which step enters the array, and when a group or a tile may end."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.formats import EXPONENTS
from golden.mixpe.gemm import MixPESpec
from hdl.mixpe.cores import product_core
from hdl.mixpe.lane import scale_members
from hdl.mixpe.operands import act_operand, operand_width, weight_operand
from hdl.mixpe.sequencer import start_layout
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.signature import stream_members, stream_signature


class Feeder(wiring.Component):
    """Joins activations and weights into steps and feeds the array, which itself cannot be stopped.

    A step enters when both operands are there. If it ends a group, it also waits for the group's parameters and until
    ``spec.timing.period`` cycles after the last group's end; if it ends a tile, for room for the tile's results.
    Nothing behind the feeder has to wait, then.

    Members
    -------
    act, wgt, par, scl, chn : as the engine's streams, activations aligned (``spec.step_port``);
    x, w, last : the step for the array, a bubble where none enters;
    start, columns : in the cycle of a group's last step, the start of its drain and the columns' parameters;
    tokens, push : the tokens' scales, once per tile; up, push_up : the activations' exponents, once per group;
    give : a tile's results have left; error : sticky, see ``spec.status``.
    """

    kind = "feeder"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        ins = stream_members(port for port in spec.ports if port.direction == "in")
        ins["act"] = In(stream_signature(spec.step_port))
        scales = {name: Out(member.shape) for name, member in scale_members(spec, spec.rows).items()}
        super().__init__(
            ins
            | scales
            | {
                "x": Out(spec.rows * operand_width(spec.act_format)),
                "w": Out(spec.cols * product_core(spec.pe).width),
                "last": Out(1),
                "start": Out(start_layout()),
                "columns": Out(spec.cols * spec.column_width),
                "give": In(1),
                "error": Out(2),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.credit = credit = Shared(Credit, spec.timing.tiles)

        tile_end = self.act.payload.last | self.wgt.payload.last
        group_end = tile_end | self._group_full(m)

        rested = self._rested(m)
        may_end_group = rested & self.par.valid
        may_end_tile = credit.ready
        if spec.act_scale == "pow2":
            may_end_group &= self.scl.valid
        elif spec.act_scale == "token":
            may_end_tile &= self.scl.valid
        if spec.channel_scaled:
            may_end_tile &= self.chn.valid
        step = Signal()
        m.d.comb += step.eq(self.act.valid & self.wgt.valid & (~group_end | may_end_group) & (~tile_end | may_end_tile))

        ends_group = Signal()
        ends_tile = Signal()
        lanes, core = self.act.payload.data, product_core(spec.pe)
        codes = (lanes[r].x if spec.aligned else lanes[r] for r in range(spec.rows))
        x = Cat(act_operand(code, spec.act_format) for code in codes)
        w = (weight_operand(self.wgt.payload.data[c], spec.weight_format) for c in range(spec.cols))
        m.d.comb += [
            ends_group.eq(step & group_end),
            ends_tile.eq(step & tile_end),
            self.act.ready.eq(step),
            self.wgt.ready.eq(step),
            self.par.ready.eq(ends_group),
            credit.take.eq(ends_tile),
            credit.give.eq(self.give),
            self.x.eq(Mux(step, x, 0)),
            self.w.eq(Cat(core.decode(operand) for operand in w)),
            self.last.eq(ends_group),
            self.start.valid.eq(ends_group),
            self.start.final.eq(tile_end),
        ]
        self._scales(m, ends_group, ends_tile)

        first = Signal(init=1)
        m.d.comb += self.start.first.eq(first)
        with m.If(ends_group):
            m.d.sync += first.eq(tile_end)
        self._check(m, step, tile_end)
        return m

    def _scales(self, m: Module, ends_group: Value, ends_tile: Value) -> None:
        """Parameters of columns and rows go on with the step that ends their group or tile."""
        spec = self.spec
        columns = [Value.cast(self.par.payload.data[c]) for c in range(spec.cols)]
        if spec.channel_scaled:
            columns = [Cat(par, self.chn.payload.data[c]) for c, par in enumerate(columns)]
            m.d.comb += self.chn.ready.eq(ends_tile)
        m.d.comb += self.columns.eq(Cat(columns))
        if spec.act_scale == "token":
            scales = self.scl.payload.data.as_value()
            m.d.comb += [self.scl.ready.eq(ends_tile), self.tokens.eq(scales), self.push.eq(ends_tile)]
        if spec.act_scale == "pow2":
            exponents = (self.scl.payload.data[r] - EXPONENTS[0] for r in range(spec.rows))
            m.d.comb += [self.scl.ready.eq(ends_group), self.up.eq(Cat(e[: spec.exponent_bits] for e in exponents))]
        elif spec.aligned:
            m.d.comb += self.up.eq(Cat(self.act.payload.data[r].up for r in range(spec.rows)))
        if spec.exponent_bits:
            m.d.comb += self.push_up.eq(ends_group)

    def _group_full(self, m: Module) -> Any:
        """Whether the step at the head is the group's last by count."""
        size = self.spec.group
        if not size:
            return 0
        count = Signal(range(size))
        full = count == size - 1
        with m.If(self.act.ready):
            m.d.sync += count.eq(Mux(self.last, 0, count + 1))
        return full

    def _rested(self, m: Module) -> Any:
        """Whether the last group's end is ``period`` cycles ago."""
        rest = Signal(range(self.spec.timing.period))
        with m.If(self.last):
            m.d.sync += rest.eq(self.spec.timing.period - 1)
        with m.Elif(rest.any()):
            m.d.sync += rest.eq(rest - 1)
        return ~rest.any()

    def _check(self, m: Module, step: Any, tile_end: Any) -> None:
        steps = Signal(range(self.spec.k_max + 1))  # of this tile so far, up to k_max
        full = steps == self.spec.k_max
        with m.If(step):
            m.d.sync += self.error.eq(self.error | Cat(self.act.payload.last ^ self.wgt.payload.last, full))
            with m.If(tile_end):
                m.d.sync += steps.eq(0)
            with m.Elif(~full):
                m.d.sync += steps.eq(steps + 1)
