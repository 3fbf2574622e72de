"""GEMM on indices, ``Y[m, n] = sum_k CA[a[m, k]] * CW[w[n, k]]``, in its numerics modes; outliers beside it.

========== ============================== ===================================== =========================
mode       a product                      the sum                               order
========== ============================== ===================================== =========================
integer    INT8 centroids, exact          exact                                 of no account
FP16       FP16 centroids, exact          exact, in steps of ``2**-48``         of no account
entries    rounded to FP16                exact, in steps of ``2**-24``         of no account
tree       rounded to FP16                FP16, rounded after every addition    :func:`tree_sum`
========== ============================== ===================================== =========================

Integer and FP16 are the same functions here, on integers: INT8 centroids as they are; FP16 numbers as Python integers
in steps of ``2**-24`` (:func:`exact`), whose products are in steps of ``2**-48``. An exact sum is rounded once, by
:func:`rounded`. Counts are integers in all modes: FP16 does not have all of those above 2,048.

Activations are in the domain of their centroids: ``2**-e * x``, or both sides times ``2**e``, which is a shift.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.kmeans.token import steps
from golden.numerics import LIMBS, round_fp32
from golden.spec import SpecError

Int = NDArray[np.int64]
Exact = NDArray[Any]
"""Integers: int64, or Python's own where they are wider."""
Half = NDArray[np.float16]
Mask = NDArray[np.bool_]

WIDTH = 32
"""Terms that the tree adds at a time."""


def joined(a: Int, w: Int, w_bits: int) -> Int:
    """Codes ``[M, N, K]``: index of the activation above that of the weight; ``a [M, K]``, ``w [N, K]``."""
    return a[:, None, :] << w_bits | w


def counts(a: Int, w: Int, a_bits: int, w_bits: int) -> Int:
    """How often each code occurs, ``[M, N, 2**(a_bits + w_bits)]``; over the codes they add up to K."""
    codes = joined(a, w, w_bits)
    size = 1 << (a_bits + w_bits)
    rows = codes.reshape(-1, codes.shape[-1])
    flat = rows + size * np.arange(len(rows))[:, None]
    return np.bincount(flat.ravel(), minlength=size * len(rows)).reshape(*codes.shape[:2], size)


def exact(codes: Int) -> Exact:
    """FP16 codes as Python integers, in steps of ``2**-24``."""
    return steps(codes).astype(object)


def product_table(ca: Exact, cw: Exact) -> Exact:
    """The products of two codebooks, by code."""
    return np.multiply.outer(ca, cw).ravel()


def counted(histogram: Int, table: Exact) -> Exact:
    """``[M, N]`` by histogram: every product once, times how often it occurs."""
    return histogram @ table


def looked_up(a: Int, w: Int, w_bits: int, table: Exact) -> Exact:
    """``[M, N]`` by a look into the table for every code."""
    return table[joined(a, w, w_bits)].sum(axis=-1)


def multiplied(x: Exact, w: Exact) -> Exact:
    """``[M, N]`` of numbers ``x [M, K]`` and ``w [N, K]``: with ``CA[a]`` and ``CW[w]``, dequantise and multiply."""
    return x @ w.T


def compensation(x: Exact, c: Exact, w: Exact, outlier: Mask) -> Exact:
    """``sum (x - c) * w`` over the outliers, each once: what the centroids ``c [M, K]`` left over of them."""
    return np.where(outlier, x - c, 0) @ w.T


def look_ahead(x: Exact, c: Exact, w: Exact, outlier: Mask) -> Exact:
    """All centroids multiplied, outliers' too, and their compensation beside it."""
    return multiplied(c, w) + compensation(x, c, w, outlier)


def isolated(x: Exact, c: Exact, w: Exact, outlier: Mask) -> Exact:
    """Two products: centroids without outliers, outliers alone. Equal to :func:`look_ahead`."""
    return multiplied(np.where(outlier, 0, c), w) + multiplied(np.where(outlier, x, 0), w)


def rounded(total: Exact, grid: int) -> NDArray[np.float32]:
    """``total * 2**grid``, below ``2**126`` steps, rounded once to FP32, to nearest even."""
    wide = total.astype(object)
    limbs = [wide >> 32 * i & 0xFFFFFFFF for i in range(LIMBS - 1)]
    return round_fp32(np.stack([*limbs, wide >> 32 * (LIMBS - 1)]).astype(np.int64), grid)


def entries(ca: Half, cw: Half) -> Half:
    """The table with every product rounded to FP16, to nearest even.

    Raises :class:`~golden.spec.SpecError` for a product beyond FP16.
    """
    products = np.multiply.outer(ca.astype(np.float64), cw.astype(np.float64)).ravel()
    with np.errstate(over="ignore"):
        table = products.astype(np.float16)
    if not np.isfinite(table).all():
        raise SpecError(f"products of centroids must be below 65520 in magnitude, not {np.abs(products).max():g}")
    return table


def entry_bound(products: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """How far an entry may be from its product: ``max(2**-11 |product|, 2**-25)``.

    So a sum of entries is no further from the exact sum than the sum of this over its K terms; and look-ahead with
    entries is no further from isolating the outliers than the sum of this over the outliers' centroids.
    """
    return np.maximum(np.ldexp(np.abs(products), -11), 2.0**-25)


def entry_steps(table: Half) -> Int:
    """Entries as integers in steps of ``2**-24``, for :func:`counted` and :func:`looked_up`: their sums over up to
    ``2**21`` terms fit into int64."""
    return steps(table.view(np.uint16).astype(np.int64))


def tree_sum(histogram: Int, table: Half) -> Half:
    """FP16 all the way, ``[M, N]``.

    A term is count times entry, rounded once. Codes come in chunks of 32, ascending, the last one filled up with
    zeros. In a chunk neighbours are added, the sums' neighbours again, and so on: five levels, a rounding after every
    addition. The chunks' sums are added to +0 one by one. Too large is infinite, as in IEEE 754.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        terms = (histogram * table.astype(np.float64)).astype(np.float16)  # 11 + 21 bits: exact before the rounding
        chunks = -(-terms.shape[-1] // WIDTH)
        level = np.zeros((*terms.shape[:-1], chunks * WIDTH), np.float16)
        level[..., : terms.shape[-1]] = terms
        level = level.reshape(*terms.shape[:-1], chunks, WIDTH)
        while level.shape[-1] > 1:
            level = level[..., 0::2] + level[..., 1::2]
        total = np.zeros(terms.shape[:-1], np.float16)
        for i in range(chunks):
            total = total + level[..., i, 0]
    return total


def tree_compensation(total: Half, x: Half, c: Half, w: Half, order: Int) -> Half:
    """Adds the outliers' residuals to ``total [M, N]`` in FP16: ``x - c``, its product with the weight and the sum are
    each rounded. ``order [M, outliers]`` are the channels, as they come out of Orizuru."""
    tokens = np.arange(len(x))
    with np.errstate(over="ignore", invalid="ignore"):
        residual = x - c
        for channel in order.T:
            total = total + residual[tokens, channel][:, None] * w.T[channel]
    return total
