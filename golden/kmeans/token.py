"""A token's activations as indices: its power-of-two scale, the indices, and what outliers leave over. All exact.

Activations are FP16 codes; as integers ``X`` they count steps of ``2**GRID``. The scale comes from the mean of ``|x|``,
which no single outlier decides, without a division: ``e = floor(log2 sum |x|) - shift``, where ``shift`` belongs to the
layer (its length and its codebook) and is found offline. An activation is then ``2**e * (C[i] + residual)``.
"""

import numpy as np
from numpy.typing import NDArray

from golden.kmeans.codebook import Codebook

Int = NDArray[np.int64]

GRID = -24
"""The smallest FP16 number is 2 to this."""

EXPONENTS = (GRID, 11)
"""Range of a token's exponent: from where centroids count steps, to where the largest FP16 numbers are 32 of them."""

X_BITS = 42
"""Of ``X``, with its sign: codes of infinity and NaN count as the numbers that would follow 65504."""

RESIDUAL_BITS = 44
"""Of what a centroid leaves over, in steps: of ``X`` less a centroid at the largest exponent."""

VALUE_BITS = 10
"""Of ``floor(2 * value)``, which saturates: boundaries have nine bits."""


def steps(codes: Int) -> Int:
    """``X``: FP16 codes as integers."""
    field, fraction = codes >> 10 & 31, codes & 1023
    magnitude = (fraction | (field > 0) << np.int64(10)) << np.maximum(field - 1, 0)
    return np.where(codes >> 15 & 1, -magnitude, magnitude)


def exponents(codes: Int, shift: int) -> Int:
    """``e`` of every token, ``[M]`` from ``[M, K]``; a token of zeros has the smallest."""
    total = np.abs(steps(codes)).sum(axis=1)
    top = np.array([int(t).bit_length() - 1 for t in total], np.int64)
    return np.clip(top + GRID - shift, *EXPONENTS)


def doubled(codes: Int, e: Int) -> Int:
    """``floor(2 * x / 2**e)``, saturated to :data:`VALUE_BITS`; ``codes [M, K]``, ``e [M]``."""
    down = (e - GRID)[:, None]
    x = steps(codes)
    value = np.where(down > 0, x >> np.maximum(down - 1, 0), 2 * x)
    top = 1 << (VALUE_BITS - 1)
    return np.clip(value, -top, top - 1)


def indices(codes: Int, e: Int, book: Codebook) -> Int:
    """``[M, K]``."""
    return book.index(doubled(codes, e))


def residuals(codes: Int, e: Int, book: Codebook) -> Int:
    """``(x - 2**e * C[i]) / 2**GRID``, ``[M, K]``, of :data:`RESIDUAL_BITS`."""
    centroid = book.centroids[indices(codes, e, book)]
    return steps(codes) - (centroid << (e - GRID)[:, None])
