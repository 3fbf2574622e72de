"""Block alignment: floating-point activations become integers of their row and group, with one exponent."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import named, shift_right_jam
from hdl.arith.floats import FINITE, INFINITE, Unpacked, unpack
from hdl.stream.signature import stream_signature

SLACK = 6
"""Places beside a whole group: a full memory must not hold up what follows."""


class Aligner(wiring.Component):
    """Every row's activations on the exponent of the largest of their group (:func:`golden.mixpe.formats.align`).

    ::

        i --+---------------------> activations --+-> distance -> shift, round -> o
            +-> largest exponent -> exponents ----+       (one register each)

    A group's first activation waits until its last one has come, since that may be the largest. Groups end as in the
    feeder, by count and with a tile; a tile that is too long in groups of ``k_max``, so that the memory is enough.

    Latency     ``spec.timing.align`` cycles from a group's last beat at ``i`` to its first at ``o``.
    Throughput  one beat per cycle; the memory holds a group and a little more, so that groups follow without a gap.

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
        bits = spec.exponent_bits
        last = self.i.payload.last
        group_end = last | self._group_full(m)
        width = spec.rows * spec.stream_format.bits
        m.submodules.activations = activations = SyncFIFOBuffered(width=width + 2, depth=spec.length + SLACK)
        m.submodules.exponents = exponents = SyncFIFOBuffered(width=spec.rows * bits, depth=SLACK)
        taken = Signal()
        m.d.comb += [
            self.i.ready.eq(activations.w_rdy & exponents.w_rdy),
            taken.eq(self.i.valid & self.i.ready),
            activations.w_data.eq(Cat(self.i.payload.data, group_end, last)),
            activations.w_en.eq(taken),
            exponents.w_data.eq(self._largest(m, taken, group_end)),
            exponents.w_en.eq(taken & group_end),
        ]

        # a group is read when its exponents are there
        there, moves = Signal(2), Signal(2)  # of both registers
        code, tail = activations.r_data[:width], activations.r_data[width:]
        ready = activations.r_rdy & exponents.r_rdy
        m.d.comb += [
            moves.eq(Cat(~there[0] | moves[1], ~there[1] | self.o.ready)),
            activations.r_en.eq(ready & moves[0]),
            exponents.r_en.eq(ready & moves[0] & tail[0]),
            self.o.valid.eq(there[1]),
        ]
        with m.If(moves[0]):
            m.d.sync += there[0].eq(ready)
        with m.If(moves[1]):
            m.d.sync += there[1].eq(there[0])
        ends = self._held(m, self._held(m, tail[1], moves[0], "ends"), moves[1], "last")
        m.d.comb += self.o.payload.last.eq(ends)
        for r in range(spec.rows):
            x = unpack(code.word_select(r, spec.stream_format.bits), spec.stream_format.name)
            significand, up = self._aligned(m, x, exponents.r_data.word_select(r, bits), moves, r)
            m.d.comb += [self.o.payload.data[r].x.eq(significand), self.o.payload.data[r].up.eq(up)]
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

    def _largest(self, m: Module, taken: Value, group_end: Value) -> Value:
        """Every row's largest exponent of the group so far, this beat's included, less 1."""
        spec = self.spec
        largest = []
        for r in range(spec.rows):
            x = unpack(Value.cast(self.i.payload.data[r]), spec.stream_format.name)
            so_far = Signal(spec.exponent_bits, name=f"largest_{r}")
            now = Signal(spec.exponent_bits, name=f"exponent_{r}")
            most = Signal(spec.exponent_bits, name=f"most_{r}")
            m.d.comb += [
                now.eq(Mux(x.kind == FINITE, x.exponent - 1, 0)),
                most.eq(Mux(now > so_far, now, so_far)),
            ]
            with m.If(taken):
                m.d.sync += so_far.eq(Mux(group_end, 0, most))
            largest.append(most)
        return Cat(largest)

    def _aligned(self, m: Module, x: Unpacked, group: Value, moves: Value, row: int) -> tuple[Value, Value]:
        """Both registers of a row: how far down, then the significand in place, rounded, with its special mark."""
        bits, fraction = self.spec.act_format.significand_bits, self.spec.stream_format.fraction_bits
        field = max(bits - 1, fraction + 1) + 2  # below what is kept a guard bit, and whether anything lies below it
        finite = x.kind == FINITE
        apart = named(m, group - (x.exponent - 1), f"apart_{row}")
        down = Mux(apart > field, field, apart)[: field.bit_length()]
        first = Cat(x.negative, finite, x.kind == INFINITE, x.significand, down, group)
        first = self._held(m, first, moves[0], f"row_{row}")
        at = 3 + fraction + 1
        negative, finite, infinite = first[:3]
        significand, down, group = first[3:at], first[at : at + field.bit_length()], first[at + field.bit_length() :]

        placed = Cat(C(0, field - fraction - 1), significand)
        placed = shift_right_jam(m, placed, down, f"down_by_{row}")
        kept, guard, below = placed[-(bits - 1) :], placed[-bits], placed[:-bits].any()
        rounded = named(m, kept + (guard & (below | kept[0])), f"rounded_{row}")
        magnitude = Mux(rounded[-1], (1 << (bits - 1)) - 1, rounded[:-1])
        magnitude = named(m, Mux(finite, magnitude, infinite), f"magnitude_{row}")
        signed = Mux(negative, -magnitude, magnitude)[:bits]
        second = self._held(m, Cat(signed, ~finite, group), moves[1], f"aligned_{row}")
        return second[: bits + 1], second[bits + 1 :]

    def _held(self, m: Module, value: Value, moves: Value, name: str) -> Value:
        """A register that takes the value when its place moves on."""
        register = Signal(len(value), name=name, reset_less=True)
        with m.If(moves):
            m.d.sync += register.eq(value)
        return register
