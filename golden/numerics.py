"""Exact wide integers and the one place where they are rounded, vectorised over NumPy arrays.

An exact sum is kept as ``LIMBS`` limbs of 32 bits in ``int64`` arrays: limb i has weight ``2**(32*i)``, the top limb is
signed, and limbs may carry more than 32 bits until :func:`round_fp32` propagates the carries. A sum of fewer than 2**30
terms can therefore be added limb by limb without a carry being lost.
"""

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
F32 = NDArray[np.float32]

LIMBS = 4
NAN32 = np.uint32(0x7FC00000)
"""The canonical NaN: every NaN that leaves a unit has these bits."""

_MASK = np.int64(0xFFFFFFFF)


def shifted(value: Int, shift: Int) -> Int:
    """``value << shift`` as limbs ``[LIMBS, ...]``; exact while ``|value| << shift`` is below ``2**126``."""
    value, shift = np.broadcast_arrays(value, shift)
    out = np.empty((LIMBS, *value.shape), dtype=np.int64)
    for i in range(LIMBS):
        down = 32 * i - shift  # bits of value below this limb
        right = value >> np.clip(down, 0, 63)
        left = value << np.clip(-down, 0, 31)
        limb = np.where(down >= 0, right, np.where(down > -32, left, 0))
        out[i] = limb if i == LIMBS - 1 else limb & _MASK
    return out


def round_fp32(limbs: Int, exponent: int) -> F32:
    """``limbs * 2**exponent`` rounded once to FP32, to nearest even; zero is +0.

    The result must be zero or a normal FP32 number: ``exponent >= -126``.
    """
    carried = _carry(limbs)
    negative = carried[-1] < 0
    magnitude = _carry(np.where(negative, -carried, carried)).astype(np.uint64)
    top = np.zeros(negative.shape, dtype=np.int64)
    for i in range(1, LIMBS):
        top[magnitude[i] != 0] = i
    # The two leading limbs hold at least 33 significant bits; what lies below is jammed into their lowest bit. 33 bits
    # are enough for that to round like the whole (24 + 2 would do), and uint64 to float32 rounds once.
    high = np.take_along_axis(magnitude, top[None], 0)[0]
    low = np.where(top > 0, np.take_along_axis(magnitude, np.maximum(top - 1, 0)[None], 0)[0], 0)
    below = np.zeros(negative.shape, dtype=np.bool_)
    for i in range(LIMBS - 2):
        below |= (magnitude[i] != 0) & (i < top - 1)
    window = np.where(top > 0, (high << np.uint64(32)) | low | below, high)
    scale = exponent + 32 * np.maximum(top - 1, 0)
    value = np.ldexp(window.astype(np.float32), scale.astype(np.int32))
    return np.where(negative, -value, value)


def _carry(limbs: Int) -> Int:
    """The same number with every limb but the top in ``0..2**32-1``."""
    out = limbs.copy()
    for i in range(LIMBS - 1):
        out[i + 1] += out[i] >> 32
        out[i] &= _MASK
    return out


def canonical(value: F32) -> F32:
    """``value`` with every NaN replaced by the canonical one."""
    return np.where(np.isnan(value), NAN32.view(np.float32), value)
