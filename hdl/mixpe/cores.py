"""Product cores: ways to multiply by a low-bit signed operand, behind one interface.

A core is split where the array is: ``decode`` runs once per weight lane at the edge of the array, and what it returns
travels down the column in place of the code; ``terms`` runs in every processing element and returns signed addends
whose sum is the product, so that the element may put a register after the terms, after their sum, or nowhere. For an
operand of four bits (``composed``: of eight)::

    core        decoded bits   terms in the element
    shift_add   4              (w0*x + w1*x<<1) + (w2*x - w3*x<<1)<<2      (the paper's)
    booth       6              d0*x + d1*x<<2, digits d in {-2..2}         (radix-4 signed digits)
    two_term    6              +-x<<{none,1,2,3} +- x<<{none,0,1,2}        (INT4 and E2M1)
    composed    6 + 6          low*x + high*x<<4, each by two_term         (INT8 only)
    multiply    4              w*x                                         (whatever synthesis makes of it)
    packed      4              (w' * 2^12 + w)*x, two columns' products    (one DSP block: :mod:`hdl.mixpe.pe_pair`)
"""

from amaranth.hdl import C, Cat, Value

from golden.mixpe.pe import TWO_TERM_OPERANDS, PESpec
from hdl.arith.bits import choose, extend, lookup


class Core:
    """A core for operands of ``bits`` bits; ``width``: bits of a decoded one."""

    def __init__(self, bits: int):
        self.bits = bits
        self.width = bits

    def decode(self, w: Value) -> Value:
        """What travels down the column in place of the signed operand ``w``."""
        return w.as_unsigned()

    def terms(self, x: Value, w: Value) -> list[Value]:
        """Signed addends of the product of the activation ``x`` and the decoded weight ``w``."""
        raise NotImplementedError


class ShiftAdd(Core):
    """``w = -2^(n-1)*w[n-1] + ... + 2*w1 + w0``: gated, shifted copies of x, added in pairs of equal width."""

    def terms(self, x: Value, w: Value) -> list[Value]:
        wide = len(x) + 2
        x = extend(x, wide)
        gated = [x & bit.replicate(wide) for bit in w]
        terms = []
        for at in range(0, self.bits, 2):
            pair = gated[at]
            if at + 2 == self.bits:  # the sign bit's share is taken off
                pair = (pair - (gated[at + 1] << 1))[:wide]
            elif at + 1 == self.bits:
                pair = (-pair)[:wide]
            else:
                pair = (pair + (gated[at + 1] << 1))[:wide]
            terms.append(Cat(C(0, at), pair).as_signed())
        return terms


class Booth(Core):
    """``w = d0 + 4*d1 + ...`` with ``d[i] = w[2i-1] + w[2i] - 2*w[2i+1]``; each digit as (negative, one, two)."""

    def __init__(self, bits: int):
        super().__init__(bits)
        self.digits = (bits + 1) // 2
        self.width = 3 * self.digits

    def decode(self, w: Value) -> Value:
        bits = Cat(C(0, 1), extend(w, 2 * self.digits))  # below the lowest bit stands a zero
        digits = []
        for i in range(self.digits):
            below, low, high = bits[2 * i : 2 * i + 3]
            two = (high & ~low & ~below) | (~high & low & below)
            digits.append(Cat(high & ~(low & below), low ^ below, two))
        return Cat(digits)

    def terms(self, x: Value, w: Value) -> list[Value]:
        wide = len(x) + 1
        terms = []
        carry = C(0, 0)
        for i in range(self.digits):
            negative, one, two = w[3 * i : 3 * i + 3]
            multiple = (extend(x, wide) & one.replicate(wide)) | (Cat(C(0, 1), x) & two.replicate(wide))
            # -t = ~t + 1, and the 1 takes the free place below the next digit's term
            flipped = multiple ^ negative.replicate(wide)
            terms.append(Cat(C(0, max(0, 2 * i - 2)), carry, flipped).as_signed())
            carry = Cat(negative, C(0, 1))
        return [*terms, Cat(C(0, 2 * self.digits - 2), carry).as_signed()]


class TwoTerm(Core):
    """``w = a + b``, a out of 0, +-2, +-4, +-8 and b out of 0, +-1, +-2, +-4; each as (negative, which of the four)."""

    def __init__(self, bits: int):
        super().__init__(bits)
        self.width = 6

    @staticmethod
    def split(w: int) -> tuple[int, int]:
        """a and b, or 0 and 0 where there are none."""
        pairs = [(a, b) for b in (0, 1, 2, 4, -1, -2, -4) for a in (0, 2, 4, 8, -2, -4, -8) if a + b == w]
        return pairs[0] if pairs and w in TWO_TERM_OPERANDS else (0, 0)

    def decode(self, w: Value) -> Value:
        def coded(value: int, powers: tuple[int, ...]) -> int:
            return (value < 0) | powers.index(abs(value)) << 1

        def both(code: int) -> int:
            a, b = self.split(code - (code >> (self.bits - 1) << self.bits))
            return coded(b, (0, 1, 2, 4)) | coded(a, (0, 2, 4, 8)) << 3

        return lookup((both(code) for code in range(1 << self.bits)), self.width, w.as_unsigned())

    def terms(self, x: Value, w: Value) -> list[Value]:
        def flipped(code: Value, lowest: int) -> Value:
            wide = len(x) + lowest + 2
            multiples = [C(0, wide), *(extend(Cat(C(0, lowest + i), x).as_signed(), wide) for i in range(3))]
            return choose(Cat(multiples), wide, code[1:]) ^ code[0].replicate(wide)

        # -b = ~b + 1, and the 1 takes the place of a's lowest bit; that bit and its own 1 make a carry into the next
        b, a = flipped(w[:3], 0), flipped(w[3:], 1)
        return [b.as_signed(), Cat(w[0], a[1:]).as_signed(), Cat(C(0, 1), w[3], C(0, 1)).as_signed()]


class Composed(Core):
    """``w = low + 16*high``, two cores of four bits: ``low = w[3:0]`` signed, ``high = w[7:4] + w[3]`` from -8 to 8."""

    def __init__(self, bits: int):
        super().__init__(bits)
        self.low, self.high = TwoTerm(4), TwoTerm(bits - 3)
        self.width = self.low.width + self.high.width

    @staticmethod
    def halves(w: Value) -> tuple[Value, Value]:
        """low and high, signed."""
        return w[:4].as_signed(), (w[4:].as_signed() + w[3])[: len(w) - 3].as_signed()

    def decode(self, w: Value) -> Value:
        low, high = self.halves(w)
        return Cat(self.low.decode(low), self.high.decode(high))

    def terms(self, x: Value, w: Value) -> list[Value]:
        upper = self.high.terms(x, w[self.low.width :])
        return [*self.low.terms(x, w[: self.low.width]), *(Cat(C(0, 4), t).as_signed() for t in upper)]


class Multiply(Core):
    """The operator ``*``: the baseline that synthesis is free to build as it likes."""

    def terms(self, x: Value, w: Value) -> list[Value]:
        return [x * w.as_signed()]


class Packed(Multiply):
    """Two products of one multiplier, ``(w1*2^shift + w0) * x``, where ``w0*x`` has ``shift`` bits.

    A negative ``w0*x`` borrows from the upper product, which is therefore one short: the borrow is its own carry in.
    """

    def pack(self, shift: int, w0: Value, w1: Value) -> Value:
        """Both decoded weights in one signed operand."""
        upper = (w1.as_signed() - w0[-1])[: self.bits + 1]
        return Cat(extend(w0, shift), upper).as_signed()

    @staticmethod
    def split(shift: int, word: Value) -> tuple[Value, Value, Value]:
        """``w0*x``, and ``w1*x`` less the borrow, which comes third."""
        return word[:shift].as_signed(), word[shift : 2 * shift].as_signed(), word[shift - 1]


CORES: dict[str, type[Core]] = {
    "shift_add": ShiftAdd,
    "booth": Booth,
    "two_term": TwoTerm,
    "composed": Composed,
    "multiply": Multiply,
    "packed": Packed,
}


def product_core(spec: PESpec) -> Core:
    """The core of ``spec``, for the operands of its weight format."""
    return CORES[spec.core](spec.weight_format.operand_bits)
