"""How keys come in: beats to rows of leaves."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import OrizuruSpec
from hdl.arith.bits import count_ones, named
from hdl.orizuru.keys import encode
from hdl.orizuru.shape import Shape
from hdl.stream.signature import payload_layout


class Loader(wiring.Component):
    """Writes a vector's keys into leaves that the trees do not see yet, and counts the valid ones.

    Throughput  a beat every cycle, while the leaves are not full, or are being exchanged.

    Members
    -------
    i : In(stream of keys); hold : In(1), no beat now; write, row, slots : Out, to the leaves; last : Out(1), with the
    last row of a vector that is written; full : Out(1), a whole vector is there; count : Out, of its valid keys;
    swap : In(1), it is taken; error : Out(1), a key has no leaf.
    """

    kind = "loader"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        self.shape = Shape.of(spec)
        super().__init__(
            {
                "i": In(stream.Signature(payload_layout(spec.port("i")))),
                "hold": In(1),
                "write": Out(1),
                "last": Out(1),
                "row": Out(range(max(2, spec.rows))),
                "slots": Out(data.ArrayLayout(self.shape.slot, spec.lanes)),
                "full": Out(1),
                "count": Out(range(spec.n + 1)),
                "swap": In(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, last = self.spec, self.i.payload.last
        accept = named(m, self.i.valid & self.i.ready, "accept")
        over = Signal()  # the leaves are used up
        ends_rows = self.row == spec.rows - 1
        m.d.comb += [
            self.i.ready.eq((~self.full | self.swap) & ~self.hold),
            self.write.eq(accept & ~over),
            self.last.eq(self.write & (last | ends_rows)),
        ]
        with m.If(self.swap):
            m.d.sync += self.full.eq(0)
        with m.If(accept):
            m.d.sync += [
                self.full.eq(last),
                self.row.eq(Mux(last | ends_rows, 0, self.row + 1)),
                over.eq(~last & (over | ends_rows)),
            ]
        keys, misplaced = self._keys(m, ends_rows)
        before = Mux(self.swap, 0, self.count)
        m.d.sync += self.count.eq(before + Mux(self.write, count_ones(Cat(keys)), 0))
        some = Cat(lane.valid for lane in self.i.payload.data).any()
        m.d.comb += self.error.eq(accept & (misplaced | (over & some)))
        return m

    def _keys(self, m: Module, ends_rows: Value) -> tuple[list[Value], Value]:
        """Encoded keys to the slots. Returns the valid bits, and whether the final row has a key too many."""
        spec, valid = self.spec, []
        inside = spec.n - (spec.rows - 1) * spec.lanes
        for i in range(spec.lanes):
            lane = self.i.payload.data[i]
            valid.append(lane.valid & ~ends_rows if i >= inside else lane.valid)
            word = encode(Value.cast(lane.key).as_unsigned(), spec.key_format, spec.sides == "magnitude")
            m.d.comb += [self.slots[i].word.eq(word), self.slots[i].valid.eq(valid[i])]
        misplaced = Cat(self.i.payload.data[i].valid for i in range(inside, spec.lanes)).any()
        return valid, misplaced & ends_rows
