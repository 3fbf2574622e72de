"""Weights of experts in 2, 3, 4 and 8 bits: the quantisers, and one container for what all of them give.

A matrix is ``W[K, N]``, inputs first. A weight is ``scale * operand + minimum``; scale and minimum are FP16, one per
column and group of ``32 << share`` inputs (the last group may be short; the largest share is the whole column). The
operand is the code, or what a codebook of INT8 numbers has in its place.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import q4_1
from golden.kmeans.learn import kmeans
from golden.mixpe.formats import E2M1
from golden.moe.codes import from_bytes, to_bytes
from golden.moe.precision import BITS, SHARES
from golden.spec import SpecError

Real = NDArray[np.floating[Any]]
Codes = NDArray[np.int16]
F16 = NDArray[np.float16]
Int8 = NDArray[np.int8]

GROUP = 32
"""Inputs of the smallest group."""

WHOLE = SHARES - 1
"""The share that is a whole column."""

LARGEST = 32752
"""Of a weight's magnitude, so that neither minimum nor range is beyond FP16."""

SAMPLE = 1
"""Codebooks are learned from weights over the largest of their group, groups of this share."""

FAINT = 1e-4
"""Less would be lost beside the others in the sums of float64 that K-Means subtracts."""


class Format(NamedTuple):
    """How a matrix is stored. ``unsigned`` has minima, the others only scales; 8 bits are signed."""

    bits: int
    kind: str
    share: int

    @property
    def name(self) -> str:
        """``q4_1``, ``signed8`` (whole columns), ``lookup3x64``."""
        if self == Q4_1:
            return "q4_1"
        return f"{self.kind}{self.bits}" + ("" if self.share == WHOLE else f"x{GROUP << self.share}")

    def groups(self, k: int) -> int:
        """Of a column of so many inputs."""
        return 1 if self.share == WHOLE else -(-k // (GROUP << self.share))

    def size(self, k: int, n: int) -> int:
        """Bytes of a matrix ``[k, n]``: codes, scales and minima; the codebook is in the expert's descriptor."""
        return n * (k * self.bits // 8 + 2 * self.groups(k) * (2 if self.kind == "unsigned" else 1))


Q4_1 = Format(4, "unsigned", 0)
"""That of :mod:`golden.q4_1`."""


def named(name: str) -> Format:
    """The format of that name; :class:`~golden.spec.SpecError` for another one."""
    if name == Q4_1.name:
        return Q4_1
    found = re.fullmatch(r"(unsigned|signed|lookup)([2348])(?:x([1-9]\d{1,3}))?", name, re.ASCII)
    sizes = {None: WHOLE} | {str(GROUP << share): share for share in range(WHOLE)}
    if not found or found[3] not in sizes or (found[2] == "8" and found[1] != "signed"):
        raise SpecError(f"format must be a name like q4_1, unsigned3x32, signed8 or lookup3x64, not {name!r}")
    return Format(int(found[2]), found[1], sizes[found[3]])


@dataclass(frozen=True, eq=False)
class Quantised:
    """A matrix as it is stored."""

    codes: Codes
    """``[K, N]``: from 0, or with ``signed`` from ``-2**(bits - 1)``"""
    scale: F16
    """``[groups, N]``"""
    minimum: F16 | None
    """``[groups, N]``: what an operand of 0 stands for; ``None``: 0"""
    format: Format
    codebook: Int8 | None = None
    """``[2**bits]``: the operands of ``lookup``"""

    @property
    def operands(self) -> NDArray[Any]:
        """``[K, N]``"""
        return self.codes if self.codebook is None else self.codebook[self.codes]

    def values(self) -> NDArray[np.float64]:
        """``[K, N]``: the weights that it stands for."""
        lengths = _lengths(len(self.codes), self.format.share)
        w = self.operands * np.repeat(self.scale.astype(np.float64), lengths, axis=0)
        return w if self.minimum is None else w + np.repeat(self.minimum.astype(np.float64), lengths, axis=0)

    @property
    def bytes(self) -> int:
        """Codes, scales and minima."""
        parameters = self.scale.nbytes + (0 if self.minimum is None else self.minimum.nbytes)
        return self.codes.size * self.format.bits // 8 + parameters

    def pack(self) -> NDArray[np.uint8]:
        """``[bytes]``: codes column by column, the first in the low bits of a column's first byte; scales column by
        column, likewise minima. Inverse: :func:`unpack`."""
        parts = [part.T.astype("<f2").tobytes() for part in (self.scale, self.minimum) if part is not None]
        return np.frombuffer(to_bytes(self.codes, self.format.bits).tobytes() + b"".join(parts), np.uint8)


def unpack(raw: NDArray[np.uint8], form: Format, k: int, n: int, codebook: Int8 | None = None) -> Quantised:
    """Of the bytes of :meth:`Quantised.pack`; a matrix of 8 bits has no minima there."""
    if raw.size != form.size(k, n):
        raise SpecError(f"{form.name} data of {k} x {n} weights must be {form.size(k, n)} bytes, not {raw.size}")
    if (codebook is None) == (form.kind == "lookup"):
        raise SpecError(f"codebook must be {'None' if codebook is not None else 'given'} for {form.name}")
    end = k * n * form.bits // 8
    codes = from_bytes(raw[:end], form.bits, k, n, form.kind == "signed")
    parts = raw[end:].view("<f2").astype(np.float16, copy=False).reshape(-1, n, form.groups(k))
    return Quantised(codes, parts[0].T, parts[1].T if len(parts) > 1 else None, form, codebook)


# --- one scale per output channel, as published ---


def elephants(w: Real, bits: int) -> Quantised:
    """The quantiser of "Who Says Elephants Can't Run" (arXiv 2211.10017), 8 or 4 bits, float32 as its code has it.

    ``s = max |w| * 2**(1 - bits)`` of a column; ``code = clip(round(w / s))`` with halves away from zero; stored is s
    rounded to FP16. So ``+max |w|`` becomes ``2**(bits - 1)`` and is clipped (4 bits: to 7/8), and codes are made with
    another scale than they are read with.

    Of a column that is zero, or whose s rounds to zero, the published arithmetic says nothing: codes 0, scale 1 here.
    Raises :class:`~golden.spec.SpecError` for weights that are not finite or beyond :data:`LARGEST`.
    """
    _check_bits(bits, (4, 8))
    half = 1 << (bits - 1)
    w = _checked(w).astype(np.float32)
    s = np.abs(w).max(axis=0, keepdims=True) * np.float32(1 / half)
    scale = s.astype(np.float16)
    ratio = np.divide(w, s, out=np.zeros_like(w), where=scale > 0).astype(np.float64)
    codes = np.trunc(ratio + np.copysign(0.5, ratio)).clip(-half, half - 1)
    return _signed(codes, scale, Format(bits, "signed", WHOLE))


def corrected(w: Real, bits: int) -> Quantised:
    """As :func:`elephants` should be: nothing saturates (``s = max |w| / (2**(bits - 1) - 1)``), halves go to even, and
    codes are made with the scale that is stored."""
    _check_bits(bits, (4, 8))
    return symmetric(w, bits, WHOLE)


PRESETS: dict[str, Callable[[Real, int], Quantised]] = {"elephants": elephants, "corrected": corrected}


# --- groups ---


def symmetric(w: Real, bits: int, share: int) -> Quantised:
    """``scale = fp16(max |w| / (2**(bits - 1) - 1))`` per group, ``code = clip(round(w / scale))``, halves to even. A
    group that is zero, or whose scale rounds to zero: codes 0, scale 1."""
    form = _format(bits, "signed", share)
    w = _checked(w)
    half = 1 << (bits - 1)
    starts, lengths = _starts(len(w), share), _lengths(len(w), share)
    scale = (np.maximum.reduceat(np.abs(w), starts) / (half - 1)).astype(np.float16)
    each = np.repeat(scale.astype(np.float64), lengths, axis=0)
    codes = np.rint(np.divide(w, each, out=np.zeros_like(w), where=each > 0)).clip(-half, half - 1)
    return _signed(codes, scale, form)


def asymmetric(w: Real, bits: int, share: int) -> Quantised:
    """``scale = fp16((max w - min w) / (2**bits - 1))`` per group, ``minimum = fp16(min w)``,
    ``code = clip(round((w - minimum) / scale))``, halves to even; a scale of 0: codes 0. 8 bits are signed codes: 128
    less, and a minimum that is 128 scales more."""
    form = _format(bits, "signed" if bits == 8 else "unsigned", share)
    w = _checked(w)
    low = -128 if bits == 8 else 0
    starts, lengths = _starts(len(w), share), _lengths(len(w), share)
    least = np.minimum.reduceat(w, starts)
    scale = ((np.maximum.reduceat(w, starts) - least) / ((1 << bits) - 1)).astype(np.float16)
    minimum = (least - low * scale.astype(np.float64)).astype(np.float16)
    each, base = (np.repeat(part.astype(np.float64), lengths, axis=0) for part in (scale, minimum))
    codes = np.rint(np.divide(w - base, each, out=np.zeros_like(w), where=each > 0))
    return Quantised(codes.clip(low, low + (1 << bits) - 1).astype(np.int16), scale, minimum, form)


def from_q4_1(matrix: q4_1.Matrix) -> Quantised:
    """Of a stored matrix ``[N, K]``, exactly."""
    return Quantised(matrix.codes.T.astype(np.int16), matrix.d.T, matrix.m.T, Q4_1)


# --- codebooks ---

_NORMAL = NormalDist()


def _quantiles(count: int) -> list[float]:
    """Of the normal distribution's upper half, the outermost first, without the centre."""
    outer = (1 / 32 + 1 / 30) / 2
    return [-_NORMAL.inv_cdf(outer + (0.5 - outer) * i / count) for i in range(count)]


def _int8(centroids: Sequence[float] | Real) -> Int8:
    """The largest becomes 127."""
    c = np.asarray(centroids, np.float64)
    most = np.abs(c).max()
    return np.rint(c * (127 / most if most else 0)).astype(np.int8)


NF4 = _int8(sorted([*_quantiles(8), 0.0, *(-q for q in _quantiles(7))]))
"""Quantiles of the normal distribution (QLoRA, arXiv 2305.14314), 127 for 1."""

FP4 = np.array([*E2M1, *(-v for v in E2M1)], np.int8)
"""E2M1, twice its numbers; its two zeros are one."""


def codebook(matrices: Sequence[Real], bits: int) -> Int8:
    """``[2**bits]``: K-Means centroids, ascending, of the weights of all ``matrices`` over the largest magnitude of
    their group (of 64 inputs), each weighing as the square of that; 127 is the largest centroid. Groups below
    :data:`FAINT` of the largest magnitude of all do not count."""
    _check_bits(bits, BITS[:3])
    shares, sizes = [], []
    for w in map(_checked, matrices):
        most = _most(w, SAMPLE)
        shares.append(np.divide(w, most, out=np.zeros_like(w), where=most > 0).ravel())
        sizes.append(np.square(np.broadcast_to(most, w.shape)).ravel())
    every = np.concatenate(sizes)
    every[every < FAINT**2 * every.max()] = 0
    return _int8(kmeans(np.concatenate(shares), 1 << bits, every if every.any() else None, restarts=1).centroids)


def lookup(w: Real, book: Int8, share: int) -> Quantised:
    """Indices of the nearest of ``book`` (2, 3 or 4 bits of it) times the scale of the group: first
    ``max |w| / max |book|``, then, once, the one that fits the chosen entries best (least squares). A group whose scale
    rounds to zero: index 0, scale 0."""
    bits = max(1, len(book) - 1).bit_length()
    if len(book) != 1 << bits or not book.any():
        raise SpecError(f"codebook must have 4, 8 or 16 numbers, not all 0, not {book.tolist()}")
    form = _format(bits, "lookup", share)
    w = _checked(w)
    starts, lengths = _starts(len(w), share), _lengths(len(w), share)
    scale = np.maximum.reduceat(np.abs(w), starts) / np.abs(book.astype(np.float64)).max()
    chosen = _nearest(w, book, np.repeat(scale, lengths, axis=0))
    along, length = (np.add.reduceat(part, starts) for part in (w * book[chosen], np.square(book[chosen], dtype=float)))
    scale = np.divide(along, length, out=scale, where=length > 0).astype(np.float16)
    codes = _nearest(w, book, np.repeat(scale.astype(np.float64), lengths, axis=0))
    return Quantised(codes, scale, None, form, book)


def _nearest(w: Real, book: Int8, scale: Real) -> Codes:
    """Ties to the lower number; index 0 where the scale is 0."""
    order = np.argsort(book, kind="stable")
    numbers = book[order].astype(np.float64)
    ratio = np.divide(w, scale, out=np.full_like(w, -np.inf), where=scale > 0)
    found = order[np.searchsorted((numbers[1:] + numbers[:-1]) / 2, ratio)]
    return np.where(scale > 0, found, 0).astype(np.int16)


# --- the choice of a format ---


def quantise(w: Real, form: Format, book: Int8 | None = None) -> Quantised:
    """In that format; ``lookup`` needs a codebook."""
    if form.kind == "lookup":
        if book is None:
            raise SpecError(f"codebook must be given for {form.name}")
        if len(book) != 1 << form.bits:
            raise SpecError(f"codebook must have {1 << form.bits} numbers for {form.name}, not {len(book)}")
        return lookup(w, book, form.share)
    return (symmetric if form.kind == "signed" else asymmetric)(w, form.bits, form.share)


def adaptive(quantise: Callable[[int], Quantised], error: Callable[[Quantised], float], limit: float) -> Quantised:
    """The largest groups that cost little, per matrix, as in FineQuant (arXiv 2308.09723): of ``quantise(share)`` for
    share 7, 6, ... 0 the first whose error is at most ``limit`` times that of share 0, the smallest groups.

    FineQuant itself looks at the range of the weights of each group; the rule here is in terms of any error.
    """
    if not limit >= 1:
        raise SpecError(f"limit must be at least 1, not {limit}")
    finest = quantise(0)
    most = limit * error(finest)
    coarser = (quantise(share) for share in range(WHOLE, 0, -1))
    return next((q for q in coarser if error(q) <= most), finest)


# --- what all use ---


def _signed(codes: Real, scale: F16, form: Format) -> Quantised:
    return Quantised(codes.astype(np.int16), np.where(scale > 0, scale, np.float16(1)), None, form)


def _starts(k: int, share: int) -> NDArray[np.intp]:
    return np.arange(0, k, k if share == WHOLE else GROUP << share)


def _lengths(k: int, share: int) -> NDArray[np.intp]:
    return np.diff(_starts(k, share), append=k)


def _most(w: Real, share: int) -> Real:
    """``[K, N]``: the largest magnitude of each weight's group."""
    most = np.maximum.reduceat(np.abs(w), _starts(len(w), share))
    return np.repeat(most, _lengths(len(w), share), axis=0)


def _format(bits: int, kind: str, share: int) -> Format:
    _check_bits(bits, BITS)
    if not 0 <= share <= WHOLE:
        raise SpecError(f"share must be an integer between 0 and {WHOLE}, not {share}")
    return Format(bits, kind, share)


def _check_bits(bits: int, allowed: Sequence[int]) -> None:
    if bits not in allowed:
        raise SpecError(f"bits must be one of {', '.join(map(str, allowed))}, not {bits}")


def _checked(w: Real) -> NDArray[np.float64]:
    if w.ndim != 2 or 0 in w.shape:
        raise SpecError(f"weights must be a non-empty matrix, not of shape {w.shape}")
    largest = np.abs(w).max()
    if not largest <= LARGEST:  # true for NaN too
        raise SpecError(f"weights must be finite and at most {LARGEST} in magnitude, not {largest}")
    return w.astype(np.float64)
