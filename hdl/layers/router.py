"""The top level of the unit ``router``.

::

    i, wgt, par ... --> engine --> scores --> queue --> o
    norm -------------------------'
"""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.moe.scoring import RouterSpec
from hdl.arith.bits import choose, named
from hdl.arith.delay import delay
from hdl.arith.floats import Multiply
from hdl.arith.silu import SwiGLU
from hdl.mixpe.engine import Engine
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import payload_layout, stream_members, stream_signature
from hdl.stream.skid import skid


class Score(wiring.Component):
    """Two sums and their factors to a score.

    Latency     ``spec.score_latency`` cycles.

    Members
    -------
    sums : In(2 * 32), gate in the low bits; norms : In(2 * 32), not looked at without norms; o : Out(32).
    """

    kind = "score"

    def __init__(self, spec: RouterSpec):
        self.spec = spec
        super().__init__({"sums": In(64), "norms": In(64), "o": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.swiglu = swiglu = Shared(SwiGLU, self.spec.silu, "fp32")
        for i, operand in enumerate((swiglu.g, swiglu.u)):
            total = self.sums.word_select(i, 32)
            if self.spec.norms:
                m.submodules[f"multiply_{i}"] = multiply = Shared(Multiply, "fp32")
                m.d.comb += [multiply.a.eq(total), multiply.b.eq(self.norms.word_select(i, 32))]
                total = multiply.o
            m.d.comb += operand.eq(total)
        m.d.comb += self.o.eq(Cat(swiglu.o[:31], 0 if self.spec.score == "abs" else swiglu.o[31]))
        return m


class Scores(wiring.Component):
    """The engine's sums to scores, with what marks the last expert and the last beat.

    Latency     ``spec.score_latency`` and a queue.
    Throughput  one beat per cycle.

    Members
    -------
    i : In(stream of the engine's results); norm : In(stream), a beat per pass, if there are norms;
    o : Out(stream of scores).
    """

    kind = "scores"

    def __init__(self, spec: RouterSpec):
        self.spec = spec
        members = {
            "i": In(stream_signature(spec.engine.port("o"))),
            "o": Out(stream_signature(spec.port("o"))),
        }
        if spec.norms:
            members["norm"] = In(stream_signature(spec.port("norm")))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        under_way = spec.score_latency
        depth = under_way + latency.QUEUE + 1
        m.submodules.credit = credit = Credit(depth)
        m.submodules.queue = queue = Shared(StreamFIFO, payload_layout(spec.port("o")), depth)
        take = named(m, self.i.valid & credit.ready & (self.norm.valid if spec.norms else 1), "take")
        block, last_pass = self._place(m, take)
        ended = last_pass & (block == spec.blocks - 1)
        norms = C(0, 64 * spec.pairs)
        if spec.norms:
            norms = named(m, choose(self.norm.payload.data.as_value(), len(norms), block), "norms")
            m.d.comb += self.norm.ready.eq(take & self.i.payload.last)
        sums = self.i.payload.data.as_value()
        for lane, out in enumerate(queue.i.payload.data):
            m.submodules[f"score_{lane}"] = score = Shared(Score, spec)
            end = -(-(spec.left - lane) // spec.pairs)  # the block from which on the last pass has no expert here
            valid = delay(m, ~last_pass | (block < end), under_way, f"valid_{lane}")
            m.d.comb += [
                score.sums.eq(sums.word_select(lane, 64)),
                score.norms.eq(norms.word_select(lane, 64)),
                out.score.eq(Mux(valid, score.o, 0)),
                out.valid.eq(valid),
            ]
        m.d.comb += [
            self.i.ready.eq(take),
            credit.take.eq(take),
            credit.give.eq(self.o.valid & self.o.ready),
            queue.i.valid.eq(delay(m, take, under_way, "there", init=0)),
            queue.i.payload.last.eq(delay(m, ended, under_way, "last")),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

    def _place(self, m: Module, take: Value) -> tuple[Value, Value]:
        """Which beat of its token's pass this is, and whether that is the tile's last pass."""
        spec = self.spec
        block = Signal(range(spec.blocks))
        number = Signal(range(spec.passes))
        last_pass = named(m, number == spec.passes - 1, "last_pass")
        with m.If(take):
            m.d.sync += block.eq(Mux(block == spec.blocks - 1, 0, block + 1))
            with m.If(self.i.payload.last):
                m.d.sync += number.eq(Mux(last_pass, 0, number + 1))
        return block, last_pass


class Router(wiring.Component):
    """Engine and scores; the datasheet is :class:`golden.moe.scoring.RouterSpec`."""

    kind = "router"

    def __init__(self, spec: RouterSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.engine = engine = Shared(Engine, spec.engine)
        m.submodules.scores = scores = Shared(Scores, spec)
        wiring.connect(m, wiring.flipped(self.i), engine.act)
        for port in spec.engine.ports[1:-1]:
            wiring.connect(m, wiring.flipped(getattr(self, port.name)), getattr(engine, port.name))
        wiring.connect(m, engine.o, scores.i)
        if spec.norms:
            skid(m, spec.port("norm"), self.norm, scores.norm)
        skid(m, spec.port("o"), scores.o, self.o)
        m.d.comb += self.sts_error.eq(engine.sts_error)
        return m
