"""How results go out: winners to beats."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import OrizuruSpec
from hdl.arith.bits import named
from hdl.orizuru.keys import decode
from hdl.orizuru.shape import Shape
from hdl.stream.signature import payload_layout


def result(m: Module, spec: OrizuruSpec, fields: Any, winner: Any, smallest: Value, valid: Value) -> None:
    """The fields of a result; all 0 where there is none."""
    value = decode(m, winner.word, spec.key_format, spec.sides == "magnitude")
    lane_bits = Shape.of(spec).lane_bits
    lane, row = winner.index[:lane_bits], winner.index[lane_bits:]
    m.d.comb += [
        fields.value.eq(Mux(valid, value, 0)),
        fields.index.eq(Mux(valid, row * spec.lanes + lane, 0)),
        fields.smallest.eq(smallest & valid),
        fields.valid.eq(valid),
    ]


class Popper(wiring.Component):
    """Takes the winners of all trees in turn until a vector's results are out.

    Throughput  a beat per cycle, as long as its winners stand at their roots.

    Members
    -------
    swap : In(1), a vector begins, with results : In(how many); free : Out(1), the next may;
    winners : In(those of the roots); take : Out(1 per tree); o : Out(stream of results).
    """

    kind = "popper"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        self.shape = Shape.of(spec)
        super().__init__(
            {
                "swap": In(1),
                "results": In(range(2 * spec.k_max + 1)),
                "free": Out(1),
                "winners": In(data.ArrayLayout(self.shape.winner(spec.depth), spec.trees)),
                "take": Out(spec.trees),
                "o": Out(stream.Signature(payload_layout(spec.port("o")))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes = self.spec.port("o").lanes
        turns = self.spec.trees > lanes
        busy, tree = Signal(), Signal(range(max(2, self.spec.trees)))
        left = Signal.like(self.results)
        last, there = Signal(), Signal(lanes)  # of the results that are left: all fit into this beat, these lanes' are
        winners = [Signal(self.shape.winner(self.spec.depth), name=f"winner_{lane}") for lane in range(lanes)]
        for lane, winner in enumerate(winners):
            m.d.comb += winner.eq(self.winners[tree] if turns else self.winners[lane])
        pop = named(m, self.o.valid & self.o.ready, "pop")
        taken = Cat(pop & t for t in there)
        m.d.comb += [
            self.o.valid.eq(busy & Cat(~t | w.valid for t, w in zip(there, winners, strict=True)).all()),
            self.o.payload.last.eq(last),
            self.free.eq(~busy | (pop & last)),
            self.take.eq(taken << tree if turns else taken),
        ]
        with m.If(self.swap):
            m.d.sync += [busy.eq(1), left.eq(self.results), tree.eq(0)]
            m.d.sync += [last.eq(self.results <= lanes), there.eq(Cat(self.results > lane for lane in range(lanes)))]
        with m.Elif(pop):
            m.d.sync += [busy.eq(~last), left.eq(left - lanes)]
            m.d.sync += [last.eq(left <= 2 * lanes), there.eq(Cat(left > lanes + lane for lane in range(lanes)))]
            if turns:
                m.d.sync += tree.eq(~tree)
        for lane, (winner, valid) in enumerate(zip(winners, there, strict=True)):
            smallest = tree if turns else C(lane or self.spec.sides == "smallest", 1)
            result(m, self.spec, self.o.payload.data[lane], winner, smallest, valid)
        return m
