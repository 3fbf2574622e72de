"""Floating-point baselines: FP16 products summed in FP32, with and without dequantisation of the weight before.

Operands are recoded at the edge of the array, once per row and column, as floating-point arrays do: subnormals become
normal numbers with a longer exponent, so that the elements need no logic for them. An FP32 sum of FP16 products is a
multiple of 2^-48 and, because products that are too small for it to grow are rounded away, never above 2^56: seven
bits of exponent hold every value it can take, and it needs neither subnormals nor an overflow.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from golden.mixpe.baseline import BaselineSpec
from hdl.arith.bits import normalize, shift_right_jam
from hdl.arith.delay import delay
from hdl.mixpe.design import Design

OPERAND = data.StructLayout({"fraction": 10, "exponent": 6, "negative": 1})
"""``1.fraction * 2^(exponent - 32)``. The top three bits of ``exponent`` tell a zero (0), an infinity (6) and a NaN (7)
from finite numbers; the fraction of a zero is 0."""

CODE = data.StructLayout({"fraction": 2, "exponent": 2, "nonzero": 1, "negative": 1})
"""A signed 4-bit integer as ``1.fraction * 2^exponent``; the fraction of a zero is 0."""

PRODUCT = data.StructLayout({"significand": 22, "exponent": 7, "negative": 1, "beyond": 2})
"""``significand * 2^(exponent - 84)``, its top two bits 0 in a zero alone; ``beyond`` as in :data:`SUM`."""

SUM = data.StructLayout({"fraction": 23, "exponent": 7, "negative": 1, "beyond": 2})
"""``1.fraction * 2^(exponent - 63)``, or 0 where ``exponent`` is 0. ``beyond``: +Inf was added, -Inf was; both: NaN."""

EXTRA = 4
"""Places below an FP32 significand while it is added: a product may stand two below the top, then guard and sticky."""


class FP16(Design):
    """FP16 times FP16, exactly, added to an FP32 sum with one rounding to nearest even."""

    def __init__(self, spec: BaselineSpec):
        super().__init__(spec)
        self.x_width, self.w_width, self.sum_width = OPERAND.size, OPERAND.size, SUM.size

    def operands(self, m: Module, beat: data.View) -> tuple[Value, Value]:
        return recode(m, beat.x, "x"), recode(m, beat.w, "w")

    def product(self, m: Module, x: Value, w: Value) -> Value:
        return self._multiply(m, data.View(OPERAND, x), data.View(OPERAND, w), self.spec.stages == 3)

    def _multiply(
        self,
        m: Module,
        x: data.View,
        w: data.View,
        split: bool,
    ) -> Value:
        """The exact product; ``split`` puts a register between its two halves and their sum."""
        a, b = (Cat(v.fraction, _nonzero(v)) for v in (x, w))
        exponent = Signal(7)
        m.d.comb += exponent.eq(x.exponent + w.exponent)
        negative = x.negative ^ w.negative
        rest = Cat(exponent, negative, _beyond(x, w, negative))
        if not split:
            return Cat(multiply(m, a, b, "multiple"), rest)
        low, high = (delay(m, multiply(m, a, half, n), 1, n) for n, half in (("low", b[:6]), ("high", b[6:])))
        return Cat((low + (high << 6))[:22], delay(m, rest, 1, "rest"))

    def add(self, m: Module, acc: Value, product: Value) -> Value:
        """The sum, in one cycle. Operands are ordered by exponent alone, so a difference may come out negative, but
        only where it is exact: it is inverted, and rounding, which finds ones below, adds what is missing."""
        a, p = data.View(SUM, acc), data.View(PRODUCT, product)
        stay, kept, shifted = _aligned(m, a, p)
        subtract = a.negative ^ p.negative
        total = Signal(24 + EXTRA + 2)
        minus = Signal()
        m.d.comb += [
            # the bit below is the carry in
            total.eq(Cat(subtract, kept) + Cat(subtract, shifted ^ subtract.replicate(len(shifted)), subtract)),
            minus.eq(subtract & total[-1]),
        ]
        packed, exists = _rounded(m, total[1:], minus, Mux(stay, a.exponent, p.exponent))
        negative = Mux(stay, a.negative, p.negative) ^ minus
        return Cat(packed, negative & exists, a.beyond | p.beyond)

    def result(self, total: Value) -> Value:
        s = data.View(SUM, total)
        nan, special = s.beyond.all(), s.beyond.any()
        fraction = (s.fraction & (~special).replicate(23)) | Cat(C(0, 22), nan)
        # e + 64 is e with its top bit doubled, the lower one inverted
        finite = Cat(s.exponent[:6], ~s.exponent[6], s.exponent[6]) & s.exponent.any().replicate(8)
        return Cat(fraction, finite | special.replicate(8), Mux(special, s.beyond[1] & ~nan, s.negative))


class Dequant(FP16):
    """A 4-bit code times its scale, rounded to FP16, then as :class:`FP16`: what dequantising before the sum costs."""

    def __init__(self, spec: BaselineSpec):
        super().__init__(spec)
        self.w_width = CODE.size + OPERAND.size

    def operands(self, m: Module, beat: data.View) -> tuple[Value, Value]:
        return recode(m, beat.x, "x"), Cat(recode_code(m, beat.w, "code"), recode(m, beat.scale, "scale"))

    def product(self, m: Module, x: Value, w: Value) -> Value:
        weight = Signal(OPERAND.size)
        m.d.comb += weight.eq(dequantized(m, data.View(CODE, w[: CODE.size]), data.View(OPERAND, w[CODE.size :])))
        if self.spec.stages == 3:
            x, weight = delay(m, x, 1, "x_held"), delay(m, weight, 1, "weight_held")
        return self._multiply(m, data.View(OPERAND, x), data.View(OPERAND, weight), False)


def _aligned(m: Module, a: data.View, p: data.View) -> tuple[Value, Value, Value]:
    """Whether it is the accumulator that stays where it is, what stays, and what moved down to it."""
    distance = Signal(8)
    stay = Signal()
    m.d.comb += [distance.eq(p.exponent - a.exponent), stay.eq(distance[-1] | ~p.significand[-2:].any())]
    big = Cat(C(0, EXTRA), a.fraction, a.exponent.any())
    small = Cat(C(0, EXTRA + 2), p.significand)
    kept = Signal(24 + EXTRA)
    moved = Signal(24 + EXTRA)
    shifted = Signal(24 + EXTRA)
    # ~d is one less than -d, and the product starts one place further down for that
    amount = distance[:7] ^ stay.replicate(7)
    m.d.comb += [
        kept.eq(Mux(stay, big, small)),
        moved.eq(Mux(stay, small[1:], big)),
        shifted.eq(shift_right_jam(m, moved, Cat(amount[:5], amount[5:].any()), "down_by")),
    ]
    return stay, kept, shifted


def _rounded(m: Module, total: Value, minus: Value, exponent: Value) -> tuple[Value, Value]:
    """Fraction and exponent of a sum, or of a negative one inverted, and whether it is not 0."""
    field, less = normalize(m, total ^ minus.replicate(len(total)), "left", minus)
    exists = field[-1]
    up = field[EXTRA] & (field[:EXTRA].any() | field[EXTRA + 1])
    packed = Signal(30)  # a carry out of the fraction increments the exponent, which is what rounding up means
    change = (Cat(~less, C(3, 2)) + 2)[:7]  # 1 - less
    m.d.comb += packed.eq(Cat(field[EXTRA + 1 : -1], exponent) + Cat(up, C(0, 22), change))
    return Cat(packed[:23], packed[23:] & exists.replicate(7)), exists


def multiply(m: Module, a: Value, b: Value, name: str) -> Value:
    """The product of unsigned words by radix-4 signed digits of ``b``, added row by row: smaller than what synthesis
    makes of ``*``, with its own signed digits or without."""
    digits = Cat(C(0, 1), b, C(0, 2))
    product, rest = [], C(0, 1).as_signed()
    for i in range(0, len(b) + 1, 2):
        negative, two, one = digits[i + 2], digits[i : i + 3], digits[i] ^ digits[i + 1]
        twice = (two == 0b100) | (two == 0b011)
        multiple = (Cat(a, C(0, 1)) & one.replicate(len(a) + 1)) | (Cat(C(0, 1), a) & twice.replicate(len(a) + 1))
        row = Cat(multiple ^ negative.replicate(len(multiple)), negative)
        total = Signal(signed(len(a) + 4), name=f"{name}_{i}")
        # the bit below is the carry in: -t = ~t + 1
        m.d.comb += total.eq(Cat(negative, row).as_signed() + Cat(negative, rest).as_signed())
        product.append(total[1:3])
        rest = total[3:].as_signed()
    return Cat(*product, rest)[: len(a) + len(b)]


def recode(m: Module, bits: Value, name: str) -> Value:
    """An FP16 number as :data:`OPERAND`; any NaN is one NaN."""
    fraction, field, negative = bits[:10], bits[10:15], bits[15]
    shifted, less = normalize(m, fraction, f"{name}_subnormal")
    subnormal = Cat(C(0, 1), shifted[:9], (17 - less)[:6] & shifted[-1].replicate(6))
    normal = Cat(fraction, (field + 17)[:6])
    special = Cat(C(0, 10), C(0, 3), fraction.any(), C(3, 2))
    return Cat(Mux(field.all(), special, Mux(field.any(), normal, subnormal)), negative)


def recode_code(m: Module, code: Value, name: str) -> Value:
    """A signed 4-bit integer as :data:`CODE`."""
    negative = code[-1]
    magnitude = ((code.as_unsigned() ^ negative.replicate(4)) + negative)[:4]
    shifted, less = normalize(m, magnitude, name)
    return Cat(shifted[1:3], ~less, shifted[-1], negative)


def dequantized(m: Module, code: data.View, scale: data.View) -> Value:
    """``code * scale`` rounded to FP16, as :data:`OPERAND`. What overflows is an infinity by its exponent; where FP16
    is subnormal nothing is rounded, since an integer multiple of a scale has no bits below it."""
    significand = Signal(11)
    full = Signal(14)
    kept = Signal(11)
    up = Signal()
    packed = Signal(16)
    f1, f0 = (significand & bit.replicate(11) for bit in reversed(code.fraction))
    top = full[-1]
    m.d.comb += [
        significand.eq(Cat(scale.fraction, _nonzero(scale)) & code.nonzero.replicate(11)),
        full.eq((significand << 2) + (f1 << 1) + f0),
        kept.eq(Mux(top, full[3:], full[2:])),
        up.eq(Mux(top, full[2] & (full[:2].any() | full[3]), full[1] & (full[0] | full[2]))),
        packed.eq(Cat(kept[:10], (scale.exponent + code.exponent + top)[:6]) + up),
    ]
    exists = code.nonzero & _nonzero(scale)
    none = Cat(C(0, 13), (_special(scale) & ~code.nonzero).replicate(3))  # Inf * 0 and NaN * 0
    return Cat(Mux(exists, packed, none), scale.negative ^ code.negative)


def _nonzero(v: data.View) -> Value:
    return v.exponent[3:].any()


def _special(v: data.View) -> Value:
    return v.exponent[4:].all()


def _beyond(x: data.View, w: data.View, negative: Value) -> Value:
    """Which infinities a product adds."""
    infinite = _special(x) | _special(w)
    nan = infinite & ((_special(x) & x.exponent[3]) | (_special(w) & w.exponent[3]) | ~_nonzero(x) | ~_nonzero(w))
    return Cat(nan | (infinite & ~negative), nan | (infinite & negative))
