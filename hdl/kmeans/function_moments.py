"""Sums over a histogram: counts times a table's integers."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.kmeans.function import MOMENTS, KMeansFunctionSpec
from hdl.arith.bits import add_modulo, named
from hdl.stream.signature import payload_layout


class Moments(wiring.Component):
    """Takes a vector's counts and adds up, index by index, the count times each of two integers.

    Latency     ``2**bits + 4`` cycles from ``taken`` to the sums: an index a cycle, operands, product, sum.
    Throughput  a vector in ``2**bits`` cycles; all stops while sums are not taken at ``o``.
    Ranges      sums are modulo ``2**sum_bits``.

    Members
    -------
    valid, counts, count, bank : In, a vector's; taken : Out(1); write, address, first, second : In, an entry of either
    table; busy, reads : Out(1), table ``reads`` is read; o : Out(stream of count, first, second).
    """

    kind = "moments"

    def __init__(self, spec: KMeansFunctionSpec):
        self.spec = spec
        super().__init__(
            {
                "valid": In(1),
                "counts": In(spec.entries * spec.count_bits),
                "count": In(spec.count_bits),
                "bank": In(1),
                "taken": Out(1),
                "write": In(1),
                "address": In(spec.bits + 1),
                "first": In(signed(spec.moment_bits)),
                "second": In(signed(spec.moment_bits)),
                "busy": Out(1),
                "reads": Out(1),
                "o": Out(stream.Signature(payload_layout(spec.port("stats")))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        left = Signal(spec.bits + 1)  # indices to be read, that of this cycle too
        held = Signal.like(self.counts, reset_less=True)
        flags = Cat(self.busy, left == spec.entries, left == 1)  # an index is read; the first; the last
        operands = Signal(3)
        products = Signal(3)
        step = named(m, ~self.o.valid | self.o.ready, "step")
        m.d.comb += [self.taken.eq(self.valid & step & (left <= 1)), self.busy.eq(left != 0)]
        with m.If(step):
            m.d.sync += [
                Cat(operands, products, self.o.valid).eq(Cat(flags, operands, products[2])),
                left.eq(Mux(self.taken, spec.entries, left - self.busy)),
                held.eq(Mux(self.taken, self.counts, held >> spec.count_bits)),
            ]
        with m.If(self.taken):
            m.d.sync += self.reads.eq(self.bank)
        self._count(m, step & operands[1], step & products[1])
        entry = self._entry(m, Cat((0 - left)[: spec.bits], self.reads))
        for name, factor in zip(MOMENTS, entry, strict=True):
            self._sum(m, name, held[: spec.count_bits], factor, step, products)
        return m

    def _count(self, m: Module, multiplied: Value, added: Value) -> None:
        """The number of all beside the sums, a stage behind another as they are: three vectors may be under way."""
        stage = self.count
        for i, moves in enumerate((self.taken, multiplied, added)):
            late = Signal(self.spec.count_bits, name=f"count_{i}", reset_less=True)
            with m.If(moves):
                m.d.sync += late.eq(stage)
            stage = late
        m.d.comb += self.o.payload.data[0].count.eq(stage)

    def _entry(self, m: Module, address: Value) -> list[Value]:
        """Both tables' integers in one memory."""
        width = self.spec.moment_bits
        m.submodules.entries = entries = Memory(shape=2 * width, depth=2 * self.spec.entries, init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.address),
            write.data.eq(Cat(self.first, self.second)),
            read.addr.eq(address),
        ]
        return [read.data[:width].as_signed(), read.data[width:].as_signed()]

    def _sum(self, m: Module, name: str, count: Value, factor: Value, step: Value, products: Value) -> None:
        """Operands in one cycle, their product in the next, added in the one after."""
        times = Signal(count.shape(), name=f"times_{name}", reset_less=True)
        entry = Signal(factor.shape(), name=f"entry_{name}", reset_less=True)
        product = Signal(signed(len(count) + len(factor)), name=f"product_{name}", reset_less=True)
        total = Signal(signed(self.spec.sum_bits), name=f"total_{name}", reset_less=True)
        adds, begins, _ = products
        with m.If(step):
            m.d.sync += [times.eq(count), entry.eq(factor), product.eq(times * entry)]
        with m.If(step & adds):
            m.d.sync += total.eq(add_modulo(self.spec.sum_bits, product, Mux(begins, 0, total)))
        m.d.comb += self.o.payload.data[0][name].eq(total)
