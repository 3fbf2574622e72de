"""What the GEMM engine is asked to do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Gemm:
    """A job of ``mixpe``: ``y[M, N]`` from activations ``x[M, K]`` and weight codes ``w[K, N]``.

    x        int, ``[M, K]``: activation codes (bit patterns of floats).
    w        int, ``[K, N]``: weight codes.
    scale    ``[groups, N]``: weight scales, float16 for fp16, uint8 for uint8, float32 for all other formats.
    extra    zero points (int) or minima (as ``scale``), ``[groups, N]``; ``None`` where the weight format has none.
    x_scale  float32 ``[M]`` per token, or int ``[M, groups]``: exponents of powers of two per token and group; ``None``
             where activations have no scale.
    channel  float32 ``[N]``: scales of the output channels; ``None`` where there are none.
    """

    x: NDArray[np.integer[Any]]
    w: NDArray[np.integer[Any]]
    scale: NDArray[np.number[Any]]
    x_scale: Any = None
    extra: NDArray[Any] | None = None
    channel: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, K, N."""
        return (*self.x.shape, self.w.shape[1])
