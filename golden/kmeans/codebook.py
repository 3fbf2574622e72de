"""Codebooks: the integers that indices stand for, and the boundaries between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

Int = NDArray[np.int64]

LOW, HIGH = -128, 127
"""Range of a centroid: INT8."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """``2**bits`` centroids, INT8, ascending; equal ones are allowed.

    ``SpecError`` where there are not 2 to 256 of them, a power of two, or one is out of range or order.
    """

    centroids: Int

    def __post_init__(self) -> None:
        c = self.centroids
        if c.ndim != 1 or not 2 <= len(c) <= 256 or len(c) & (len(c) - 1):
            raise SpecError(f"codebook must hold 2, 4, 8, ... 256 centroids, not an array of shape {c.shape}")
        if not np.issubdtype(c.dtype, np.integer) or c.min() < LOW or c.max() > HIGH:
            raise SpecError(f"centroids must be integers between {LOW} and {HIGH}, not {c.min()} to {c.max()}")
        if np.any(np.diff(c) < 0):
            raise SpecError(f"centroids must be in ascending order, not {c.tolist()}")

    @property
    def bits(self) -> int:
        """Of an index."""
        return len(self.centroids).bit_length() - 1

    @property
    def boundaries(self) -> Int:
        """Twice the middle between neighbours, ``[2**bits - 1]``: an integer. A value on a boundary goes up."""
        return self.centroids[:-1] + self.centroids[1:]

    def index(self, doubled: Int) -> Int:
        """Indices of values, given as ``floor(2 * value)``: the number of boundaries that are not above it."""
        return np.searchsorted(self.boundaries, doubled, side="right")
