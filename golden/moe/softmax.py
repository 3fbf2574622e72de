"""Softmax in fixed point, bit-true: exponentials from a table, an exact sum, restoring division.

::

    d_j = fp32(max - v_j)                      D = floor(d * 2**24), at most 2**29 - 1
    e_j = 2**-(D * log2 e)                     T = D * LOG2E >> 24: whole part n, fraction f of 24 bits
                                               e = (table + interpolation of f, 26 bits, then 6 zeros) >> n
    p_j = fp32(floor(e_j * 2**28 / sum e))     the quotient bit by bit; one rounding

Error of a probability against float64, of up to 64 finite scores: below :data:`ERROR` (measured by the tests).
"""

import numpy as np
from numpy.typing import NDArray

from golden.moe.fp32 import FP32

Int = NDArray[np.int64]

FRACTION = 24
"""Bits below the point of a difference and of its logarithm to base 2."""

WHOLE = 5
"""Bits above it: a score that is smaller than the maximum by 32 or more counts as 0."""

LOG2E = round(np.log2(np.e) * (1 << FRACTION))

SEGMENTS = 9
"""The table has two to this many segments per octave."""

VALUE = 26
"""Fraction bits of a table entry."""

GUARD = 6
"""More fraction bits of an exponential, so that small ones count in the sum."""

QUOTIENT = 28
"""Fraction bits of a quotient."""

ERROR = 1.5e-7

TABLE = np.rint(2.0 ** (VALUE - np.arange((1 << SEGMENTS) + 1) / (1 << SEGMENTS))).astype(np.int64)

EXPONENTIAL = VALUE + GUARD + 1
"""Bits of an exponential; 1.0 is the largest."""


def sum_bits(terms: int) -> int:
    """Of a sum of so many exponentials."""
    return (terms << (EXPONENTIAL - 1)).bit_length()


def exponentials(difference: NDArray[np.float32]) -> Int:
    """``exp(-difference)`` with ``VALUE + GUARD`` fraction bits; of what is not finite 0."""
    limit = (1 << (FRACTION + WHOLE)) - 1
    near = np.nan_to_num(difference.astype(np.float64), nan=np.inf, posinf=np.inf, neginf=np.inf)
    steps = np.minimum(np.floor(np.minimum(np.abs(near), 64.0) * (1 << FRACTION)).astype(np.int64), limit)
    power = steps * LOG2E >> FRACTION
    fraction = power & ((1 << FRACTION) - 1)
    rest = FRACTION - SEGMENTS
    segment = fraction >> rest
    below = (TABLE[segment] - TABLE[segment + 1]) * (fraction & ((1 << rest) - 1)) >> rest
    return (TABLE[segment] - below << GUARD) >> (power >> FRACTION)


def quotient(e: Int, total: int) -> Int:
    """``floor(e * 2**QUOTIENT / total)``, what restoring division gives: of a total of 0 all ones."""
    return (e << QUOTIENT) // total if total else np.full_like(e, (2 << QUOTIENT) - 1)


def softmax(codes: Int) -> Int:
    """Probabilities of scores, both as FP32 bit patterns. The maximum is that of the sorting order, NaN on top."""
    values = FP32.value(codes)
    top = codes[np.argmax(order(codes))]
    with np.errstate(invalid="ignore", over="ignore"):
        e = exponentials((FP32.value(top) - values).astype(np.float32))
    return FP32.code(np.ldexp(quotient(e, int(e.sum())).astype(np.float32), -QUOTIENT).astype(np.float32))


def order(codes: Int) -> Int:
    """FP32 as sortable integers: -0 below +0, NaN beyond the infinities."""
    top = 1 << 31
    return np.where(codes & top, ~codes & (2 * top - 1), codes | top)
