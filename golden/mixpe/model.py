"""Arithmetic of the GEMM engine: the bit-true model, the real-valued reference and the budget between them."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.formats import IntegerOutput, NumberFormat
from golden.mixpe.formats import EXPONENTS, align
from golden.mixpe.job import Gemm
from golden.numerics import LIMBS, canonical, round_fp32, shifted
from golden.spec import SpecError

if TYPE_CHECKING:
    from golden.mixpe.gemm import MixPESpec

Int = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def compute(spec: "MixPESpec", job: Gemm) -> NDArray[Any]:
    """What the RTL must equal, bit for bit: ``[M, N]``, float32, float16 for fp16, integers for integer results."""
    check(spec, job)
    with np.errstate(all="ignore"):
        if spec.raw:
            limbs, _ = _exact(spec, job)
            return spec.out_format.value(sum(limbs[i] << 32 * i for i in range(2)))
        total = _rounded(spec, job) if spec.accumulate == "exact" else _fp32(spec, job)
        total = canonical(_scaled(spec, job, total))
        if isinstance(spec.out_format, IntegerOutput):
            return spec.out_format.rounded(total, spec.rounding)
        return spec.out_format.rounded(total)


def reference(spec: "MixPESpec", job: Gemm) -> F64:
    """The same product in float64 from dequantised operands, before it is rounded to an integer; of raw sums in their
    unit."""
    y = _scaled(spec, job, _real_activations(spec, job) @ _real_weights(spec, job))
    return np.ldexp(y, -spec.grid_exponent) if spec.raw else y


def budget(spec: "MixPESpec", job: Gemm) -> F64:
    """Largest ``|compute - reference|``, for finite operands and results above 2^-126.

    ``exact``: each rounding of the result (the sum, every further scale) is at most 2^-24 of it. ``fp32``: every term
    passes at most groups + 4 roundings and those of the scales, so that many times 2^-24 of the sum of absolute terms;
    a term is ``|scale*A|`` or ``|min*S|``. Both with 1 % and float64's own error on top. A narrower result adds half of
    its last place, or of the smallest step of its format; a rounded integer one half. Aligning moves an activation by
    half a place of its group's exponent, by a whole one where it clips.
    """
    m, k, n = job.shape
    terms, moved = np.zeros((m, n)), np.zeros((m, n))
    acts, weights = _activations(spec, job), np.abs(_real_weights(spec, job))
    place = 0.5 if spec.act_format.significand_bits >= spec.stream_format.significand_bits + 1 else 1.0
    for g, (ks, sums) in enumerate(zip(_groups(spec, k), _group_sums(spec, job, acts), strict=True)):
        up = acts.up[:, g : g + 1]
        terms += np.ldexp(1.0, spec.sum_exponent + up) * np.abs(sums.a * job.scale[g].astype(np.float64))
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            terms += np.ldexp(1.0, spec.sum_exponent + up) * np.abs(sums.s * job.extra[g].astype(np.float64))
        if spec.aligned:
            moved += np.ldexp(place, up) * weights[ks].sum(axis=0)
    terms, moved = (np.abs(_scaled(spec, job, a)) for a in (terms, moved))
    exact, out = np.abs(reference(spec, job)), spec.out_format
    scales = spec.channel_scaled + (spec.act_scale == "token")
    rounding = (1 + scales) * exact if spec.accumulate == "exact" else (len(job.scale) + 4 + scales) * terms
    last_place: Any
    if isinstance(out, IntegerOutput):
        last_place = 0.0 if out.raw else 0.5
    elif out.name == "fp32":
        last_place = 0.0
    else:
        last_place = np.maximum(np.ldexp(exact, -1 - out.fraction_bits), np.ldexp(1.0, -out.bias - out.fraction_bits))
    return 1.01 * (2.0**-24 * rounding + moved + last_place) + k * 2.0**-50 * (terms + moved)


def padding(spec: "MixPESpec", job: Gemm, result: NDArray[Any]) -> NDArray[Any]:
    """``result`` with one more row and column: what the unused rows and columns of a partial tile give.

    They are fed zeros, but a zero times an infinite scale is NaN, and times a negative one -0.
    """
    k = job.shape[1]
    none_w, none_x = np.zeros((k, 1), np.int64), np.zeros((1, k), np.int64)
    least = spec.scale_format.value(np.zeros((len(job.scale), 1), np.int64)).astype(job.scale.dtype)
    column = {
        "w": none_w,
        "scale": least,
        "extra": None if job.extra is None else np.zeros_like(job.extra[:, :1]),
        "channel": None if job.channel is None else np.zeros_like(job.channel[:1]),
    }
    row = {"x": none_x, "x_scale": None if job.x_scale is None else np.zeros_like(job.x_scale[:1])}
    right, below, corner = (dataclasses.replace(job, **fields) for fields in (column, row, column | row))
    return np.block([[result, compute(spec, right)], [compute(spec, below), compute(spec, corner)]])


def check(spec: "MixPESpec", job: Gemm) -> None:
    """Refuse a job that does not fit the specification (:class:`SpecError`)."""
    if job.x.ndim != 2 or job.w.ndim != 2 or job.x.shape[1] != job.w.shape[0]:
        raise SpecError(f"x and w must be matrices [M, K] and [K, N], not {list(job.x.shape)} and {list(job.w.shape)}")
    m, k, n = job.shape
    if not (m and n):
        raise SpecError(f"M and N must be at least 1, not {m} and {n}")
    if not 1 <= k <= spec.k_max:
        raise SpecError(f"K must be between 1 and k_max = {spec.k_max}, not {k}")
    groups = len(range(0, k, spec.group)) if spec.group else 1
    _range("x", job.x, *spec.stream_format.codes)
    _range("w", job.w, spec.weight_format.low, spec.weight_format.high)
    _array("scale", job.scale, (groups, n), spec.scale_format.dtype)
    _values("scale", job.scale, spec.scale_format)
    correction = spec.weight_format.correction
    if (job.extra is None) != (correction == "none"):
        raise SpecError(
            f"extra must {'be None' if correction == 'none' else 'be given'} for weight format {spec.weight}"
        )
    if correction == "min":
        _array("extra", job.extra, (groups, n), spec.scale_format.dtype)
        _values("extra", job.extra, spec.scale_format)
    elif correction == "zero":
        _array("extra", job.extra, (groups, n), None)
        _range("extra", job.extra, spec.weight_format.low, spec.weight_format.high)
    if (job.channel is None) == spec.channel_scaled:
        raise SpecError(f"channel must {'be given' if spec.channel_scaled else 'be None'} where scale is {spec.scale}")
    if spec.channel_scaled:
        _array("channel", job.channel, (n,), np.float32)
    if spec.act_scale == "none":
        if job.x_scale is not None:
            raise SpecError("x_scale must be None where act_scale is none")
    elif spec.act_scale == "token":
        _array("x_scale", job.x_scale, (m,), np.float32)
    else:
        _array("x_scale", job.x_scale, (m, groups), None)
        _range("x_scale", job.x_scale, *EXPONENTS)


def _array(name: str, a: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if a.shape != shape:
        raise SpecError(f"{name} must have shape {list(shape)}, not {list(a.shape)}")
    if dtype is not None and a.dtype != dtype:
        raise SpecError(f"{name} must be of type {np.dtype(dtype)}, not {a.dtype}")


def _values(name: str, a: Any, fmt: NumberFormat) -> None:
    exact = fmt.value(fmt.code(a)) == a
    if not (exact | np.isnan(a)).all():
        raise SpecError(f"{name} must be values of {fmt.name}, not {a[~(exact | np.isnan(a))][0]}")


def _range(name: str, a: Any, low: int, high: int) -> None:
    if a.dtype.kind not in "iu":
        raise SpecError(f"{name} must be integers, not {a.dtype}")
    if a.size and not (low <= a.min() and a.max() <= high):
        raise SpecError(f"{name} must lie between {low} and {high}, not {a.min()}..{a.max()}")


def _groups(spec: "MixPESpec", k: int) -> Iterator[slice]:
    size = spec.group or k
    for at in range(0, k, size):
        yield slice(at, min(at + size, k))


def _group_of(spec: "MixPESpec", k: int) -> Int:
    """Group number of each step."""
    return np.arange(k) // (spec.group or k)


class Activations(NamedTuple):
    """Activations as the elements see them."""

    operand: Int
    """``[M, K]``"""
    special: NDArray[np.bool_]
    """``[M, K]``: NaN (operand 0), infinite (operand +-1)"""
    up: NDArray[np.int32]
    """``[M, groups]``: an operand of 1 is worth two to this, and to ``act_format.exponent``"""


def _activations(spec: "MixPESpec", job: Gemm) -> Activations:
    source = spec.stream_format
    if spec.aligned:
        starts = np.array([ks.start for ks in _groups(spec, job.shape[1])])
        operand, exponent = align(job.x, source, spec.act_format.significand_bits, starts)
        return Activations(operand, source.special(job.x), (exponent + spec.exponents[0]).astype(np.int32))
    up = np.zeros((job.shape[0], len(job.scale)), np.int32)
    if spec.act_scale == "pow2":
        assert job.x_scale is not None
        up = job.x_scale.astype(np.int32)
    return Activations(source.operand(job.x), source.special(job.x), up)


class GroupSums(NamedTuple):
    """Of one group: the integers that its scale and its minimum multiply, ``[M, N]`` and ``[M, 1]``, and what is beyond
    the finite in them, ``[M, N]``: an infinity, NaN, else 0."""

    a: Int
    s: Int
    beyond: F32


def _group_sums(spec: "MixPESpec", job: Gemm, acts: Activations) -> Iterator[GroupSums]:
    """Operands are cut into pieces whose products and sums stay below 2^53, so that float64 (and with it the BLAS) is
    exact; up to that width one piece is enough."""
    f = spec.weight_format
    x, special = acts.operand, acts.special
    w = (f.operand(job.w) + f.offset).astype(np.float64)
    pieces = [(0, x.astype(np.float64))] if spec.corrected_width <= 53 else list(_pieces(x))
    for g, ks in enumerate(_groups(spec, job.shape[1])):
        a: Int = np.sum([(p[:, ks] @ w[ks]).astype(np.int64) << at for at, p in pieces], axis=0)
        s = x[:, ks].sum(axis=1, keepdims=True, dtype=np.int64)
        if f.correction == "zero":
            assert job.extra is not None
            a -= job.extra[g].astype(np.int64) * s
        yield GroupSums(a, s, _beyond(spec, special[:, ks], x[:, ks], w[ks]))


def _pieces(x: Int) -> Iterator[tuple[int, F64]]:
    """``x`` as the sum of ``piece << at``, pieces of 20 bits."""
    for at in (0, 20, 40):
        yield at, (x >> at if at == 40 else x >> at & 0xFFFFF).astype(np.float64)


def _beyond(spec: "MixPESpec", special: NDArray[np.bool_], x: Int, w: F64) -> F32:
    """The sum of the products of special activations; NaN for all of them where the format adds a zero point or a
    minimum, which multiply the same infinities by other factors."""
    if not special.any():
        return np.zeros((1, 1), dtype=np.float32)
    if spec.weight_format.correction != "none":
        return np.where(special.any(axis=1, keepdims=True), np.float32(np.nan), np.float32(0))
    signs = np.where(special, x, 0).astype(np.float64)
    up = (np.maximum(signs, 0) @ np.maximum(w, 0) + np.maximum(-signs, 0) @ np.maximum(-w, 0)) > 0
    down = (np.maximum(signs, 0) @ np.maximum(-w, 0) + np.maximum(-signs, 0) @ np.maximum(w, 0)) > 0
    nan = special.astype(np.float64) @ (w == 0) + (special & (x == 0)).sum(axis=1, keepdims=True) > 0
    value = np.where(up, np.inf, 0) + np.where(down, -np.inf, 0)
    return np.where(nan, np.nan, value).astype(np.float32)


def _exact(spec: "MixPESpec", job: Gemm) -> tuple[Int, F32]:
    """Sum over groups on the grid ``2**spec.grid_exponent``, in limbs, and what is beyond the finite."""
    m, _, n = job.shape
    total = np.zeros((LIMBS, m, n), dtype=np.int64)
    beyond = np.zeros((m, n), dtype=np.float32)
    fmt, acts = spec.scale_format, _activations(spec, job)
    for g, (a, s, special) in enumerate(_group_sums(spec, job, acts)):
        factors = [(job.scale[g], a)]
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            factors.append((job.extra[g], np.broadcast_to(s, a.shape)))
        up = acts.up[:, g : g + 1] - spec.exponents[0]
        for scale, value in factors:
            significands, shifts = fmt.parts(fmt.code(np.where(np.isfinite(scale), scale, 0).astype(fmt.dtype)))
            total += shifted(significands * value, shifts + up)
            factor = np.where(special == 0, value.astype(np.float32), special)
            finite = np.isfinite(scale) & np.isfinite(factor)
            beyond += np.where(finite, np.float32(0), scale.astype(np.float32) * factor)
    return total, beyond


def _rounded(spec: "MixPESpec", job: Gemm) -> F32:
    """The exact sum over groups, rounded once."""
    total, beyond = _exact(spec, job)
    return np.where(beyond == 0, round_fp32(total, spec.grid_exponent), beyond)


def _fp32(spec: "MixPESpec", job: Gemm) -> F32:
    """Groups ascending, every step rounded to FP32."""
    m, _, n = job.shape
    total = np.zeros((m, n), dtype=np.float32)
    acts = _activations(spec, job)

    def rounded(sums: Int, special: F32, up: Any) -> F32:
        # sums of more than 53 bits have no subnormal results, others are exact in float64: one rounding each
        wide = sums.astype(np.float32 if spec.corrected_width > 53 else np.float64)
        return np.where(special == 0, np.ldexp(wide, up).astype(np.float32), special)

    for g, (a, s, special) in enumerate(_group_sums(spec, job, acts)):
        up = spec.sum_exponent + acts.up[:, g : g + 1]
        term = job.scale[g].astype(np.float32) * rounded(a, special, up)
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            term = term + job.extra[g].astype(np.float32) * rounded(s, special, up)
        total = total + term
    return total


def _scaled(spec: "MixPESpec", job: Gemm, total: NDArray[Any]) -> NDArray[Any]:
    """Times the channels' scales, then the tokens', in the type of ``total``."""
    if spec.channel_scaled:
        assert job.channel is not None
        total = total * job.channel.astype(total.dtype)
    if spec.act_scale == "token":
        assert job.x_scale is not None
        total = total * job.x_scale.astype(total.dtype)[:, None]
    return total


def _real_weights(spec: "MixPESpec", job: Gemm) -> F64:
    """Dequantised weights but for their channel's scale."""
    g, f = _group_of(spec, job.shape[1]), spec.weight_format
    codes = f.operand(job.w) + f.offset
    if f.correction == "zero":
        assert job.extra is not None
        codes = codes - job.extra.astype(np.int64)[g]
    w = np.ldexp(codes * job.scale.astype(np.float64)[g], f.exponent)
    if f.correction == "min":
        assert job.extra is not None
        w = w + job.extra.astype(np.float64)[g]
    return w


def _real_activations(spec: "MixPESpec", job: Gemm) -> F64:
    """Activations but for their token's scale."""
    significand, shift = spec.stream_format.parts(job.x)
    x = np.ldexp(significand.astype(np.float64), (shift + spec.stream_format.exponent).astype(np.int32))
    if spec.act_scale != "pow2":
        return x
    assert job.x_scale is not None
    return x * np.ldexp(1.0, job.x_scale)[:, _group_of(spec, job.shape[1])]
