"""Number formats that units share: what a code means, and where values are rounded."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True)
class NumberFormat:
    """Floating-point numbers, and unsigned bytes as the float that they are.

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
        NumberFormat("fp16", 16, 5, np.float16),
        NumberFormat("bf16", 16, 8),
        NumberFormat("fp32", 32, 8),
        NumberFormat("e4m3", 8, 4, infinities=False),
        NumberFormat("e8m0", 8, 8, infinities=False, signed=False),
        NumberFormat("uint8", 8, 1, np.uint8, infinities=False, signed=False, nan=False, bias_offset=-6),
    )
}
"""The formats that scales of weights may have; the signed ones are those of minima too."""

E2M1_FORMAT = NumberFormat("e2m1", 4, 2, infinities=False, nan=False)


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


OUTPUTS: dict[str, NumberFormat | IntegerOutput] = {
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
