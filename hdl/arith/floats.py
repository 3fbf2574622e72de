"""Floating-point blocks: FP32 results, rounded once to nearest even, subnormals included.

All are lock-step pipelines: no handshake, one operation per cycle, ``latency`` cycles. NaN results are 0x7FC00000.
"""

from typing import Any, NamedTuple

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.formats import FLOATS
from hdl.arith.bits import leading_one, shift_right_jam
from hdl.arith.delay import delay
from hdl.shared import Shared

FINITE, INFINITE, NAN = 0, 1, 2
"""What a value is, two bits."""


class Unpacked(NamedTuple):
    """``(-1)^negative * significand * 2^(exponent - bias - fraction bits)``, the hidden bit made explicit."""

    negative: Value
    significand: Value
    exponent: Value
    kind: Value


def unpack(bits: Value, fmt: str) -> Unpacked:
    """Fields of a float; ``exponent`` is the biased one, 1 for subnormals."""
    f = FLOATS[fmt]
    fraction, field = bits[: f.fraction_bits], bits[f.fraction_bits : f.fraction_bits + f.exponent_bits]
    if f.power_of_two:  # no sign, no fraction, no zero
        return Unpacked(C(0, 1), C(1, 1), field, Mux(field.all(), C(NAN, 2), C(FINITE, 2)))
    if f.integer:
        return Unpacked(C(0, 1), bits, C(1, 1), C(FINITE, 2))
    normal = field.any()
    if f.infinities:
        kind = Mux(field.all(), Mux(fraction.any(), C(NAN, 2), C(INFINITE, 2)), C(FINITE, 2))
    else:
        kind = Mux(bits[:-1].all(), C(NAN, 2), C(FINITE, 2))
    return Unpacked(bits[-1], Cat(fraction, normal), Cat(field[0] | ~normal, field[1:]), kind)


class Round(wiring.Component):
    """Integer times a power of two to FP32: the one place where the datapaths round.

    ``o = (-1)^negative * magnitude * 2^exponent`` to nearest even, with subnormals and overflow to infinity; ``kind``
    overrides it with an infinity or a NaN. A zero keeps its sign.

    Latency     3 cycles: find the leading one, shift it to the top, round and pack.
    Ranges      ``exponent`` in ``low..high``; the logic for subnormals is left out where the range excludes them.

    Parameters
    ----------
    width : bits of the magnitude.
    low, high : range of the exponent.
    """

    kind = "round"
    latency = latency.ROUND

    def __init__(self, width: int, low: int, high: int):
        self.width = width
        self.low, self.high = low, high
        super().__init__(
            {
                "magnitude": In(width),
                "negative": In(1),
                "exponent": In(signed(max((-low).bit_length(), high.bit_length()) + 1)),
                "special": In(2),
                "o": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        subnormal = self.low < -126
        # Below the magnitude come as many zeros as a subnormal result may be shifted down, or as fill 24 + 2 bits.
        pad = max(25 if subnormal else 0, 26 - self.width)
        field = self.width + pad

        # cycle 1: the leading one, its biased exponent, and the shift that brings it to the top of the field
        position = leading_one(self.magnitude)
        reach = max(127 - self.low, self.high + self.width + 127)
        biased = Signal(signed(reach.bit_length() + 1))
        under = Signal(range(26))
        held = delay(m, self.magnitude, 1, "held")
        left = Signal(range(field), reset_less=True)
        m.d.comb += biased.eq(self.exponent + position + 127)
        if subnormal:
            with m.If(biased < -24):
                m.d.comb += under.eq(25)
            with m.Elif(biased < 1):
                m.d.comb += under.eq(1 - biased)
        m.d.sync += left.eq(field - 1 - position - under)

        # cycle 2: 24 bits kept, a guard bit, and whether anything lies below
        shifted = Signal(field)
        kept = Signal(24, reset_less=True)
        guard = Signal(reset_less=True)
        sticky = Signal(reset_less=True)
        m.d.comb += shifted.eq(held << left)
        m.d.sync += [kept.eq(shifted[-24:]), guard.eq(shifted[-25]), sticky.eq(shifted[:-25].any())]
        exponent = delay(m, biased, 2, "exponent")

        # cycle 3: a carry out of the fraction increments the exponent, which is what rounding up means there
        top = Signal(8)
        packed = Signal(32)
        with m.If(kept[-1]):
            m.d.comb += top.eq(Mux(exponent > 254, 255, exponent))
        m.d.comb += packed.eq(Cat(kept[:23], top) + (guard & (sticky | kept[0])))
        negative = delay(m, self.negative, 2, "negative")
        special = delay(m, self.special, 2, "special")
        result = Signal(32, reset_less=True)
        with m.If(special == NAN):
            m.d.sync += result.eq(0x7FC00000)
        with m.Elif((special == INFINITE) | packed[31] | packed[23:31].all()):
            m.d.sync += result.eq(Cat(C(0x7F800000, 31), negative))
        with m.Else():
            m.d.sync += result.eq(Cat(packed[:31], negative))
        m.d.comb += self.o.eq(result)
        return m


class Convert(wiring.Component):
    """FP32 to a narrower IEEE format, rounded once, subnormals included; what is too large becomes infinite.

    Latency     ``latency`` = 2 cycles: shift what will be subnormal, round.
    """

    kind = "convert"
    latency = latency.CONVERT

    def __init__(self, fmt: str):
        self.fmt = fmt
        super().__init__({"i": In(32), "o": Out(FLOATS[fmt].bits)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        f = FLOATS[self.fmt]
        x = unpack(self.i, "fp32")

        # cycle 1: the exponent field here, and what is below its smallest shifted down
        field = Signal(signed(10))
        down = Signal(range(32))
        m.d.comb += field.eq(x.exponent - (127 - f.bias))
        with m.If(field < -23):
            m.d.comb += down.eq(25)
        with m.Elif(field < 1):
            m.d.comb += down.eq(1 - field)
        significand = delay(m, shift_right_jam(m, Cat(C(0, 1), x.significand), down, "down_by"), 1, "significand")
        # the hidden bit adds the last 1 to the field; beyond all fields there is but infinity
        most = (1 << f.exponent_bits) - 1
        below = Mux(field < 1, C(0, f.exponent_bits), Mux(field > most, C(most - 1, f.exponent_bits), field - 1))
        below = delay(m, below[: f.exponent_bits], 1, "below")
        kind = delay(m, x.kind, 1, "kind")
        negative = delay(m, x.negative, 1, "negative")

        # cycle 2: round
        cut = 24 - f.fraction_bits
        kept, guard, sticky = significand[cut:], significand[cut - 1], significand[: cut - 1].any()
        packed = (Cat(C(0, f.fraction_bits), below) + kept + (guard & (sticky | kept[0])))[: f.bits]
        infinity = most << f.fraction_bits
        quiet = infinity | 1 << (f.fraction_bits - 1)
        too_large = packed[-1] | packed[f.fraction_bits : -1].all()
        finite = Mux(too_large, C(infinity, f.bits - 1), packed[:-1])
        special = Mux(kind == NAN, C(quiet, f.bits - 1), C(infinity, f.bits - 1))
        magnitude = Mux(kind == FINITE, finite, special)
        m.d.comb += self.o.eq(delay(m, Cat(magnitude, negative & (kind != NAN)), 1, "result"))
        return m


class Requantise(wiring.Component):
    """FP32 to an 8-bit integer of at least ``low``, clipped; NaN becomes 0.

    Ties go to the even integer, away from zero or up, as ``rounding`` (:data:`golden.formats.ROUNDINGS`) says.

    Latency     ``latency`` = 2 cycles: shift to the binary point, round and clip.
    """

    kind = "requantise"
    latency = latency.CONVERT

    def __init__(self, low: int, rounding: str):
        self.low = low
        self.rounding = rounding
        super().__init__({"i": In(32), "o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        x = unpack(self.i, "fp32")

        # cycle 1: eight bits before the binary point; what is larger stays above 127, below 1/4 only "not zero" counts
        down = Signal(range(11))
        with m.If(x.exponent < 127 - 2):
            m.d.comb += down.eq(10)
        with m.Elif(x.exponent <= 127 + 7):
            m.d.comb += down.eq(127 + 7 - x.exponent)
        magnitude = delay(m, shift_right_jam(m, x.significand, down, "down_by"), 1, "magnitude")
        nothing = delay(m, x.kind == NAN, 1, "nothing")
        negative = delay(m, x.negative, 1, "negative")

        # cycle 2
        kept, half, below = magnitude[-8:], magnitude[-9], magnitude[:-9].any()
        up = {
            "half_even": half & (below | kept[0]),
            "half_away": half,
            "half_up": half & (below | ~negative),
        }[self.rounding]
        rounded = Signal(9)
        m.d.comb += rounded.eq(kept + up)
        most = Mux(negative, -self.low, 127)
        clipped = Mux(rounded > most, most, rounded)[:8]
        integer = Mux(nothing, 0, Mux(negative, -clipped, clipped))[:8]
        m.d.comb += self.o.eq(delay(m, integer, 1, "result"))
        return m


class Multiply(wiring.Component):
    """FP32 product of a float of format ``fmt`` and an FP32 number, rounded once.

    Latency     ``latency`` = 4 cycles: product of the significands, then :class:`Round`.
    """

    kind = "fmul"
    latency = latency.MULTIPLY

    def __init__(self, fmt: str):
        self.fmt = fmt
        super().__init__({"a": In(FLOATS[fmt].bits), "b": In(32), "o": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b = unpack(self.a, self.fmt), unpack(self.b, "fp32")
        # exponent of the product's lowest bit: both biased exponents less both biases and fraction lengths
        f = FLOATS[self.fmt]
        less = f.bias + f.fraction_bits + 127 + 23
        width = len(a.significand) + 24
        m.submodules.round = rounded = Shared(Round, width, f.signed + 1 - less, (1 << f.exponent_bits) + 255 - less)
        zero = ~a.significand.any() | ~b.significand.any()
        infinite = (a.kind == INFINITE) | (b.kind == INFINITE)
        exponent = Signal.like(rounded.exponent)
        special = Signal(2)
        m.d.comb += [exponent.eq(a.exponent + b.exponent - less), special.eq(Mux(infinite, INFINITE, FINITE))]
        with m.If((a.kind == NAN) | (b.kind == NAN) | (infinite & zero)):
            m.d.comb += special.eq(NAN)
        m.d.comb += [
            rounded.magnitude.eq(delay(m, a.significand * b.significand, 1, "product")),
            rounded.negative.eq(delay(m, a.negative ^ b.negative, 1, "negative")),
            rounded.exponent.eq(delay(m, exponent, 1, "exponent_held")),
            rounded.special.eq(delay(m, special, 1, "special_held")),
            self.o.eq(rounded.o),
        ]
        return m


class Add(wiring.Component):
    """FP32 sum of two FP32 numbers, rounded once.

    Latency     ``latency`` = 6 cycles: order by magnitude, align, add, then :class:`Round`.
    """

    kind = "fadd"
    latency = latency.ADD

    def __init__(self) -> None:
        super().__init__({"a": In(32), "b": In(32), "o": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # cycle 1: the larger magnitude first
        swap = self.a[:31] < self.b[:31]
        large = unpack(Mux(swap, self.b, self.a), "fp32")
        small = unpack(Mux(swap, self.a, self.b), "fp32")
        subtract = large.negative ^ small.negative
        distance = Signal(8, reset_less=True)
        big = delay(m, large.significand, 1, "big")
        low = delay(m, small.significand, 1, "low")
        m.d.sync += distance.eq(large.exponent - small.exponent)
        special = Signal(2)
        m.d.comb += special.eq(large.kind)
        with m.If((small.kind == NAN) | ((small.kind == INFINITE) & subtract)):
            m.d.comb += special.eq(NAN)
        exponent = delay(m, large.exponent, 3, "exponent")
        minus = delay(m, subtract, 2, "minus")
        negative = delay(m, large.negative, 3, "negative")
        both = delay(m, large.negative & small.negative, 3, "both")

        # cycle 2: three bits below the lowest keep what rounding needs to know of the smaller one
        aligned = delay(m, shift_right_jam(m, Cat(C(0, 3), low), distance, "down_by"), 1, "aligned")
        wide = delay(m, Cat(C(0, 3), big), 1, "wide")

        # cycle 3: the difference cannot be negative; an exact zero is +0 unless both operands are negative
        total = Signal(28, reset_less=True)
        m.d.sync += total.eq(Mux(minus, wide - aligned, wide + aligned))
        m.submodules.round = rounded = Shared(Round, 28, 1 - 127 - 23 - 3, 255 - 127 - 23 - 3)
        m.d.comb += [
            rounded.magnitude.eq(total),
            rounded.exponent.eq(exponent - (127 + 23 + 3)),
            rounded.negative.eq(Mux(total.any(), negative, both)),
            rounded.special.eq(delay(m, special, 3, "special_held")),
            self.o.eq(rounded.o),
        ]
        return m
