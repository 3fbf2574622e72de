"""Operand formats of MixPE: what a code means, and the integer operand that the processing element sees.

Every format, floating-point ones included, is an integer times a power of two that is the same for all codes of the
format: ``value = operand * 2**exponent``. So products and sums are integers, exact in any order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

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


@dataclass(frozen=True)
class ScaleFormat:
    """A format of weight scales and minima, of floating-point outputs too.

    ``(-1)^sign * significand * 2^(max(field, 1) - bias - fraction bits)``, with the hidden bit in the significand.
    Without fraction bits it is a power of two: no sign, no subnormals, all bits set is NaN (E8M0). Unsigned bytes are
    the float of one exponent bit whose binades have the same step (``bias_offset`` makes it 1).

    ``dtype``: of arrays of values; float32 where NumPy does not have the format. ``infinities``: the largest exponent
    is for infinities and NaN; without them ``nan`` says whether the largest code is NaN. ``exact``: small enough for
    exact sums over groups.
    """

    name: str
    bits: int
    exponent_bits: int
    dtype: type[np.number[Any]] = np.float32
    infinities: bool = True
    signed: bool = True
    nan: bool = True
    bias_offset: int = 0

    @property
    def fraction_bits(self) -> int:
        return self.bits - self.exponent_bits - self.signed

    @property
    def power_of_two(self) -> bool:
        return not self.fraction_bits

    @property
    def integer(self) -> bool:
        """Whether values are codes: no rounding, nothing special."""
        return self.dtype is np.uint8

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1 + self.bias_offset

    @property
    def exact(self) -> bool:
        return self.exponent_bits <= 5

    @property
    def max_shift(self) -> int:
        """Largest shift of a significand on the grid of the format's smallest number."""
        return (1 << self.exponent_bits) - (3 if self.infinities else 2)

    @property
    def least_exponent(self) -> int:
        """The grid of the format's smallest number: two to this."""
        return 1 - self.bias - self.fraction_bits

    @property
    def largest(self) -> float:
        """Largest finite value."""
        last_is_nan = self.nan and not self.infinities and not self.power_of_two
        steps = (1 << (self.fraction_bits + 1)) - (2 if last_is_nan else 1)
        top = (1 << self.exponent_bits) - (2 if self.infinities or self.power_of_two else 1)
        return float(steps) * 2.0 ** (top - self.bias - self.fraction_bits)

    def code(self, values: NDArray[np.number[Any]]) -> Int:
        """Bit patterns of values of this format."""
        if self.integer:
            return values.astype(np.int64)
        if self.name in ("fp16", "fp32"):
            return values.astype(self.dtype).view(f"u{self.bits // 8}").astype(np.int64)
        bits = values.astype(np.float32).view(np.uint32).astype(np.int64)
        if self.name == "bf16":
            return bits >> 16
        nan = np.isnan(values)
        if self.power_of_two:
            subnormal = (bits & 0x7FFFFFFF) == 1 << 22
            return np.where(nan, 255, np.where(subnormal, 0, bits >> 23 & 255))
        magnitude = np.abs(np.where(nan, 0, values)).astype(np.float64)
        least = 1 - self.bias
        exponent = np.where(magnitude == 0, least, np.maximum(np.frexp(magnitude)[1] - 1, least))
        steps = np.rint(np.ldexp(magnitude, self.fraction_bits - exponent)).astype(np.int64)
        code = steps + ((exponent + self.bias - 1) << self.fraction_bits)
        return np.where(nan, 127, code) | np.signbit(values).astype(np.int64) << (self.bits - 1)

    def parts(self, codes: Any) -> tuple[Int, Int]:
        """Signed significand and shift on the grid ``2**least_exponent`` of finite codes."""
        codes = np.asarray(codes, dtype=np.int64)
        if self.power_of_two:
            return np.ones_like(codes), codes - 1
        fraction = codes & ((1 << self.fraction_bits) - 1)
        field = (codes >> self.fraction_bits) & ((1 << self.exponent_bits) - 1)
        magnitude = fraction | (field > 0).astype(np.int64) << self.fraction_bits
        negative = self.signed & codes >> (self.bits - 1) == 1
        return np.where(negative, -magnitude, magnitude), np.maximum(field - 1, 0)

    def value(self, codes: Any) -> NDArray[np.number[Any]]:
        """Inverse of :meth:`code`; float32, bytes for bytes."""
        codes = np.asarray(codes, dtype=np.int64)
        if self.integer:
            return codes.astype(self.dtype)
        if self.name == "fp32":
            return codes.astype(np.uint32).view(np.float32)
        if self.name == "bf16":
            return (codes << 16).astype(np.uint32).view(np.float32)
        if self.name == "fp16":
            return codes.astype(np.uint16).view(np.float16).astype(np.float32)
        significand, shift = self.parts(codes)
        finite = np.ldexp(significand.astype(np.float64), (shift + self.least_exponent).astype(np.int32))
        if self.signed:
            finite = np.copysign(finite, np.where(codes >> (self.bits - 1), -1, 1))
        top = (1 << (self.bits - self.signed)) - 1
        return np.where(self.nan & (codes & top == top), np.nan, finite).astype(np.float32)

    def rounded(self, values: NDArray[np.number[Any]]) -> NDArray[np.number[Any]]:
        """The nearest values of this format, ties to even; what is too large becomes infinite, or NaN without them, or
        the largest without that."""
        if self.name in ("fp16", "fp32"):
            with np.errstate(over="ignore"):
                return values.astype(self.dtype)
        x = values.astype(np.float64)
        least = -self.bias if self.power_of_two else 1 - self.bias
        step = np.ldexp(1.0, np.maximum(np.frexp(np.where(np.isfinite(x), x, 0))[1] - 1, least) - self.fraction_bits)
        with np.errstate(invalid="ignore"):
            near = np.rint(x / step) * step
            beyond = np.copysign(np.inf if self.infinities else np.nan if self.nan else self.largest, x)
            return np.where(np.abs(near) > self.largest, beyond, near).astype(self.dtype)


FLOATS = {
    f.name: f
    for f in (
        ScaleFormat("fp16", 16, 5, np.float16),
        ScaleFormat("bf16", 16, 8),
        ScaleFormat("fp32", 32, 8),
        ScaleFormat("e4m3", 8, 4, infinities=False),
        ScaleFormat("e8m0", 8, 8, infinities=False, signed=False),
        ScaleFormat("uint8", 8, 1, np.uint8, infinities=False, signed=False, nan=False, bias_offset=-6),
    )
}
"""Formats of weight scales; the signed ones are those of minima too."""

E2M1_FORMAT = ScaleFormat("e2m1", 4, 2, infinities=False, nan=False)


@dataclass(frozen=True)
class IntegerOutput:
    """Results as integers of ``bits`` bits: ``raw`` sums as they are, others rounded by ``rounding`` and clipped to
    ``low`` and its counterpart. NaN becomes 0.

    ``half_even``, ``half_away`` (from zero) and ``half_up`` (to plus infinity) say where ties go.
    """

    name: str
    bits: int
    raw: bool = False
    low: int = -128

    @property
    def dtype(self) -> type[np.signedinteger[Any]]:
        return {8: np.int8, 32: np.int32, 64: np.int64}[self.bits]  # type: ignore[return-value]

    def code(self, values: NDArray[np.integer[Any]]) -> Int:
        return values.astype(np.int64)

    def value(self, codes: Any) -> NDArray[np.integer[Any]]:
        return np.asarray(codes).astype(self.dtype)

    def rounded(self, values: NDArray[np.floating[Any]], rounding: str) -> NDArray[np.integer[Any]]:
        # float64 holds an FP32 number plus one half exactly wherever it is not clipped
        x = np.where(np.isnan(values), 0, values).astype(np.float64).clip(-1000, 1000)
        if rounding == "half_even":
            near = np.rint(x)
        elif rounding == "half_up":
            near = np.floor(x + 0.5)
        else:
            near = np.copysign(np.floor(np.abs(x) + 0.5), x)
        return near.clip(self.low, 127).astype(self.dtype)


OUTPUTS: dict[str, ScaleFormat | IntegerOutput] = {
    **{name: FLOATS[name] for name in ("fp32", "fp16", "bf16")},
    **{
        f.name: f
        for f in (
            IntegerOutput("int8", 8),
            IntegerOutput("int8_sym", 8, low=-127),
            IntegerOutput("int32", 32, raw=True),
            IntegerOutput("int64", 64, raw=True),
        )
    },
}
"""Formats of results."""

ROUNDINGS = ("half_even", "half_away", "half_up")

ACT_FLOATS = {
    f.name: FLOATS.get(f.name) or ScaleFormat(f.name, f.bits, f.exponent_bits)
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
