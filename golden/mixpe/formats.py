"""Operand formats of MixPE: what a code means, and the integer operand that the processing element sees.

Every format, floating-point ones included, is an integer times a power of two that is the same for all codes of the
format: ``value = operand * 2**exponent``. So products and sums are integers, exact in any order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.formats import FLOATS, Int, NumberFormat

E2M1 = (0, 1, 2, 3, 4, 6, 8, 12)
"""Twice the magnitudes of the eight E2M1 codes."""


@dataclass(frozen=True)
class WeightFormat:
    """A weight code ``q`` of ``bits`` bits with values ``low..high``.

    The processing element multiplies the signed operand ``q - offset``, or for E2M1 what ``magnitudes`` says of the low
    bits, with the top bit as sign; an operand of 1 is worth ``2**exponent``. ``correction`` says what else the format
    adds per group and column: nothing, an integer zero point ``z`` (``w = s*(q - z)``), or a float minimum ``m``
    (``w = s*q + m``).
    """

    name: str
    bits: int
    low: int
    high: int
    offset: int = 0
    correction: str = "none"
    magnitudes: tuple[int, ...] = ()
    exponent: int = 0

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def code_format(self) -> str:
        return self.name if self.magnitudes else f"{'int' if self.signed else 'uint'}{self.bits}"

    @property
    def operands(self) -> tuple[int, int]:
        """Smallest and largest operand of the processing element."""
        if self.magnitudes:
            return -max(self.magnitudes), max(self.magnitudes)
        return self.low - self.offset, self.high - self.offset

    @property
    def operand_bits(self) -> int:
        return signed_bits(*self.operands)

    def operand(self, codes: Any) -> Int:
        """The operands of an array of codes."""
        codes = np.asarray(codes, dtype=np.int64)
        if not self.magnitudes:
            return codes - self.offset
        table = np.array([*self.magnitudes, *(-v for v in self.magnitudes)], dtype=np.int64)
        return table[codes]


def _signed(bits: int) -> WeightFormat:
    return WeightFormat(f"int{bits}", bits, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _unsigned(bits: int, correction: str) -> WeightFormat:
    # q less half the range is the code with its top bit flipped: unsigned codes run on the signed cores as they are.
    return WeightFormat(f"uint{bits}_{correction}", bits, 0, (1 << bits) - 1, 1 << (bits - 1), correction)


WEIGHTS = {
    f.name: f
    for f in (
        *(_signed(bits) for bits in (2, 3, 4, 8)),
        WeightFormat("int4_sym", 4, -7, 7),
        *(_unsigned(bits, "zero") for bits in (2, 3, 4, 8)),
        _unsigned(4, "min"),
        WeightFormat("int8_min", 8, -128, 127, correction="min"),
        WeightFormat("e2m1", 4, 0, 15, magnitudes=E2M1, exponent=-1),
    )
}


@dataclass(frozen=True)
class ActFormat:
    """An activation code of ``bits`` bits: a two's complement integer, or a float of ``exponent_bits``.

    A float is ``significand * 2**shift * 2**exponent``, with the hidden bit in the significand and a shift of
    ``max(field, 1) - 1``. NaN, and infinities where the format has them (``infinities``; otherwise only the code with
    all bits set is NaN), are *special*: their significand is 0 for NaN and +-1 for an infinity, their shift 0.
    """

    name: str
    bits: int
    exponent_bits: int = 0
    infinities: bool = True

    @property
    def floating(self) -> bool:
        return self.exponent_bits > 0

    @property
    def fraction_bits(self) -> int:
        return self.bits - 1 - self.exponent_bits

    @property
    def significand_bits(self) -> int:
        """Bits of the signed significand; of an integer, all."""
        return self.fraction_bits + 2 if self.floating else self.bits

    @property
    def max_shift(self) -> int:
        return (1 << self.exponent_bits) - (3 if self.infinities else 2) if self.floating else 0

    @property
    def exponent(self) -> int:
        """An operand of 1 is worth two to this."""
        return 2 - (1 << (self.exponent_bits - 1)) - self.fraction_bits if self.floating else 0

    @property
    def significands(self) -> tuple[int, int]:
        if self.floating:
            return -(1 << (self.fraction_bits + 1)) + 1, (1 << (self.fraction_bits + 1)) - 1
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    @property
    def low(self) -> int:
        """Smallest operand."""
        return -self.high if self.floating else self.significands[0]

    @property
    def high(self) -> int:
        """Largest operand. (The code that is NaN in formats without infinities is counted as a number.)"""
        return self.significands[1] << self.max_shift

    @property
    def codes(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return (0, (1 << self.bits) - 1) if self.floating else (self.low, self.high)

    def special(self, codes: Any) -> NDArray[np.bool_]:
        """Which codes are NaN or infinite."""
        codes = np.asarray(codes, dtype=np.int64)
        if not self.floating:
            return np.zeros(codes.shape, np.bool_)
        magnitude = codes & ((1 << (self.bits - 1)) - 1)
        if not self.infinities:
            return magnitude == (1 << (self.bits - 1)) - 1
        return (magnitude >> self.fraction_bits) == (1 << self.exponent_bits) - 1

    def parts(self, codes: Any) -> tuple[Int, Int]:
        """Significand and shift of an array of codes: the operand is ``significand << shift``."""
        codes = np.asarray(codes, dtype=np.int64)
        if not self.floating:
            return codes, np.zeros_like(codes)
        fraction = codes & ((1 << self.fraction_bits) - 1)
        field = (codes >> self.fraction_bits) & ((1 << self.exponent_bits) - 1)
        hidden = (field > 0).astype(np.int64) << self.fraction_bits
        special = self.special(codes)
        magnitude = np.where(special, (fraction == 0) & self.infinities, fraction | hidden)
        shift = np.where(special, 0, np.maximum(field - 1, 0))
        return np.where(codes >> (self.bits - 1), -magnitude, magnitude), shift

    def operand(self, codes: Any) -> Int:
        """The operands of an array of codes; of special ones 0 (NaN) or +-1 (infinities)."""
        significand, shift = self.parts(codes)
        return significand << shift


ACTS = {
    f.name: f
    for f in (
        ActFormat("int4", 4),
        ActFormat("int8", 8),
        ActFormat("int16", 16),
        ActFormat("fp16", 16, 5),
        ActFormat("e4m3", 8, 4, infinities=False),
        ActFormat("e5m2", 8, 5),
    )
}


class AlignedFormat(ActFormat):
    """A significand of ``bits - 1`` bits, aligned to the largest exponent of its group, and above it a bit that says
    that it is special: NaN where the significand is 0, else an infinity of its sign."""

    @property
    def floating(self) -> bool:
        return True

    @property
    def significand_bits(self) -> int:
        return self.bits - 1

    @property
    def max_shift(self) -> int:
        return 0

    @property
    def exponent(self) -> int:
        """That of the group comes on top."""
        return 0

    @property
    def significands(self) -> tuple[int, int]:
        return -(1 << (self.bits - 2)), (1 << (self.bits - 2)) - 1

    @property
    def low(self) -> int:
        return self.significands[0]

    def special(self, codes: Any) -> NDArray[np.bool_]:
        return np.asarray(codes, dtype=np.int64) >> (self.bits - 1) == 1

    def parts(self, codes: Any) -> tuple[Int, Int]:
        significand = np.asarray(codes, dtype=np.int64) & ((1 << self.significand_bits) - 1)
        significand -= (significand >> (self.significand_bits - 1)) << self.significand_bits
        return significand, np.zeros_like(significand)


ALIGNED = {bits: AlignedFormat(f"aligned{bits}", bits + 1) for bits in (8, 12, 16, 20, 24)}
"""Block-aligned activations by the bits of their significand."""

SOURCES = {"fp16_aligned": ACTS["fp16"], "bf16_aligned": ActFormat("bf16", 16, 8)}
"""What is aligned."""


def align(codes: Any, source: ActFormat, bits: int, starts: Any) -> tuple[Int, Int]:
    """Significands of ``bits`` bits ``[M, K]`` and exponents ``[M, groups]``; groups begin at the columns ``starts``.

    ``E`` is the largest ``max(field, 1)`` of the finite numbers of a row's group. A significand with F fraction bits
    becomes ``round(significand * 2^(bits - 2 - F - (E - max(field, 1))))``, to nearest even, at most
    ``2^(bits - 1) - 1`` either way; special numbers stay 0 and +-1. The exponent is E - 1, and a one is worth
    ``2^(E - bias - bits + 2)``.
    """
    significand, shift = source.parts(codes)
    exponent = np.maximum.reduceat(shift, starts, axis=1)
    group_of = np.searchsorted(starts, np.arange(codes.shape[1]), side="right") - 1
    down = (exponent[:, group_of] - shift).astype(np.int32)
    # the quotient is of at most 24 bits and exact in float64 (a smaller one than half a step is zero anyway)
    near = np.rint(np.ldexp(significand.astype(np.float64), bits - 2 - source.fraction_bits - down)).astype(np.int64)
    most = (1 << (bits - 1)) - 1
    return np.where(source.special(codes), significand, near.clip(-most, most)), exponent


ACT_FLOATS = {
    f.name: FLOATS.get(f.name) or NumberFormat(f.name, f.bits, f.exponent_bits)
    for f in (*ACTS.values(), *SOURCES.values())
    if f.floating
}
"""Floating-point activation formats, for their conversions."""

EXPONENTS = (-16, 15)
"""Range of the exponent of a power-of-two activation scale."""


def signed_bits(low: int, high: int) -> int:
    """Bits of the smallest two's complement word that holds ``low..high``."""
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0)


def sum_range(a: tuple[int, int], b: tuple[int, int], terms: int) -> tuple[int, int]:
    """Smallest and largest sum of ``terms`` products of one operand of ``a`` and one of ``b``."""
    corners = [x * y for x in a for y in b]
    return terms * min(0, *corners), terms * max(0, *corners)
