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

    Latency     ``2**bits + 3`` cycles from ``taken`` to the sums: an index a cycle, product, sum.
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
        number = Signal(spec.count_bits, reset_less=True)  # of the vector whose counts are held
        count = Signal(spec.count_bits, reset_less=True)  # of the one whose sums these are
        step = named(m, ~self.o.valid | self.o.ready, "step")
        adds, begins, ends = (Signal(name=name) for name in ("adds", "begins", "ends"))
        m.d.comb += [self.taken.eq(self.valid & step & (left <= 1)), self.busy.eq(left != 0)]
        with m.If(step):
            m.d.sync += [
                Cat(adds, begins, ends, self.o.valid).eq(Cat(self.busy, left == spec.entries, left == 1, ends)),
                left.eq(Mux(self.taken, spec.entries, left - self.busy)),
                held.eq(Mux(self.taken, self.counts, held >> spec.count_bits)),
            ]
            with m.If(begins):
                m.d.sync += count.eq(number)
        m.d.comb += self.o.payload.data[0].count.eq(count)
        with m.If(self.taken):
            m.d.sync += [self.reads.eq(self.bank), number.eq(self.count)]
        entry = self._entry(m, Cat((0 - left)[: spec.bits], self.reads))
        for name, factor in zip(MOMENTS, entry, strict=True):
            self._sum(m, name, held[: spec.count_bits] * factor, step & adds, step, begins)
        return m

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

    def _sum(self, m: Module, name: str, product: Value, adds: Value, step: Value, begins: Value) -> None:
        """A product in one cycle, added in the next."""
        total = Signal(signed(self.spec.sum_bits), name=f"total_{name}", reset_less=True)
        late = Signal(product.shape(), name=f"product_{name}", reset_less=True)
        with m.If(step):
            m.d.sync += late.eq(product)
        with m.If(adds):
            m.d.sync += total.eq(add_modulo(self.spec.sum_bits, late, Mux(begins, 0, total)))
        m.d.comb += self.o.payload.data[0][name].eq(total)
