"""Arithmetic of the GEMM engine: the bit-true model, the real-valued reference and the budget between them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import ACTS, EXPONENTS, ScaleFormat
from golden.mixpe.job import Gemm
from golden.numerics import LIMBS, canonical, round_fp32, shifted
from golden.spec import SpecError

if TYPE_CHECKING:
    from golden.mixpe.gemm import MixPESpec

Int = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def compute(spec: "MixPESpec", job: Gemm) -> F32:
    """What the RTL must equal, bit for bit: ``float32[M, N]``."""
    check(spec, job)
    with np.errstate(all="ignore"):
        total = _exact(spec, job) if spec.accumulate == "exact" else _fp32(spec, job)
        if spec.act_scale == "token":
            assert job.x_scale is not None
            total = total * job.x_scale[:, None]
        return spec.out_format.rounded(canonical(total))


def reference(spec: "MixPESpec", job: Gemm) -> F64:
    """The same product in float64 from dequantised operands."""
    g = _group_of(spec, job.shape[1])
    f = spec.weight_format
    codes = f.operand(job.w) + f.offset - _zero(spec, job)[g]
    w = np.ldexp(codes * job.scale.astype(np.float64)[g], f.exponent)
    if spec.weight_format.correction == "min":
        assert job.extra is not None
        w = w + job.extra.astype(np.float64)[g]
    return _real_activations(spec, job, g) @ w


def budget(spec: "MixPESpec", job: Gemm) -> F64:
    """Largest ``|compute - reference|``, for finite operands and results above 2^-126.

    ``exact``: two roundings of the result (one with powers of two), each at most 2^-24 of it. ``fp32``: every term
    passes at most groups + 5 roundings, so that many times 2^-24 of the sum of absolute terms; a term is
    ``|scale*A|`` or ``|min*S|``. Both with 1 % and float64's own error on top. A narrower result adds half of its last
    place, or of the smallest step of its format.
    """
    m, k, n = job.shape
    terms = np.zeros((m, n))
    for g, (a, s, _) in enumerate(_group_sums(spec, job)):
        factor = np.ldexp(1.0, spec.sum_exponent + _up(spec, job, g))
        terms += factor * np.abs(a * job.scale[g].astype(np.float64))
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            terms += factor * np.abs(s * job.extra[g].astype(np.float64))
    if spec.act_scale == "token":
        assert job.x_scale is not None
        terms *= np.abs(job.x_scale.astype(np.float64))[:, None]
    out = spec.out_format
    last_place = np.ldexp(np.abs(reference(spec, job)), -1 - out.fraction_bits) if out.name != "fp32" else 0.0
    last_place = np.maximum(last_place, np.ldexp(1.0, -out.bias - out.fraction_bits)) if out.name != "fp32" else 0.0
    if spec.accumulate == "exact":
        rounding = 2 * 2.0**-24 * np.abs(reference(spec, job))
    else:
        rounding = (len(job.scale) + 5) * 2.0**-24 * terms
    return 1.01 * (rounding + last_place) + k * 2.0**-50 * terms


def padding(spec: "MixPESpec", job: Gemm, result: F32) -> F32:
    """``result`` with one more row and column: what the unused rows and columns of a partial tile give.

    They are fed zeros, but a zero times an infinite scale is NaN, and times a negative one -0.
    """
    k = job.shape[1]
    none_w, none_x = np.zeros((k, 1), np.int64), np.zeros((1, k), np.int64)
    least = spec.scale_format.value(np.zeros((len(job.scale), 1), np.int64)).astype(job.scale.dtype)
    column = Gemm(
        x=job.x,
        w=none_w,
        scale=least,
        extra=None if job.extra is None else np.zeros_like(job.extra[:, :1]),
        x_scale=job.x_scale,
    )
    x_scale = None if job.x_scale is None else np.zeros_like(job.x_scale[:1])
    row = Gemm(x=none_x, w=job.w, scale=job.scale, extra=job.extra, x_scale=x_scale)
    corner = Gemm(x=none_x, w=none_w, scale=column.scale, extra=column.extra, x_scale=row.x_scale)
    return np.block([[result, compute(spec, column)], [compute(spec, row), compute(spec, corner)]])


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
    _range("x", job.x, *spec.act_format.codes)
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


def _values(name: str, a: Any, fmt: ScaleFormat) -> None:
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


def _group_sums(spec: "MixPESpec", job: Gemm) -> Iterator[tuple[Int, Int, F32]]:
    """For each group the integers that its scale and its minimum multiply, ``[M, N]`` and ``[M, 1]``, and what is
    beyond the finite in them, ``[M, N]``: an infinity, NaN, else 0.

    Operands are cut into pieces whose products and sums stay below 2^53, so that float64 (and with it the BLAS) is
    exact; integer activations are one piece.
    """
    f = spec.weight_format
    x = spec.act_format.operand(job.x)
    w = (f.operand(job.w) + f.offset).astype(np.float64)
    special = spec.act_format.special(job.x)
    pieces = [(0, x.astype(np.float64))] if not spec.act_format.floating else list(_pieces(x))
    for g, ks in enumerate(_groups(spec, job.shape[1])):
        a: Int = np.sum([(p[:, ks] @ w[ks]).astype(np.int64) << at for at, p in pieces], axis=0)
        s = x[:, ks].sum(axis=1, keepdims=True, dtype=np.int64)
        if f.correction == "zero":
            assert job.extra is not None
            a -= job.extra[g].astype(np.int64) * s
        yield a, s, _beyond(spec, special[:, ks], x[:, ks], w[ks])


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


def _exact(spec: "MixPESpec", job: Gemm) -> F32:
    """Sum over groups on the grid ``2**spec.grid_exponent``, rounded once."""
    m, _, n = job.shape
    total = np.zeros((LIMBS, m, n), dtype=np.int64)
    beyond = np.zeros((m, n), dtype=np.float32)
    fmt = ACTS[spec.scale]
    lowest = EXPONENTS[0] if spec.act_scale == "pow2" else 0
    for g, (a, s, special) in enumerate(_group_sums(spec, job)):
        factors = [(job.scale[g], a)]
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            factors.append((job.extra[g], np.broadcast_to(s, a.shape)))
        for scale, value in factors:
            codes = spec.scale_format.code(scale)
            significands, shifts = fmt.parts(np.where(fmt.special(codes), 0, codes))
            total += shifted(significands * value, shifts + _up(spec, job, g) - lowest)
            factor = np.where(special == 0, value.astype(np.float32), special)
            finite = np.isfinite(scale) & np.isfinite(factor)
            beyond += np.where(finite, np.float32(0), scale.astype(np.float32) * factor)
    return np.where(beyond == 0, round_fp32(total, spec.grid_exponent), beyond)


def _fp32(spec: "MixPESpec", job: Gemm) -> F32:
    """Groups ascending, every step rounded to FP32."""
    m, _, n = job.shape
    total = np.zeros((m, n), dtype=np.float32)
    for g, (a, s, special) in enumerate(_group_sums(spec, job)):
        up = spec.sum_exponent + _up(spec, job, g)
        sums = np.where(special == 0, np.ldexp(a.astype(np.float32), up), special)
        term = job.scale[g].astype(np.float32) * sums
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            sums = np.where(special == 0, np.ldexp(s.astype(np.float32), up), special)
            term = term + job.extra[g].astype(np.float32) * sums
        total = total + term
    return total


def _up(spec: "MixPESpec", job: Gemm, g: int) -> Any:
    """Exponents ``[M, 1]`` of the tokens' powers of two in group g; 0 where there are none."""
    if spec.act_scale != "pow2":
        return 0
    assert job.x_scale is not None
    return job.x_scale[:, g : g + 1].astype(np.int32)


def _zero(spec: "MixPESpec", job: Gemm) -> Int:
    """Zero points ``[groups, N]``; 0 where the format has none."""
    if spec.weight_format.correction == "zero":
        assert job.extra is not None
        return job.extra.astype(np.int64)
    return np.zeros(job.scale.shape, dtype=np.int64)


def _real_activations(spec: "MixPESpec", job: Gemm, g: Int) -> F64:
    x = np.ldexp(spec.act_format.operand(job.x).astype(np.float64), spec.act_format.exponent)
    if job.x_scale is None:
        return x
    scale = np.ldexp(1.0, job.x_scale)[:, g] if spec.act_scale == "pow2" else job.x_scale.astype(np.float64)[:, None]
    return x * scale
