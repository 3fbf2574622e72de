"""Q8_0: the 8-bit weight format of GGUF files, symmetric integers with a scale per group of 32.

A block of 34 bytes holds 32 weights that are neighbours along the *input* dimension::

    byte  0..1    2 ... 33
          d fp16  codes, int8

    w = d * q;   little-endian

A matrix has one row per output; row ``n`` is ``cols / 32`` blocks in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

GROUP = 32
"""Weights of one block."""

BYTES = 34
"""Bytes of one block."""


class Matrix(NamedTuple):
    """A matrix of ``rows`` outputs and ``cols`` inputs, ``w[r, c] = d[r, c // 32] * codes[r, c]``."""

    codes: NDArray[np.int8]
    d: NDArray[np.float16]


def unpack(raw: NDArray[np.uint8], rows: int, cols: int) -> Matrix:
    """Matrix from its stored bytes (``uint8`` of any shape). Exact: nothing is rounded.

    Raises :class:`~golden.spec.SpecError` when ``cols`` is not a multiple of 32 or the number of bytes does not fit.
    """
    if cols % GROUP:
        raise SpecError(f"Q8_0 columns must be a multiple of {GROUP}, not {cols}")
    want = rows * cols // GROUP * BYTES
    if raw.size != want:
        raise SpecError(f"Q8_0 data of {rows} x {cols} weights must be {want} bytes, not {raw.size}")
    blocks = raw.reshape(rows, cols // GROUP, BYTES)
    d = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float16, copy=False)
    codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
    return Matrix(codes.reshape(rows, cols), d[..., 0])
