"""Quantisers: real weights and activations to the integer formats of the engines.

Weights are ``W[K, N]`` (input first), activations ``X[M, K]`` (one row per token). Groups are ``group`` consecutive
``k`` of one column (weights) or of one row (activations); the last group may be short, and ``group=0`` means one group
of the whole ``K`` ("per channel"). Every quotient is rounded once, to the nearest integer, ties to even.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.formats import E2M1_FORMAT, FLOATS
from golden.mixpe.formats import ACT_FLOATS, ACTS, EXPONENTS, WEIGHTS, WeightFormat
from golden.spec import SpecError

FORMATS = tuple(f.name for f in WEIGHTS.values() if f.correction != "min" and not f.magnitudes)
"""Weight formats with an integer zero point or none; :mod:`golden.q4_1` does the one with a float minimum, and
:func:`quantise_e2m1` the floating-point one."""


class Weights(NamedTuple):
    """``W[k, n] ~= scale[k // group, n] * (codes[k, n] - zero[k // group, n])``, with ``J = ceil(K / group)``."""

    codes: NDArray[np.integer[Any]]
    """``[K, N]``, in the range of the format"""
    scale: NDArray[np.number[Any]]
    """``[J, N]``, positive"""
    zero: NDArray[np.integer[Any]]
    """``[J, N]``, a code of the format; all 0 for symmetric formats"""
    channel: NDArray[np.float32] | None = None
    """``[N]``, a further factor of each column's scales; with scales of uint8 only"""


class MicroscaledWeights(NamedTuple):
    """``W[k, n] ~= tensor * scale[k // group, n] * value(codes[k, n])``, E2M1."""

    codes: NDArray[np.integer[Any]]
    """``[K, N]``"""
    scale: NDArray[np.floating[Any]]
    """``[J, N]``, values of the scale format"""
    tensor: float
    """one FP32 number; 1 unless the scale format is e4m3"""


class Tokens(NamedTuple):
    """``X[t, k] ~= scale[t] * codes[t, k]``."""

    codes: NDArray[np.integer[Any]]
    """``[M, K]``, -127..127 or that of another format"""
    scale: NDArray[np.float32]
    """``[M]``, positive"""


class GroupedTokens(NamedTuple):
    """``X[t, k] ~= 2**exponent[t, k // group] * codes[t, k]``."""

    codes: NDArray[np.integer[Any]]
    """``[M, K]``, -127..127 or that of another format"""
    exponent: NDArray[np.int8]
    """``[M, ceil(K / group)]``, -16..15"""


def quantise_weights(w: NDArray[np.floating[Any]], weight: str, group: int, scale: str = "fp16") -> Weights:
    """Quantise ``W[K, N]`` to an integer weight format (:data:`FORMATS`), with scales of the format ``scale``.

    With ``low..high`` the codes of the format, over one group:

    symmetric   ``scale = max(max W / high, min W / low)``, the smallest that clips nothing (``max |W| / 7`` for
                ``int4_sym``); ``zero = 0``
    unsigned    ``scale = (max(W, 0) - min(W, 0)) / high``; ``zero = round(-min(W, 0) / scale)``

    and ``code = clip(round(W / scale) + zero)``. The scale is rounded to its format *before* it is used, so a code may
    clip by the rounding of the scale. Scales of uint8 are multiples, 1 to 255, of
    ``channel = fp32(largest scale of the column / 255)``, rounded up. A group whose scale rounds to zero (all zero or
    tiny, scale below 2^-25) has ``code = zero = 0, scale = 1``.

    Error   ``|W - scale*(code - zero)| <= scale/2 + c*e``, where ``e <= max(scale * 2^-11, 2^-25)`` is the rounding
            error of an fp16 scale and ``c`` the number of codes - 1 (unsigned) or the larger of ``-low`` and ``high``
            (symmetric): below ``0.508 * scale`` and ``0.504 * scale`` for normal scales. For groups that became
            zero, the weights themselves, at most ``c * 2^-25``.
    Raises  :class:`~golden.spec.SpecError` for an unknown format, a negative group, weights that are not finite, and
            scales beyond their format.
    """
    if weight not in FORMATS:
        raise SpecError(f"weight must be one of {', '.join(FORMATS)}, not {weight!r}")
    fmt = WEIGHTS[weight]
    w = _finite(w, "weights")
    starts, lengths = _groups(len(w), group)
    top = np.maximum(np.maximum.reduceat(w, starts), 0)
    bottom = np.minimum(np.minimum.reduceat(w, starts), 0)
    asymmetric = fmt.correction == "zero"
    ideal = (top - bottom) / (fmt.high - fmt.low) if asymmetric else np.maximum(top / fmt.high, bottom / fmt.low)
    scale_fmt = FLOATS[scale]
    if scale_fmt.integer:
        channel = (ideal.max(axis=0) / scale_fmt.largest).astype(np.float32)
        if not np.isfinite(channel).all():
            raise SpecError(f"weights must have scales that FP32 holds, not {ideal.max():g}")
        channel[channel == 0] = 1
        factors = np.ceil(ideal / channel).clip(1, scale_fmt.largest).astype(np.uint8)
        zero, codes = _codes(w, factors * channel.astype(np.float64), bottom, lengths, fmt)
        return Weights(codes, factors, zero, channel)
    scales = scale_fmt.rounded(ideal)
    if not np.isfinite(scales).all():
        raise SpecError(f"scale must be at most {scale_fmt.largest:g} ({scale}), not {ideal.max():g}")
    scales[scales == 0] = 1
    zero, codes = _codes(w, scales.astype(np.float64), bottom, lengths, fmt)
    return Weights(codes, scales, zero)


def _codes(
    w: NDArray[np.float64],
    scales: NDArray[np.float64],
    bottom: NDArray[np.float64],
    lengths: NDArray[np.intp],
    fmt: WeightFormat,
) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
    """Zero points and codes, once scales are known."""
    zero = np.zeros_like(scales)
    if fmt.correction == "zero":
        zero = np.rint(-bottom / scales).clip(fmt.low, fmt.high)
    codes = np.rint(w / np.repeat(scales, lengths, axis=0)) + np.repeat(zero, lengths, axis=0)
    return _small(zero), _small(codes.clip(fmt.low, fmt.high))


def quantise_e2m1(w: NDArray[np.floating[Any]], group: int, scale: str) -> MicroscaledWeights:
    """Quantise ``W[K, N]`` to E2M1 with a floating-point scale of format ``scale`` per group.

    e8m0 (MXFP4)    ``scale = 2^(floor(log2 max |W|) - 2)``, as the OCP format recommends: the largest weight may clip.
    e4m3 (NVFP4)    ``tensor = fp32(max over all |W| / (6*448))``, ``scale = e4m3(max |W| / (6*tensor))``
    others          ``scale = max |W| / 6``, rounded to the format

    The code is the nearest of ``W / (tensor*scale)``, ties to the even code. A group whose scale rounds to zero gets
    the format's smallest positive scale.

    Raises  :class:`~golden.spec.SpecError` for a negative group and for weights that are not finite.
    """
    w = _finite(w, "weights")
    fmt = FLOATS[scale]
    starts, lengths = _groups(len(w), group)
    most = np.maximum.reduceat(np.abs(w), starts)
    tensor = 1.0
    if scale == "e8m0":
        scales = np.ldexp(1.0, np.clip(np.frexp(np.where(most == 0, 1, most))[1] - 3, -127, 127))
    else:
        if scale == "e4m3" and most.max() > 0:
            tensor = float(np.float32(most.max() / (6 * fmt.largest)))
        scales = fmt.rounded(np.minimum(most / (6 * tensor), fmt.largest).astype(np.float32)).astype(np.float64)
        scales[scales == 0] = float(fmt.value([1])[0])
    ratio = w / (np.repeat(scales, lengths, axis=0) * tensor)
    codes = E2M1_FORMAT.code(E2M1_FORMAT.rounded(ratio.clip(-6, 6)))
    return MicroscaledWeights(_small(codes), scales.astype(fmt.dtype), tensor)


def float_codes(x: NDArray[np.floating[Any]], act: str) -> NDArray[np.int64]:
    """Codes of the nearest values of the floating-point activation format ``act``; too large ones become the largest.

    Raises  :class:`~golden.spec.SpecError` for activations that are not finite.
    """
    fmt = ACT_FLOATS[act]
    return fmt.code(fmt.rounded(_finite(x, "activations").clip(-fmt.largest, fmt.largest)))


def dequantise_weights(q: Weights, group: int) -> NDArray[np.float32]:
    """``scale * (code - zero)`` as ``float32[K, N]``; exact but for the channels' factor."""
    _, lengths = _groups(len(q.codes), group)
    signed = q.codes.astype(np.float32) - np.repeat(q.zero, lengths, axis=0)
    weights = signed * np.repeat(q.scale, lengths, axis=0)
    return weights if q.channel is None else weights * q.channel


def quantise_tokens(x: NDArray[np.floating[Any]], act: str = "int8") -> Tokens:
    """INT8 with one float32 scale per token: ``scale = fp32(max |x| / 127)``, ``code = clip(round(x / scale))``; other
    integer formats likewise, with their largest code for 127.

    A token that is all zero, or so small that its scale rounds to zero, has ``scale = 1`` and codes 0.

    Error   ``|x - scale*code| <= scale * (1/2 + 127 * 2^-24)`` for normal scales; each code is the correctly rounded
            quotient of the two float32 numbers.
    Raises  :class:`~golden.spec.SpecError` for activations that are not finite.
    """
    x = _finite(x, "activations")
    high = ACTS[act].high
    scale = (np.abs(x).max(axis=1, initial=0) / high).astype(np.float32)
    scale[scale == 0] = 1
    codes = np.rint(x / scale.astype(np.float64)[:, None]).clip(-high, high)
    return Tokens(_small(codes), scale)


def quantise_tokens_pow2(x: NDArray[np.floating[Any]], group: int, act: str = "int8") -> GroupedTokens:
    """INT8 with a power-of-two scale per token and group, as hardware does on-line without a divider.

    ``e`` is the smallest integer with ``max |x| <= 127 * 2**e``, clamped to -16..15 (an all-zero group: -16);
    ``code = clip(round(x * 2**-e))`` to -127..127; other integer formats likewise, with their largest code for 127.

    Error   ``|x - 2**e * code| <= 2**e / 2`` while ``max |x| <= 127 * 2**15``; larger values clip to that.
    Raises  :class:`~golden.spec.SpecError` for a negative group and for activations that are not finite.
    """
    x = _finite(x, "activations")
    starts, lengths = _groups(x.shape[1], group)
    # max = f * 2^n with 1/2 <= f < 1, and 127 = 127/128 * 2^7: e is n - 7, or one more when f > 127/128
    high, bits = ACTS[act].high, ACTS[act].bits - 1
    fraction, n = np.frexp(np.maximum.reduceat(np.abs(x), starts, axis=1))
    e = np.where(fraction == 0, EXPONENTS[0], n - bits + (fraction > high / (1 << bits))).clip(*EXPONENTS)
    codes = np.rint(np.ldexp(x, -np.repeat(e, lengths, axis=1))).clip(-high, high)
    return GroupedTokens(_small(codes), e.astype(np.int8))


def _small(codes: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """As int8 where that is enough."""
    return codes.astype(np.int8 if np.abs(codes).max(initial=0) < 128 else np.int16)


def _groups(k: int, group: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First index and length of each group of ``k`` elements."""
    if group < 0:
        raise SpecError(f"group must be 0 (one group) or a positive integer, not {group}")
    starts = np.arange(0, k, group or k)
    return starts, np.diff(starts, append=k)


def _finite(a: NDArray[np.floating[Any]], what: str) -> NDArray[np.float64]:
    """As float64, in which the quotient of two float32 numbers, rounded once more to an integer, is still the nearest
    integer: it is never as close to a tie as float64 rounds."""
    if a.ndim != 2 or 0 in a.shape:
        raise SpecError(f"{what} must be a non-empty matrix, not of shape {a.shape}")
    if not np.isfinite(a).all():
        raise SpecError(f"{what} must be finite, not {a[~np.isfinite(a)][0]}")
    return a.astype(np.float64)
