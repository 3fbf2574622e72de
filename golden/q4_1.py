"""Q4_1: the 4-bit weight format of GGUF files, an affine integer format with a float minimum per group of 32.

A block of 20 bytes holds 32 weights that are neighbours along the *input* dimension::

    byte  0..1    2..3    4 ... 19
          d fp16  m fp16  low nibbles: codes 0..15, high nibbles: codes 16..31 of the block
                          (byte 4 + i holds code i and code 16 + i)

    w = d * q + m,   q = 0..15 unsigned;  all words little-endian

A matrix has one row per output; row ``n`` is ``cols / 32`` blocks in order. Throughout, a matrix is the triple
``codes uint8[rows, cols]``, ``d float16[rows, cols/32]``, ``m float16[rows, cols/32]``. A GEMM engine that wants
``W[K, N]`` (input first) takes the transposes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

GROUP = 32
"""Weights of one block."""

BYTES = 20
"""Bytes of one block."""


class Matrix(NamedTuple):
    """A matrix of ``rows`` outputs and ``cols`` inputs, ``w[r, c] = d[r, c // 32] * codes[r, c] + m[r, c // 32]``."""

    codes: NDArray[np.uint8]
    d: NDArray[np.float16]
    m: NDArray[np.float16]


def unpack(raw: NDArray[np.uint8], rows: int, cols: int) -> Matrix:
    """Matrix from its stored bytes (``uint8`` of any shape). Exact: nothing is rounded.

    Raises :class:`~golden.spec.SpecError` when ``cols`` is not a multiple of 32 or the number of bytes does not fit.
    """
    _check_cols(cols)
    want = rows * cols // GROUP * BYTES
    if raw.size != want:
        raise SpecError(f"Q4_1 data of {rows} x {cols} weights must be {want} bytes, not {raw.size}")
    blocks = raw.reshape(rows, cols // GROUP, BYTES)
    params = np.ascontiguousarray(blocks[..., :4]).view("<f2").astype(np.float16, copy=False)
    nibbles = blocks[..., 4:]
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).reshape(rows, cols)
    return Matrix(codes, params[..., 0], params[..., 1])


def pack(codes: NDArray[np.uint8], d: NDArray[np.float16], m: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Stored bytes ``uint8[rows, cols/32*20]``; inverse of :func:`unpack`, bit for bit (any fp16 pattern)."""
    rows, cols = codes.shape
    _check_cols(cols)
    if codes.max(initial=0) > 15:
        raise SpecError(f"Q4_1 codes must be integers between 0 and 15, not {codes.max()}")
    halves = codes.reshape(rows, cols // GROUP, 2, GROUP // 2)
    params = np.stack([d, m], axis=-1).astype("<f2", copy=False).view(np.uint8)
    return np.concatenate([params, halves[:, :, 0] | halves[:, :, 1] << 4], axis=-1).reshape(rows, -1)


def dequantise(codes: NDArray[np.uint8], d: NDArray[np.float16], m: NDArray[np.float16]) -> NDArray[np.float32]:
    """Weights ``d*q + m`` as ``float32[rows, cols]``.

    The product is exact in float32 (11 + 4 bits), the sum is rounded once; it too is exact whenever ``d`` and ``m`` are
    less than about 2^9 apart, as in every weight of the model that this repository uses.
    """
    rows, cols = codes.shape
    q = codes.reshape(rows, -1, GROUP).astype(np.float32)
    w = d.astype(np.float32)[..., None] * q + m.astype(np.float32)[..., None]
    return w.reshape(rows, cols)


def quantise(w: NDArray[np.float32]) -> Matrix:
    """Nearest of 16 levels between each block's minimum and maximum: ``d = (max - min)/15``, ``m = min``,
    ``q = floor((w - min)/d + 1/2)``, in float32 and before ``d`` and ``m`` are rounded to fp16, which are the steps of
    the reference implementation of the format (same bits). An all-equal block has ``d = 0, q = 0``.

    Error ``|w - (d*q + m)| <= d/2 + 15*|d - d16| + |m - m16|``, the last two being the fp16 rounding (at most 2^-11 of
    the value, 2^-25 below the smallest normal number), and a few float32 roundings.

    Raises :class:`~golden.spec.SpecError` for weights beyond the fp16 range or not finite.
    """
    rows, cols = w.shape
    _check_cols(cols)
    largest = np.abs(w).max(initial=0)
    if not largest <= 32752:  # so that neither minimum nor range exceeds 65504; false for NaN too
        raise SpecError(f"weights must be finite and at most 32752 in magnitude, not {largest}")
    blocks = w.astype(np.float32, copy=False).reshape(rows, -1, GROUP)
    low = blocks.min(axis=-1, keepdims=True)
    d = (blocks.max(axis=-1, keepdims=True) - low) / np.float32(15)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(d == 0, np.float32(0), np.float32(1) / d)
    codes = np.floor((blocks - low) * inverse + np.float32(0.5)).clip(0, 15).astype(np.uint8)
    return Matrix(codes.reshape(rows, cols), d[..., 0].astype(np.float16), low[..., 0].astype(np.float16))


def _check_cols(cols: int) -> None:
    if cols % GROUP:
        raise SpecError(f"Q4_1 columns must be a multiple of {GROUP}, not {cols}")
