"""MiLo (arXiv 2504.02658): what quantisation took away, in part given back by a product of two narrow matrices.

A side path in FP16, ``y += (x V) U``. Golden model only: no unit of this project computes it.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from golden.moe.quantizers import F16, Real
from golden.spec import SpecError


class Coded(Protocol):
    """A matrix ``[K, N]`` as it is stored: quantised, compensated."""

    def values(self) -> NDArray[np.float64]: ...

    @property
    def bytes(self) -> int: ...


class Compensated(NamedTuple):
    """A quantised matrix ``[K, N]`` and its side path."""

    base: Coded
    v: F16
    """``[K, rank]``"""
    u: F16
    """``[rank, N]``"""

    def values(self) -> NDArray[np.float64]:
        """``[K, N]``: base and side path, float64."""
        total: NDArray[np.float64] = self.base.values() + self.v.astype(np.float64) @ self.u.astype(np.float64)
        return total

    @property
    def bytes(self) -> int:
        """Base and side path."""
        return self.base.bytes + self.v.nbytes + self.u.nbytes


def compensated(w: Real, base: Coded, rank: int) -> Compensated:
    """The side path of that rank which is nearest to ``w - base`` (singular value decomposition; Eckart and Young),
    each factor with the root of the singular values, rounded to FP16. Rank 0: none.

    MiLo quantises and decomposes in turn, several times; here each happens once. Raises
    :class:`~golden.spec.SpecError` for a rank beyond the smaller side of the matrix.
    """
    if not 0 <= rank <= min(w.shape):
        raise SpecError(f"rank must be an integer between 0 and {min(w.shape)}, not {rank}")
    left, singular, right = np.linalg.svd(w.astype(np.float64) - base.values(), full_matrices=False)
    root = np.sqrt(singular[:rank])
    return Compensated(
        base, (left[:, :rank] * root).astype(np.float16), (root[:, None] * right[:rank]).astype(np.float16)
    )
