"""Real linear layers as K-Means indices: matrices and activations' codebooks, found offline.

    W[n, k] ~ scale[n] * CW[iW[n, k]]          one codebook per matrix, one FP32 scale per output channel
    x[k]    ~ 2**e * CA[iA[k]]                 one codebook per layer; e per token, see :mod:`golden.kmeans.token`

Of each token the k largest and k smallest activations, by signed value, are outliers: they keep their FP16 value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.kmeans import token
from golden.kmeans.codebook import HIGH, Codebook
from golden.kmeans.learn import kmeans
from golden.orizuru.keys import KEYS
from golden.spec import SpecError

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]
Real = NDArray[np.floating[Any]]

WEIGHTINGS = ("uniform", "magnitude", "sensitivity")
"""What an error counts for in learning a codebook: all alike; by the value's magnitude; by how much it moves the
layer's results (the caller says how much: :func:`quantise_matrix`, :func:`calibrate`)."""

FP16 = KEYS["fp16"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """``W[n, k] ~ scale[n] * book.centroids[indices[n, k]]``."""

    indices: NDArray[np.uint8]
    """``[N, K]``"""
    book: Codebook
    scale: NDArray[np.float32]
    """``[N]``, positive"""

    @property
    def values(self) -> NDArray[np.float32]:
        """The weights that the indices stand for, ``[N, K]``."""
        return self.book.centroids.astype(np.float32)[self.indices] * self.scale[:, None]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a layer needs to know of its activations beforehand."""

    book: Codebook
    shift: int
    """``e = floor(log2 sum |x|) - shift``"""
    k: int
    """outliers on each side of a token"""
    lower: float
    """static threshold: at or below it were as many of the calibration's activations as k per token"""
    upper: float
    """likewise, at or above it; both are FP16 numbers, infinite for k = 0"""

    def outliers(self, codes: Int, static: bool = False) -> Mask:
        """Which of ``codes [M, K]`` are outliers: the k largest and k smallest of each token, or, static, whatever is
        at a threshold or beyond it, however many there are."""
        if not static:
            return outliers(codes, self.k)
        x = values(codes)
        return (x >= self.upper) | (x <= self.lower)

    def indices(self, x: Real) -> tuple[Int, Int]:
        """Indices of real activations ``x[M, K]``, and the tokens' exponents ``[M]``."""
        codes = fp16_codes(x)
        e = token.exponents(codes, self.shift)
        return token.indices(codes, e, self.book), e

    def approximate(self, codes: Int, keep: Mask) -> NDArray[np.float32]:
        """``2**e * C[i]``, or the activation itself where ``keep``: what the layer's sums are made of, exact."""
        e = token.exponents(codes, self.shift)
        out = values(codes)
        for exponent in np.unique(e):  # few, so that a table of all codes for each is the fastest way
            rows = e == exponent
            out[rows] = np.where(keep[rows], out[rows], self._every_code(exponent)[codes[rows]])
        return out

    def _every_code(self, exponent: np.int64) -> NDArray[np.float32]:
        """``2**exponent * C[i]`` of every FP16 code."""
        every = np.arange(FP16.high + 1)[None]
        indices = token.indices(every, np.array([exponent]), self.book)[0]
        return np.ldexp(self.book.centroids[indices].astype(np.float32), int(exponent))


def outliers_per_side(share: float, length: int) -> int:
    """``ceil(share / 2 * length)``: k for a share of outliers, 0 to 1, half of them on each side.

    Raises :class:`~golden.spec.SpecError` for other shares.
    """
    if not 0 <= share <= 1:
        raise SpecError(f"share must be between 0 and 1, not {share}")
    return int(np.ceil(round(share / 2 * length, 6)))  # 0.07 / 2 * 200 is 7, not a bit more


def fp16_codes(x: Real) -> Int:
    """FP16 codes of real activations, rounded to nearest even; :class:`~golden.spec.SpecError` beyond FP16's range."""
    with np.errstate(over="ignore"):
        half = np.asarray(x).astype(np.float16)
    if not np.isfinite(half).all():
        raise SpecError("activations must be finite in FP16")
    return half.view(np.uint16).astype(np.int64)


def values(codes: Int) -> NDArray[np.float32]:
    """FP16 codes as numbers."""
    return codes.astype(np.uint16).view(np.float16).astype(np.float32)


def outlier_order(codes: Int, k: int) -> Int:
    """Channels of each token's outliers, ``[M, min(2k, K)]``: largest, smallest, second largest, second smallest, ...

    The two ends of one order (value falling, then index rising), as the unit ``orizuru`` has them: none comes twice.
    """
    falling = np.argsort((FP16.high - FP16.order(codes)).astype(np.uint16), axis=1, kind="stable")
    count = min(2 * k, codes.shape[1])
    order = np.empty((len(codes), count), np.int64)
    order[:, 0::2], order[:, 1::2] = falling[:, : (count + 1) // 2], falling[:, ::-1][:, : count // 2]
    return order


def outliers(codes: Int, k: int) -> Mask:
    """Which are the k largest and k smallest of their token, ``[M, K]``; all of it where 2k reaches K."""
    mask = np.zeros(codes.shape, np.bool_)
    np.put_along_axis(mask, outlier_order(codes, k), True, axis=1)
    return mask


def quantise_matrix(w: Real, bits: int, weighting: str = "uniform", sensitivity: Real | None = None) -> Matrix:
    """``w[N, K]`` as indices of ``bits`` bits.

    Rows are divided by their root mean square, K-Means of all of them gives the centroids, and these are scaled so that
    the largest magnitude is 127, and rounded. A row's scale is then the one of least squared error for its indices,
    with the same weighting, rounded to FP32.

    ``sensitivity``, ``[K]``, is for the weighting of that name: the mean square of each input, so that what becomes
    small is the squared error of the layer's results. Raises :class:`~golden.spec.SpecError` for an unknown weighting.
    """
    w = np.asarray(w, np.float64)
    size = np.sqrt(np.square(w).mean(axis=1, keepdims=True))
    size[size == 0] = 1
    importance = None if sensitivity is None else np.square(size) * np.asarray(sensitivity, np.float64)
    weights = _weights(w / size, weighting, importance)
    centroids = kmeans(w / size, 1 << bits, weights).centroids
    gain = HIGH / (np.abs(centroids).max() or 1)
    book = Codebook(np.rint(centroids * gain).astype(np.int64))
    indices = book.index(np.floor(2 * gain * w / size).astype(np.int64))
    numbers = book.centroids[indices].astype(np.float64)
    scale = _fitted(w, numbers, 1.0 if weights is None else weights, size[:, 0] / gain)
    return Matrix(indices.astype(np.uint8), book, scale)


def _fitted(w: Real, c: Real, weights: Real | float, otherwise: Real) -> NDArray[np.float32]:
    """The scales of least squared error; rows that this would make zero or negative keep ``otherwise``."""
    product, square = (weights * w * c).sum(axis=1), (weights * c * c).sum(axis=1)
    fitted = np.divide(product, square, out=np.zeros_like(product), where=square > 0).astype(np.float32)
    return np.where(fitted > 0, fitted, otherwise.astype(np.float32))


def calibrate(
    x: Real, bits: int, k: int = 0, weighting: str = "uniform", sensitivity: Real | None = None, static: bool = False
) -> Calibration:
    """A layer's codebook, shift and thresholds from real activations ``x[M, K]``.

    Tokens are divided by ``2**floor(log2 sum |x|)``; K-Means of what are no outliers gives centroids; these are scaled
    by the largest power of two that leaves all of them in INT8, which is ``shift``, and rounded. Outliers are the k of
    each side of a token, or with ``static`` what the thresholds say. A threshold is the ``M * k``-th value of its side.

    ``sensitivity``, ``[K]``, is for the weighting of that name: how much an error of each input moves the results, the
    sum of squares of its weights. Raises :class:`~golden.spec.SpecError` for an unknown weighting, activations beyond
    FP16, and where every activation is an outlier.
    """
    codes = fp16_codes(x)
    exact = values(codes).astype(np.float64)
    lower, upper = _thresholds(exact, k)
    out = (exact >= upper) | (exact <= lower) if static else outliers(codes, k)
    if out.all():
        raise SpecError(f"outliers must leave some activations over, not {k} on each side of {x.shape[1]}")
    # not token.exponents: without the layer's shift, sums of large tokens are beyond the range of an exponent
    size = np.ldexp(1.0, np.frexp(np.abs(exact).sum(axis=1, keepdims=True))[1] - 1)
    normal = exact / size
    importance = None if sensitivity is None else np.square(size) * np.asarray(sensitivity, np.float64)
    weights = _weights(normal, weighting, importance)
    centroids = kmeans(normal[~out], 1 << bits, None if weights is None else weights[~out]).centroids
    shift = int(np.floor(np.log2(HIGH / np.abs(centroids).max()))) if centroids.any() else 0
    return Calibration(Codebook(np.rint(np.ldexp(centroids, shift)).astype(np.int64)), shift, k, lower, upper)


def _thresholds(x: Real, k: int) -> tuple[float, float]:
    if not k:
        return -np.inf, np.inf
    ordered = np.sort(x, axis=None)
    reach = min(len(x) * k, len(ordered))
    return float(ordered[reach - 1]), float(ordered[-reach])


def _weights(scaled: Real, weighting: str, importance: Real | None) -> Real | None:
    """For K-Means of ``scaled``; ``importance`` broadcasts to it."""
    if weighting not in WEIGHTINGS:
        raise SpecError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    if weighting == "uniform":
        return None
    if weighting == "magnitude":
        return np.abs(scaled)
    if importance is None:
        raise SpecError("sensitivity must be given for weighting sensitivity, not None")
    return np.broadcast_to(importance, scaled.shape)
