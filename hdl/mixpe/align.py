"""Block alignment: floating-point activations become integers of their row and group, with one exponent."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import named, shift_right_jam
from hdl.arith.floats import FINITE, INFINITE, unpack
from hdl.shared import Shared
from hdl.stream.fifo import BlockFIFO
from hdl.stream.signature import stream_signature

SLACK = 6
"""Places beside a whole group: a full memory must not hold up what follows."""


class Aligner(wiring.Component):
    """Every row's activations on the largest exponent of their group (:func:`golden.mixpe.formats.align`).

    ::

        i --+---------------------> activations --+-> distance -> shift, round -> o
            +-> largest exponent -> exponents ----+       (one register each)

    A group's first activation waits until its last one has come, since that may be the largest. Groups end as in the
    feeder, by count and with a tile; a tile that is too long in groups of ``k_max``, so that the memory is enough.

    Latency     ``spec.timing.align`` cycles from a group's last beat at ``i`` to its first at ``o``.
    Throughput  one beat per cycle; the memory holds a group and a little more, and exponents for as many groups as fit
                (of one step each), so that groups follow without a gap.

    Members
    -------
    i : activations as they come; o : significands and special marks, with the group's exponents (``spec.step_port``).
    """

    kind = "aligner"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        super().__init__({"i": In(stream_signature(spec.port("act"))), "o": Out(stream_signature(spec.step_port))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        last = self.i.payload.last
        group_end = named(m, last | self._group_full(m), "group_end")
        codes = self.i.payload.data.as_value()
        m.submodules.activations = activations = Shared(BlockFIFO, len(codes) + 2, spec.length + SLACK)
        m.submodules.exponents = exponents = Shared(BlockFIFO, spec.rows * spec.exponent_bits, spec.length + SLACK)
        taken = Signal()
        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(activations.i.ready & exponents.i.ready),
            activations.i.payload.eq(Cat(codes, group_end, last)),
            activations.i.valid.eq(taken),
            exponents.i.valid.eq(taken & group_end),
        ]

        # a group is read when its exponents are there
        codes, ends, last = (activations.o.payload[s] for s in (slice(-2), -2, -1))
        ready = activations.o.valid & exponents.o.valid
        there, moves = Signal(2), Signal(2)  # of both registers
        m.d.comb += [
            moves.eq(Cat(~there[0] | moves[1], ~there[1] | self.o.ready)),
            activations.o.ready.eq(ready & moves[0]),
            exponents.o.ready.eq(ready & moves[0] & ends),
            self.o.valid.eq(there[1]),
            self.o.payload.last.eq(held(m, held(m, last, moves[0], "last_1"), moves[1], "last_2")),
        ]
        with m.If(moves[0]):
            m.d.sync += there[0].eq(ready)
        with m.If(moves[1]):
            m.d.sync += there[1].eq(there[0])

        largest = []
        for r in range(spec.rows):
            m.submodules[f"row_{r}"] = row = Shared(AlignRow, spec)
            m.d.comb += [
                row.came.eq(self.i.payload.data[r]),
                row.taken.eq(taken),
                row.ends.eq(group_end),
                row.code.eq(codes.word_select(r, spec.stream_format.bits)),
                row.exponent.eq(exponents.o.payload.word_select(r, spec.exponent_bits)),
                row.moves.eq(moves),
                self.o.payload.data[r].x.eq(row.x),
                self.o.payload.data[r].up.eq(row.up),
            ]
            largest.append(row.largest)
        m.d.comb += exponents.i.payload.eq(Cat(largest))
        return m

    def _group_full(self, m: Module) -> Value:
        """Whether the beat at ``i`` is its group's last by count."""
        size = self.spec.length
        if size == 1:
            return C(1, 1)
        count = Signal(range(size))
        full = count == size - 1
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += count.eq(Mux(full | self.i.payload.last, 0, count + 1))
        return full


class AlignRow(wiring.Component):
    """One row's part: the largest exponent of what comes, and the alignment of what leaves.

    Members
    -------
    came, taken, ends -> largest : of the group so far, this activation included, less 1;
    code, exponent -> x, up : aligned, two moves later; moves : which of the two registers take their input.
    """

    kind = "align_row"

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        self.source = spec.stream_format
        super().__init__(
            {
                "came": In(self.source.bits),
                "taken": In(1),
                "ends": In(1),
                "largest": Out(spec.exponent_bits),
                "code": In(self.source.bits),
                "exponent": In(spec.exponent_bits),
                "moves": In(2),
                "x": Out(spec.act_format.bits),
                "up": Out(spec.exponent_bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        came = unpack(self.came, self.source.name)
        so_far = Signal.like(self.largest)
        now = Signal.like(self.largest)
        m.d.comb += [
            now.eq(came.exponent - 1),  # of an infinity or NaN too: they make the sums of their group special anyway
            self.largest.eq(Mux(now > so_far, now, so_far)),
        ]
        with m.If(self.taken):
            m.d.sync += so_far.eq(Mux(self.ends, 0, self.largest))
        self._align(m)
        return m

    def _align(self, m: Module) -> None:
        """Both registers: how far down; then the significand in its place, rounded, with its special mark."""
        bits, fraction = self.spec.act_format.significand_bits, self.source.fraction_bits
        field = max(bits - 1, fraction + 1) + 2  # below what is kept a guard bit, and whether anything lies below it
        x = unpack(self.code, self.source.name)
        apart = named(m, self.exponent - (x.exponent - 1), "apart")
        down = Mux(apart > field, field, apart)[: field.bit_length()]
        early = self.moves[0]
        negative, finite = held(m, x.negative, early, "negative"), held(m, x.kind == FINITE, early, "finite")
        infinite = held(m, x.kind == INFINITE, early, "infinite")
        significand, down = held(m, x.significand, early, "significand"), held(m, down, early, "down")

        placed = shift_right_jam(m, Cat(C(0, field - fraction - 1), significand), down, "down_by")
        kept, guard, below = placed[-(bits - 1) :], placed[-bits], placed[:-bits].any()
        rounded = named(m, kept + (guard & (below | kept[0])), "rounded")
        clipped = Mux(rounded[-1], (1 << (bits - 1)) - 1, rounded[:-1])
        magnitude = named(m, Mux(finite, clipped, infinite), "magnitude")
        integer = Mux(negative, -magnitude, magnitude)[:bits]
        m.d.comb += [
            self.x.eq(held(m, Cat(integer, ~finite), self.moves[1], "aligned")),
            self.up.eq(held(m, held(m, self.exponent, early, "up_1"), self.moves[1], "up_2")),
        ]


def held(m: Module, value: Value, moves: Value, name: str) -> Value:
    """A register that takes ``value`` when its place moves on."""
    register = Signal(len(value), name=name, reset_less=True)
    with m.If(moves):
        m.d.sync += register.eq(value)
    return register
