"""Product cores: three ways to multiply an activation by a four-bit signed operand, behind one interface.

A core is split where the array is: ``decode`` runs once per weight lane at the edge of the array, and what it returns
travels down the column in place of the code; ``terms`` runs in every processing element and returns signed addends
whose sum is the product, so that the element may put a register after the terms, after their sum, or nowhere.

    core        decoded bits   terms in the element
    shift_add   4              (w0*x + w1*x<<1) + (w2*x - w3*x<<1)<<2      (the paper's)
    booth       6              d0*x + d1*x<<2, digits d in {-2..2}         (radix-4 signed digits)
    multiply    4              w*x                                         (whatever synthesis makes of it)
"""

from amaranth.hdl import C, Cat, Value, signed

from hdl.arith.bits import extend


class Core:
    """``width``: bits of a decoded weight."""

    width: int

    @staticmethod
    def decode(w: Value) -> Value:
        """What travels down the column in place of the signed four-bit operand ``w``."""
        raise NotImplementedError

    @staticmethod
    def terms(x: Value, w: Value) -> list[Value]:
        """Signed addends of the product of the activation ``x`` and the decoded weight ``w``."""
        raise NotImplementedError


class ShiftAdd(Core):
    """``w = -8*w3 + 4*w2 + 2*w1 + w0``: four gated, shifted copies of x, added in pairs of equal width."""

    width = 4

    @staticmethod
    def decode(w: Value) -> Value:
        return w.as_unsigned()

    @staticmethod
    def terms(x: Value, w: Value) -> list[Value]:
        wide = len(x) + 2
        x = extend(x, wide)
        w0, w1, w2, w3 = (x & bit.replicate(wide) for bit in w)
        low, high = (w0 + (w1 << 1))[:wide], (w2 - (w3 << 1))[:wide]
        return [low.as_signed(), Cat(C(0, 2), high).as_signed()]


class Booth(Core):
    """``w = d0 + 4*d1`` with ``d0 = w0 - 2*w1`` and ``d1 = w1 + w2 - 2*w3``; each digit as (negative, one, two)."""

    width = 6

    @staticmethod
    def decode(w: Value) -> Value:
        w0, w1, w2, w3 = w
        d0 = Cat(w1, w0, w1 & ~w0)
        d1 = Cat(w3 & ~(w2 & w1), w1 ^ w2, (w3 & ~w2 & ~w1) | (~w3 & w2 & w1))
        return Cat(d0, d1)

    @staticmethod
    def terms(x: Value, w: Value) -> list[Value]:
        wide = len(x) + 1
        flipped = []
        for negative, one, two in (w[:3], w[3:]):
            multiple = (extend(x, wide) & one.replicate(wide)) | (Cat(C(0, 1), x) & two.replicate(wide))
            flipped.append(multiple ^ negative.replicate(wide))
        # -t = ~t + 1: the low digit's 1 takes a free place below the high digit, the high digit's is a carry in
        return [
            flipped[0].as_signed(),
            Cat(w[0], C(0, 1), flipped[1]).as_signed(),
            Cat(C(0, 2), w[3], C(0, 1)).as_signed(),
        ]


class Multiply(Core):
    """The operator ``*``: the baseline that synthesis is free to build as it likes."""

    width = 4

    @staticmethod
    def decode(w: Value) -> Value:
        return w.as_unsigned()

    @staticmethod
    def terms(x: Value, w: Value) -> list[Value]:
        return [x * w.as_signed()]


CORES: dict[str, type[Core]] = {"shift_add": ShiftAdd, "booth": Booth, "multiply": Multiply}


def operand(code: Value, offset: int) -> Value:
    """The signed four-bit operand of a code: ``code - 8`` is the code with its top bit flipped."""
    flipped = Cat(code[:-1], ~code[-1]) if offset else code
    return Value.cast(flipped).as_signed()


def product_shape(act_bits: int) -> signed:
    """Shape that holds every product exactly."""
    return signed(act_bits + 4)
