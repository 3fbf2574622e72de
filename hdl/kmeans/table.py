"""The table of a layer: what indices become before a line gets them, and what a line's sums are multiplied by.

One of :data:`TABLES` for each reducer, with the same members::

    lut : In(stream of beats); full : Out(1), a whole table has come; swap : In(1), it is the table from the next cycle
    on; index : In(row of indices); operands : Out(one per index, ``operand_bits``), combinational;
    row : In; factors : Out(those of that row of sums), combinational.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.lutgemm import CENTROID_BITS, LutGemmSpec
from hdl.arith.bits import choose, index_bits, named
from hdl.kmeans.scale import Magnitude
from hdl.shared import Shared
from hdl.stream.signature import payload_layout


class Table(wiring.Component):
    """What the tables of all reducers share: their ports, and that one loads while the one before is in use."""

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        super().__init__(
            {
                "lut": In(stream.Signature(payload_layout(spec.port("lut")))),
                "full": Out(1),
                "swap": In(1),
                "index": In(payload_layout(spec.port("act"))["data"].shape),
                "operands": Out(spec.codes * spec.operand_bits),
                "row": In(index_bits(spec.reduce)),
                "factors": Out(spec.per_cycle * spec.factor_bits),
            }
        )

    def _load(self, m: Module) -> tuple[Value, Value, Value]:
        """Whether a beat is kept, its number, and its entries as integers."""
        beat = Signal(index_bits(self.spec.lut_beats))
        keep = named(m, self.lut.valid & ~self.full, "keep")
        ends = keep & (beat == self.spec.lut_beats - 1)
        m.d.comb += self.lut.ready.eq(~self.full)
        with m.If(keep):
            m.d.sync += beat.eq(Mux(ends, 0, beat + 1))
        m.d.sync += self.full.eq((self.full | ends) & ~self.swap)
        return keep, beat, Cat(self._entry(m, i, entry) for i, entry in enumerate(self.lut.payload.data))

    def _entry(self, m: Module, lane: int, entry: Value) -> Value:
        """An FP16 entry as so many steps of the smallest number; an integer as it is."""
        if self.spec.table != "fp16":
            return Value.cast(entry).as_unsigned()
        m.submodules[f"steps_{lane}"] = steps = Shared(Magnitude)
        m.d.comb += steps.x.eq(entry)
        return Mux(entry[-1], -steps.o, steps.o)[: token.X_BITS]

    def _registers(self, m: Module, width: int) -> Value:
        """The table in use, where many of its entries are looked at in every cycle."""
        keep, beat, entries = self._load(m)
        coming = [Signal(width, name=f"coming_{i}", reset_less=True) for i in range(self.spec.lut_beats)]
        in_use = Signal(width * self.spec.lut_beats, reset_less=True)
        for i, row in enumerate(coming):
            with m.If(keep & (beat == i)):
                m.d.sync += row.eq(entries)
        with m.If(self.swap):
            m.d.sync += in_use.eq(Cat(coming))
        return in_use


class ProductMemory(Table):
    """The products, for counts: a row of them per cycle of the weighted sum."""

    kind = "product_memory"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        keep, beat, entries = self._load(m)
        bits = (spec.reduce - 1).bit_length()
        in_use = Signal()
        m.submodules.stored = memory = Memory(shape=len(entries), depth=2 << bits, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.sync += in_use.eq(in_use ^ self.swap)
        m.d.comb += [
            write.addr.eq(Cat(beat[:bits], ~in_use)),
            write.data.eq(entries),
            write.en.eq(keep),
            read.addr.eq(Cat(self.row[:bits], in_use)),
            self.factors.eq(read.data),
            self.operands.eq(Cat(Cat(lane.index, lane.valid) for lane in self.index)),
        ]
        return m


class Centroids(Table):
    """The centroids of both sides, for buckets: those of activations are added up, those of weights multiply."""

    kind = "centroids"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, bits = self.spec, CENTROID_BITS
        in_use = self._registers(m, bits)
        acts, weights = in_use[: bits << spec.act_bits], in_use[bits << spec.act_bits :]
        m.d.comb += [
            self.operands.eq(Cat(Mux(lane.valid, choose(acts, bits, lane.index), 0)[:bits] for lane in self.index)),
            self.factors.eq(choose(weights, bits * spec.per_cycle, self.row)),
        ]
        return m


class ProductRows(Table):
    """The products, to be looked up: the row of an activation's index goes to all lines, each picks one of it."""

    kind = "product_rows"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = self.spec.operand_bits
        in_use = self._registers(m, width)
        for i, lane in enumerate(self.index):
            row = Mux(lane.valid, choose(in_use, width, lane.index), 0)
            m.d.comb += self.operands.word_select(i, width).eq(row)
        return m


TABLES = {"histogram": ProductMemory, "bucket": Centroids, "direct": ProductRows}
