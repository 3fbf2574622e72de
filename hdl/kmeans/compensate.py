"""The side path: what outliers' centroids leave over, times their weights, added up per output."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.linear import ACCUMULATE, KMeansLinearSpec
from golden.kmeans.lutgemm import CENTROID_BITS
from hdl.arith.bits import choose, index_bits, named
from hdl.arith.delay import delay
from hdl.kmeans.residual import Residuals
from hdl.shared import Shared


class Partials(wiring.Component):
    """Sums of outliers of two tokens: one is added to, while the other one, if ``full``, is read.

    Members
    -------
    read, row, bank : In, a row is read to be added to; old : Out, its sums, in the next cycle; write, written,
    written_bank, sums : In, they go back; full : In(2), which banks are read out; take, out_row, out_bank : In, a row
    is read out; out : Out, in the next cycle, and until the next row is read out.
    """

    kind = "partials"

    def __init__(self, spec: KMeansLinearSpec):
        self.spec = spec
        row = index_bits(spec.columns)
        sums = spec.lines * spec.macs * spec.side_width
        super().__init__(
            {
                "read": In(1),
                "row": In(row),
                "bank": In(1),
                "old": Out(sums),
                "write": In(1),
                "written": In(row),
                "written_bank": In(1),
                "sums": In(sums),
                "full": In(2),
                "take": In(1),
                "out_row": In(row),
                "out_bank": In(1),
                "out": Out(sums),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        reads = []
        for bank in range(2):
            m.submodules[f"bank_{bank}"] = memory = Memory(shape=len(self.sums), depth=1 << len(self.row), init=[])
            write, read = memory.write_port(), memory.read_port()
            out = self.full[bank]
            m.d.comb += [
                write.addr.eq(self.written),
                write.data.eq(self.sums),
                write.en.eq(self.write & (self.written_bank == bank)),
                read.addr.eq(Mux(out, self.out_row, self.row)),
                read.en.eq(Mux(out, self.take & (self.out_bank == bank), self.read & (self.bank == bank))),
            ]
            reads.append(read.data)
        bank = delay(m, self.bank, 1, "bank_then", init=0)
        out_bank = delay(m, self.out_bank, 1, "out_bank_then", init=0, go=self.take)
        m.d.comb += [self.old.eq(Mux(bank, reads[1], reads[0])), self.out.eq(Mux(out_bank, reads[1], reads[0]))]
        return m


class Column(wiring.Component):
    """An outlier's residual times its column of weights, added to the sums so far.

    Throughput  a row of ``lines * macs`` outputs per cycle; an outlier takes three cycles at least, the time from the
                reading of a row to when it may be read again.

    Members
    -------
    i : In(stream of residuals; marks: there is one, the token's last); col : In(stream of weights' indices); n : In,
    outputs; centroids : In, of weights; old : In, read, row : Out, write, written, sums : Out, of the memory of sums;
    done : Out(1), a token is through; none : Out(1), it had no outliers.
    """

    kind = "column"

    def __init__(self, spec: KMeansLinearSpec):
        self.spec = spec
        row = index_bits(spec.columns)
        sums = spec.lines * spec.macs * spec.side_width
        item = data.StructLayout({"r": signed(token.RESIDUAL_BITS), "marks": 2})
        super().__init__(
            {
                "i": In(stream.Signature(item)),
                "col": In(stream.Signature(spec.weight_bits * spec.lines * spec.macs)),
                "n": In(spec.gemm.n_width),
                "centroids": In(CENTROID_BITS << spec.weight_bits),
                "read": Out(1),
                "row": Out(row),
                "old": In(sums),
                "write": Out(1),
                "written": Out(row),
                "sums": Out(sums),
                "done": Out(1),
                "none": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        there, last = self.i.payload.marks
        lanes = spec.lines * spec.macs
        before = Signal(spec.gemm.n_width)  # outputs of earlier rows
        gap = Signal(range(ACCUMULATE))
        left = named(m, self.n - before, "left")
        ends = named(m, left <= lanes, "ends")
        m.d.comb += [
            self.read.eq(self.i.valid & there & self.col.valid & ~gap.any()),
            self.col.ready.eq(self.i.valid & there & ~gap.any()),
            self.i.ready.eq(~there | (self.read & ends)),
        ]
        with m.If(gap.any()):
            m.d.sync += gap.eq(gap - 1)
        with m.If(self.read):
            m.d.sync += [before.eq(Mux(ends, 0, before + lanes)), self.row.eq(Mux(ends, 0, self.row + 1))]
            with m.If(ends & (self.row < ACCUMULATE - 1)):
                m.d.sync += gap.eq(ACCUMULATE - 1 - self.row)
        fresh = Signal(init=1)  # the token's first outlier adds to nothing
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += fresh.eq(last)
        m.d.comb += self.none.eq(self.i.valid & ~there)
        ended = delay(m, self.read & ends & last, ACCUMULATE - 1, "ended", init=0)
        m.d.comb += self.done.eq(self.none | ended)
        self._accumulate(m, fresh, Cat(left > lane for lane in range(lanes)))
        return m

    def _accumulate(self, m: Module, fresh: Value, inside: Value) -> None:
        spec, width = self.spec, self.spec.side_width
        lanes = spec.lines * spec.macs
        # cycle 1: products, and the row's sums
        r = delay(m, self.i.payload.r, 1, "r")
        index = delay(m, self.col.payload, 1, "index")
        inside = delay(m, inside, 1, "inside")
        fresh = delay(m, fresh, 1, "fresh_then")
        old = delay(m, Mux(fresh, 0, self.old), 1, "old_then")
        products = []
        for lane in range(lanes):
            factor = choose(self.centroids, CENTROID_BITS, index.word_select(lane, spec.weight_bits))
            product = Value.cast(Mux(inside[lane], factor, 0)).as_signed() * r
            products.append(delay(m, product, 1, f"product_{lane}"))
        # cycle 2: written back
        m.d.comb += [
            self.write.eq(delay(m, self.read, ACCUMULATE - 1, "read_then", init=0)),
            self.written.eq(delay(m, self.row, ACCUMULATE - 1, "row_then")),
        ]
        for lane, product in enumerate(products):
            before = old.word_select(lane, width).as_signed()
            m.d.comb += self.sums.word_select(lane, width).eq(before + product)


class Compensation(wiring.Component):
    """Outliers in, sums per output out.

    Members
    -------
    i : In(stream of orizuru's results); fetch : Out(stream of channels); col : In(stream of weights' indices);
    ready : In(1), the token's exponent and configuration are there; above, n, boundaries, acts, weights : In, of the
    token; done : Out(1), the token is through; full, none : Out(1), the older token's sums are there, or are all 0;
    take, out_row : In, out : Out, a row of them is read out; next : In(1), it is the last one; free : In(1), it is no
    longer needed.
    """

    kind = "compensation"

    def __init__(self, spec: KMeansLinearSpec):
        self.spec = spec
        sums = spec.lines * spec.macs * spec.side_width
        result = data.StructLayout({"value": 16, "index": spec.engine.index_width, "valid": 1, "last": 1})
        super().__init__(
            {
                "i": In(stream.Signature(result)),
                "fetch": Out(stream.Signature(spec.engine.index_width)),
                "col": In(stream.Signature(spec.weight_bits * spec.lines * spec.macs)),
                "ready": In(1),
                "above": In(6),
                "n": In(spec.gemm.n_width),
                "boundaries": In(spec.port("cfg").lsb("act_0") - spec.port("cfg").lsb("boundary_0")),
                "acts": In(CENTROID_BITS << spec.act_bits),
                "weights": In(CENTROID_BITS << spec.weight_bits),
                "done": Out(1),
                "full": Out(1),
                "none": Out(1),
                "take": In(1),
                "out_row": In(index_bits(spec.columns)),
                "out": Out(sums),
                "next": In(1),
                "free": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.residuals = residuals = Shared(Residuals, spec.act_bits, 2)
        m.submodules.column = column = Shared(Column, spec)
        m.submodules.partials = partials = Shared(Partials, spec)
        bank, out_bank, full, none = Signal(), Signal(), Signal(2), Signal(2)
        through = Signal()  # the token's last outlier is under way
        result = self.i.payload
        open_ = named(m, self.ready & ~through & ~full.bit_select(bank, 1), "open")
        enter = named(m, self.i.valid & open_ & residuals.i.ready & (self.fetch.ready | ~result.valid), "enter")
        m.d.comb += [
            self.i.ready.eq(enter),
            self.fetch.valid.eq(self.i.valid & open_ & residuals.i.ready & result.valid),
            self.fetch.payload.eq(result.index),
            residuals.i.valid.eq(enter),
            residuals.i.payload.x.eq(result.value),
            residuals.i.payload.marks.eq(Cat(result.valid, result.last)),
            residuals.above.eq(self.above),
            residuals.boundaries.eq(self.boundaries),
            residuals.centroids.eq(self.acts),
            column.n.eq(self.n),
            column.centroids.eq(self.weights),
            column.old.eq(partials.old),
            *(
                getattr(partials, name).eq(getattr(column, name))
                for name in ("read", "row", "write", "written", "sums")
            ),
            partials.bank.eq(bank),
            partials.written_bank.eq(bank),
            partials.full.eq(full),
            *(getattr(partials, name).eq(getattr(self, name)) for name in ("take", "out_row")),
            partials.out_bank.eq(out_bank),
            self.out.eq(partials.out),
            self.done.eq(column.done),
            self.full.eq(full.bit_select(out_bank, 1)),
            self.none.eq(none.bit_select(out_bank, 1)),
        ]
        wiring.connect(m, residuals.o, column.i)
        wiring.connect(m, wiring.flipped(self.col), column.col)
        with m.If(enter & result.last):
            m.d.sync += through.eq(1)
        held = delay(m, out_bank, 1, "held", init=0, go=self.take)  # whose row stands at out
        with m.If(self.next):
            m.d.sync += out_bank.eq(~out_bank)
        with m.If(self.free):
            m.d.sync += full.bit_select(held, 1).eq(0)
        with m.If(self.done):
            m.d.sync += [
                through.eq(0),
                full.bit_select(bank, 1).eq(1),
                none.bit_select(bank, 1).eq(column.none),
                bank.eq(~bank),
            ]
        return m
