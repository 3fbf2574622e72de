"""SiLU and SwiGLU: the specification of their arithmetic and the bit-true model."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.formats import FLOATS
from golden.numerics import F32, canonical
from golden.spec import Spec, SpecError, param

Int = NDArray[np.int64]

FORMATS = ("fp16", "fp32")
"""What SwiGLU may give."""

_CURVATURE = 1 / (6 * 3**0.5)
"""Largest second derivative of the sigmoid, at ``ln(2 + sqrt(3))``."""


class SiluSpec(Spec):
    """``silu(z) = z * sigmoid(z)`` of FP32 numbers; the sigmoid from a table of straight lines.

    Formula     ``|z|`` is cut off (towards zero) to ``bits`` fractional bits; its integer bits and the next
                ``segments`` bits choose a line, the others are the place on it. The lines connect the rounded values of
                the sigmoid, so there is no step between them. The sigmoid is rounded to ``bits`` fractional bits, half
                up; it is 1 from ``2^reach`` on, and ``1 - sigmoid(-z)`` for negative z. The product with z is rounded
                once, to nearest even, subnormals included.
    Latency     ``latency`` cycles; of ``swiglu`` :meth:`swiglu_latency`.
    Accuracy    the sigmoid is off by at most ``max_error``; so silu by at most ``min(|z|, 2^reach) * max_error`` and
                its own rounding. Relative to silu that is at most ``max_error / sigmoid(z)``, and about twice
                ``max_error`` near zero, where the sigmoid is 1/2.
    Specials    NaN gives 0x7FC00000, +infinity itself, -infinity -0, as all from ``-2^reach`` down; +0 and -0 stay.
    """

    reach: int = param(4, "log2 of the |z| from which the sigmoid is 0 or 1", low=1, high=5)
    segments: int = param(5, "log2 of the lines per unit of |z|", low=1, high=8)
    bits: int = param(20, "fractional bits of the sigmoid", low=8, high=23)
    saturate: bool = param(True, "SwiGLU: what is beyond FP16 becomes its largest number, not an infinity")

    def _check(self) -> None:
        if self.segments > self.bits - 2:
            raise SpecError(f"segments must be at most bits - 2 = {self.bits - 2}, not {self.segments}")

    @property
    def place_bits(self) -> int:
        """Bits of the place on a line."""
        return self.bits - self.segments

    @cached_property
    def table(self) -> tuple[Int, Int]:
        """Value at the beginning of each line and rise to its end, in units of ``2^-bits``."""
        ends = np.arange((1 << (self.reach + self.segments)) + 1) / (1 << self.segments)
        values = np.rint(np.ldexp(1 / (1 + np.exp(-ends)), self.bits)).astype(np.int64)
        return values[:-1], np.diff(values)

    @property
    def rise_bits(self) -> int:
        """Bits of the steepest line's rise."""
        return int(self.table[1].max()).bit_length()

    @property
    def max_error(self) -> float:
        """Largest distance of the sigmoid from the true one: of a chord, of its ends' and the result's rounding and of
        what is cut off of z; or, where z is out of reach, of 1."""
        chord = 4.0**-self.segments / 8 * _CURVATURE
        return max(chord + 1.25 * 2.0**-self.bits, float(1 / (1 + np.exp(2.0**self.reach))))

    @property
    def latency(self) -> int:
        """Fixed point, table, product, sum, product with z; rounding."""
        return 5 + latency.ROUND

    def swiglu_latency(self, fmt: str) -> int:
        """``SpecError`` for a format that SwiGLU does not give."""
        _given(fmt)
        return self.latency + latency.MULTIPLY + (latency.CONVERT if fmt == "fp16" else 0)

    def sigmoid(self, z: F32) -> Int:
        """In units of ``2^-bits``; of NaN anything."""
        magnitude = np.minimum(np.abs(np.where(np.isnan(z), 0, z)).astype(np.float64), 2.0**self.reach)
        fixed = np.floor(np.ldexp(magnitude, self.bits)).astype(np.int64)
        one = np.int64(1) << np.int64(self.bits)
        base, rise = self.table
        line = np.minimum(fixed >> self.place_bits, len(base) - 1)
        place = fixed & ((1 << self.place_bits) - 1)
        half = 1 << (self.place_bits - 1)
        value = base[line] + (rise[line] * place + half >> self.place_bits)
        value = np.where(magnitude == 2.0**self.reach, one, value)
        return np.where(np.signbit(z), one - value, value)

    @np.errstate(all="ignore")
    def compute(self, z: NDArray[np.float32]) -> F32:
        """What the RTL must equal, bit for bit."""
        product = z.astype(np.float64) * np.ldexp(self.sigmoid(z).astype(np.float64), -self.bits)  # exact: 45 bits
        return canonical(np.where(np.isneginf(z), np.float32(-0.0), product.astype(np.float32)))


def _given(fmt: str) -> None:
    if fmt not in FORMATS:
        raise SpecError(f"fmt must be one of {', '.join(FORMATS)}, not {fmt!r}")


@np.errstate(all="ignore")
def swiglu(g: NDArray[np.float32], u: NDArray[np.float32], spec: SiluSpec, fmt: str = "fp16") -> NDArray[Any]:
    """``silu(g) * u``, one rounding per operation, then rounded to ``fmt``; float16 or float32.

    With ``saturate``, FP16 results beyond the largest finite number, infinities among them, become that; NaN stays.
    """
    _given(fmt)
    h = canonical(spec.compute(g) * u)
    if fmt == "fp32":
        return h
    most = np.float16(FLOATS[fmt].largest)
    narrow = h.astype(np.float16)
    return np.clip(narrow, -most, most) if spec.saturate else narrow
