"""The group dequantiser's arithmetic: integer group sums in, the FP32 sum over groups out.

Lock-step pipelines: a new (sum, parameters, slot) every cycle, no handshake. A lane works on ``spec.slots`` results in
turn and keeps the running sum of each in a memory, addressed by ``slot``.
"""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.mixpe.gemm import MixPESpec
from hdl.arith.bits import add_modulo, extend, index_bits, shift_left
from hdl.arith.delay import delay
from hdl.arith.floats import FINITE, INFINITE, NAN, Add, Multiply, Round, unpack
from hdl.shared import Shared


class Dequantiser(wiring.Component):
    """What both ways of summing over groups share: the ports and the correction of the integer sum.

    Members
    -------
    a : group sum of operands; s : group sum of activations, both with their marks above; par : the column's
    parameters, scale low;
    up : exponent of the activations, from the smallest; valid, first, slot : which running sum, and
    whether it starts here; o : the running sum so far, FP32 or an integer, ``spec.dequant_latency`` cycles later.
    """

    def __init__(self, spec: MixPESpec):
        self.spec = spec
        self.correction = spec.weight_format.correction
        super().__init__(
            {
                "a": In(spec.pe.sum_width + spec.special_width),
                "s": In(spec.row_sum_width + spec.special_width),
                "par": In(spec.port("par").lane_width),
                "up": In(max(1, spec.exponent_bits)),
                "valid": In(1),
                "first": In(1),
                "slot": In(index_bits(spec.slots)),
                "o": Out(spec.out_format.bits if spec.raw else 32),
            }
        )

    def _factors(self, m: Module) -> list[tuple[Value, Value, Value]]:
        """Cycle 1: (float parameter, integer that it multiplies, the integer's special), for the scale and, if there is
        one, the minimum."""
        spec = self.spec
        float_bits, offset = spec.scale_format.bits, spec.weight_format.offset
        scale, extra = self.par[:float_bits], self.par[float_bits:]
        a, s = self.a[: spec.pe.sum_width].as_signed(), self.s[: spec.row_sum_width].as_signed()
        corrected = Signal(signed(self.spec.corrected_width), reset_less=True)
        if self.correction == "zero":
            # of four bits: sum (q - z)x = sum (q - 8)x - (z - 8) sum x, and z - 8 is z with its top bit flipped
            shifted_zero = Cat(extra[:-1], ~extra[-1]).as_signed()
            m.d.sync += corrected.eq(a - shifted_zero * s)
        elif self.correction == "min" and offset:
            # of four bits: sum qx = sum (q - 8)x + 8 sum x
            m.d.sync += corrected.eq(a + (s << offset.bit_length() - 1))
        else:
            m.d.sync += corrected.eq(a)
        special = self._special(m)
        factors = [(delay(m, scale, 1, "scale"), corrected, special)]
        if self.correction == "min":
            factors.append((delay(m, extra, 1, "minimum"), delay(m, s, 1, "row_sum"), special))
        return factors

    def _special(self, m: Module) -> Value:
        """Cycle 1: kind (two bits) and sign of the group's sum where it is not finite; nothing for integers."""
        if not self.spec.special_width:
            return C(FINITE, 3)
        if self.correction != "none":
            # the zero point and the minimum multiply the same infinities by other factors: the sum is NaN
            return delay(m, Mux(self.s[-2:].any(), C(NAN, 3), C(FINITE, 3)), 1, "special_sum")
        up, down = self.a[-2:]
        kind = Mux(up & down, C(NAN, 2), Mux(up | down, C(INFINITE, 2), C(FINITE, 2)))
        return delay(m, Cat(kind, down), 1, "special_sum")

    def _memory(self, m: Module, width: int, read_slot: Value, write_slot: Value, write: Value, value: Value) -> Value:
        """Running sums: the word of ``read_slot`` as it stands, and a write at the end of the cycle."""
        m.submodules.running = memory = Memory(shape=width, depth=max(2, self.spec.slots), init=[])
        reader, writer = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            reader.addr.eq(read_slot),
            writer.addr.eq(write_slot),
            writer.en.eq(write),
            writer.data.eq(value),
        ]
        return reader.data


class ExactDequantiser(Dequantiser):
    """``sum over groups of (scale*A + min*S)`` as an exact integer on the grid of the smallest FP16 number, rounded
    once.

    ::

        cycle  1 correct   2 multiply significands   3 shift onto the grid   4 add both, read the running sum
               5 accumulate, write back (raw results leave)   6 magnitude   7..9 round

    An infinity or a NaN travels beside the integer: two bits of kind and a sign.
    """

    kind = "dequant_exact"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        terms, kinds = [], []
        for n, (scale, integer, beyond) in enumerate(self._factors(m)):
            term, special = self._term(m, scale, integer, beyond, f"term_{n}")
            terms.append(term)
            kinds.append(special)

        # cycle 4: both terms; their specials joined
        term = delay(m, add_modulo(spec.total_width, *terms), 1, "term")
        special = _join(*kinds) if len(kinds) == 2 else kinds[0]
        special = delay(m, special, 1, "special_4")
        first, valid = delay(m, self.first, 4, "first"), delay(m, self.valid, 4, "valid", init=0)
        slot_3 = delay(m, self.slot, 3, "slot")
        slot = delay(m, slot_3, 1, "slot_4")

        # cycle 5: accumulate; `old` was read in cycle 4
        total = Signal(spec.total_width)
        word = Signal(spec.total_width + 3)
        read = self._memory(m, len(word), slot_3, slot, valid, word)
        old = Mux(first, C(0, len(word)), delay(m, read, 1, "old"))
        m.d.comb += [
            total.eq(old[: spec.total_width] + term),
            word.eq(Cat(total, _join(old[spec.total_width :], special))),
        ]
        held = delay(m, word, 1, "held")
        if spec.raw:
            m.d.comb += self.o.eq(held[: spec.total_width].as_signed())
        else:
            self._round(m, held)
        return m

    def _round(self, m: Module, held: Value) -> None:
        """Cycle 6: magnitude, then round."""
        spec = self.spec
        exponent = spec.grid_exponent
        m.submodules.round = rounded = Shared(Round, spec.total_width, exponent, exponent)
        value, mark = held[: spec.total_width], held[spec.total_width :]
        negative = value[-1]
        magnitude = Mux(negative, (~value + 1)[: spec.total_width], value)
        m.d.comb += [
            rounded.magnitude.eq(delay(m, magnitude, 1, "magnitude")),
            rounded.negative.eq(delay(m, Mux(mark[:2].any(), mark[2], negative), 1, "negative")),
            rounded.special.eq(delay(m, mark[:2], 1, "special")),
            rounded.exponent.eq(exponent),
            self.o.eq(rounded.o),
        ]

    def _term(self, m: Module, scale: Value, integer: Value, beyond: Value, name: str) -> tuple[Value, Value]:
        """Cycles 2 and 3: float times integer on the grid, and the special value that it stands for."""
        f = unpack(scale, self.spec.scale)
        # the grid is that of the smallest power of two, so every shift is to the left
        low, high = self.spec.exponents
        up = Signal(range(self.spec.scale_format.max_shift + 1 + high - low), name=f"{name}_up")
        m.d.comb += up.eq(f.exponent - 1)
        if self.spec.exponent_bits:
            m.d.comb += up.eq(f.exponent - 1 + delay(m, self.up, 1, f"{name}_x_up"))
        finite = f.kind == FINITE
        factor = Mux(f.negative, -f.significand, f.significand)
        product = delay(m, Mux(finite, factor, 0) * integer, 1, f"{name}_product")
        special = _times(f.kind, ~f.significand.any(), f.negative, beyond, integer)
        special = delay(m, special, 2, f"{name}_special")

        wide = extend(product, self.spec.total_width)
        shifted = shift_left(m, wide, delay(m, up, 1, f"{name}_shift"), f"{name}_up_by")
        return delay(m, shifted.as_signed(), 1, f"{name}_shifted"), special


class Fp32Dequantiser(Dequantiser):
    """``acc + (scale*A + min*S)``, every integer, product and sum rounded to FP32, groups ascending, from +0.

    ::

        cycle  1 correct   2 magnitude   3..5 round to FP32   6..9 multiply   (10..15 add the minimum's share)
               then 6 cycles to accumulate, and write back
    """

    kind = "dequant_fp32"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        products = [self._product(m, *factor, f"factor_{n}") for n, factor in enumerate(self._factors(m))]
        at = 2 + latency.ROUND + latency.MULTIPLY
        term = products[0]
        if len(products) == 2:
            m.submodules.share = share = Shared(Add)
            m.d.comb += [share.a.eq(products[0]), share.b.eq(products[1])]
            term, at = share.o, at + latency.ADD

        m.submodules.accumulate = accumulate = Shared(Add)
        read_slot = delay(m, self.slot, at - 1, "slot")
        write_slot = delay(m, read_slot, 1 + latency.ADD, "slot_done")
        write = delay(m, self.valid, at + latency.ADD, "valid", init=0)
        read = self._memory(m, 32, read_slot, write_slot, write, accumulate.o)
        m.d.comb += [
            accumulate.a.eq(term),
            accumulate.b.eq(Mux(delay(m, self.first, at, "first"), 0, delay(m, read, 1, "old"))),
            self.o.eq(accumulate.o),
        ]
        return m

    def _product(self, m: Module, parameter: Value, integer: Value, beyond: Value, name: str) -> Value:
        unit = self.spec.sum_exponent
        low, high = (e + unit for e in self.spec.exponents)
        m.submodules[f"{name}_round"] = rounded = Shared(Round, len(integer), low, high)
        m.submodules[f"{name}_multiply"] = multiply = Shared(Multiply, self.spec.scale)
        negative = integer[-1]
        magnitude = Mux(negative, (~integer + 1)[: len(integer)], integer)[: len(integer)]
        kind, sign = beyond[:2], beyond[2]
        m.d.comb += [
            rounded.magnitude.eq(delay(m, magnitude, 1, f"{name}_magnitude")),
            rounded.negative.eq(delay(m, Mux(kind == FINITE, negative, sign), 1, f"{name}_negative")),
            rounded.special.eq(delay(m, kind, 1, f"{name}_kind") if self.spec.special_width else FINITE),
            rounded.exponent.eq(unit),
        ]
        if self.spec.exponent_bits:
            m.d.comb += rounded.exponent.eq(delay(m, self.up, 2, f"{name}_up") + low)
        m.d.comb += [
            multiply.a.eq(delay(m, parameter, 1 + latency.ROUND, f"{name}_parameter")),
            multiply.b.eq(rounded.o),
        ]
        return multiply.o


def _times(kind: Value, zero: Value, negative: Value, beyond: Value, integer: Value) -> Value:
    """Kind and sign of a float times an integer, which ``beyond`` says is infinite or NaN instead."""
    integer_kind, finite = beyond[:2], beyond[:2] == FINITE
    nan = (kind == NAN) | (integer_kind == NAN)
    nan |= (kind == INFINITE) & finite & ~integer.any()
    nan |= (integer_kind == INFINITE) & zero & (kind == FINITE)
    infinite = (kind == INFINITE) | (integer_kind == INFINITE)
    sign = negative ^ Mux(finite, integer[-1], beyond[2])
    return Cat(Mux(nan, C(NAN, 2), Mux(infinite, C(INFINITE, 2), C(FINITE, 2))), sign)


def _join(a: Value, b: Value) -> Value:
    """Sum of two specials, each kind (two bits) and sign: NaN wins, and so do two different infinities."""
    kind_a, kind_b = a[:2], b[:2]
    clash = (kind_a == INFINITE) & (kind_b == INFINITE) & (a[2] ^ b[2])
    nan = (kind_a == NAN) | (kind_b == NAN) | clash
    infinite = (kind_a == INFINITE) | (kind_b == INFINITE)
    sign = Mux(kind_a == INFINITE, a[2], b[2])
    return Cat(Mux(nan, C(NAN, 2), Mux(infinite, C(INFINITE, 2), C(FINITE, 2))), sign & infinite)
