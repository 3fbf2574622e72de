"""Arithmetic of the GEMM engine: the bit-true model, the real-valued reference and the budget between them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import EXPONENTS, FLOATS
from golden.mixpe.job import Gemm
from golden.numerics import LIMBS, canonical, round_fp32, shifted, significand, specials
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
            total = total * job.x_scale[:, None]
    return canonical(total)


def reference(spec: "MixPESpec", job: Gemm) -> F64:
    """The same product in float64 from dequantised operands."""
    g = _group_of(spec, job.shape[1])
    w = (job.w - _zero(spec, job)[g]) * job.scale.astype(np.float64)[g]
    if spec.weight_format.correction == "min":
        assert job.extra is not None
        w = w + job.extra.astype(np.float64)[g]
    return _real_activations(spec, job, g) @ w


def budget(spec: "MixPESpec", job: Gemm) -> F64:
    """Largest ``|compute - reference|``, for finite operands and results above 2^-126.

    ``exact``: two roundings of the result (one with powers of two), each at most 2^-24 of it. ``fp32``: every term
    passes at most groups + 5 roundings, so that many times 2^-24 of the sum of absolute terms; a term is
    ``|scale*A|`` or ``|min*S|``. Both with 1 % and float64's own error on top.
    """
    m, k, n = job.shape
    terms = np.zeros((m, n))
    for g, (a, s) in enumerate(_group_sums(spec, job)):
        factor = np.ldexp(1.0, job.x_scale[:, g : g + 1]) if spec.act_scale == "pow2" else 1.0
        terms += factor * np.abs(a * job.scale[g].astype(np.float64))
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            terms += factor * np.abs(s * job.extra[g].astype(np.float64))
    if spec.act_scale == "token":
        terms *= np.abs(job.x_scale.astype(np.float64))[:, None]
    if spec.accumulate == "exact":
        rounding = 2 * 2.0**-24 * np.abs(reference(spec, job))
    else:
        rounding = (len(job.scale) + 5) * 2.0**-24 * terms
    return 1.01 * rounding + k * 2.0**-50 * terms


def padding(spec: "MixPESpec", job: Gemm, result: F32) -> F32:
    """``result`` with one more row and column: what the unused rows and columns of a partial tile give.

    They are fed zeros, but a zero times an infinite scale is NaN, and times a negative one -0.
    """
    k = job.shape[1]
    none_w, none_x = np.zeros((k, 1), np.int64), np.zeros((1, k), np.int64)
    column = Gemm(
        x=job.x,
        w=none_w,
        scale=np.zeros_like(job.scale[:, :1]),
        extra=None if job.extra is None else np.zeros_like(job.extra[:, :1]),
        x_scale=job.x_scale,
    )
    row = Gemm(x=none_x, w=job.w, scale=job.scale, extra=job.extra, x_scale=np.zeros_like(job.x_scale[:1]))
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
    _range("x", job.x, spec.act_format.low, spec.act_format.high)
    _range("w", job.w, spec.weight_format.low, spec.weight_format.high)
    _array("scale", job.scale, (groups, n), FLOATS[spec.scale])
    correction = spec.weight_format.correction
    if (job.extra is None) != (correction == "none"):
        raise SpecError(
            f"extra must {'be None' if correction == 'none' else 'be given'} for weight format {spec.weight}"
        )
    if correction == "min":
        _array("extra", job.extra, (groups, n), FLOATS[spec.scale])
    elif correction == "zero":
        _array("extra", job.extra, (groups, n), None)
        _range("extra", job.extra, spec.weight_format.low, spec.weight_format.high)
    if spec.act_scale == "token":
        _array("x_scale", job.x_scale, (m,), np.float32)
    else:
        _array("x_scale", job.x_scale, (m, groups), None)
        _range("x_scale", job.x_scale, *EXPONENTS)


def _array(name: str, a: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if a.shape != shape:
        raise SpecError(f"{name} must have shape {list(shape)}, not {list(a.shape)}")
    if dtype is not None and a.dtype != dtype:
        raise SpecError(f"{name} must be of type {np.dtype(dtype)}, not {a.dtype}")


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


def _group_sums(spec: "MixPESpec", job: Gemm) -> Iterator[tuple[Int, Int]]:
    """For each group the integers that its scale and its minimum multiply: ``[M, N]`` and ``[M, 1]``.

    Products and sums stay below 2^53, so float64 (and with it the BLAS) is exact.
    """
    x, w = job.x.astype(np.float64), job.w.astype(np.float64)
    for g, ks in enumerate(_groups(spec, job.shape[1])):
        a = (x[:, ks] @ w[ks]).astype(np.int64)
        s = job.x[:, ks].sum(axis=1, keepdims=True, dtype=np.int64)
        if spec.weight_format.correction == "zero":
            assert job.extra is not None
            a -= job.extra[g].astype(np.int64) * s
        yield a, s


def _exact(spec: "MixPESpec", job: Gemm) -> F32:
    """Sum over groups on the grid ``2**spec.grid_exponent``, rounded once."""
    m, _, n = job.shape
    total = np.zeros((LIMBS, m, n), dtype=np.int64)
    beyond = np.zeros((m, n), dtype=np.float32)
    scale, extra = _fp16_bits(job.scale), _fp16_bits(job.extra)
    for g, (a, s) in enumerate(_group_sums(spec, job)):
        up = job.x_scale[:, g : g + 1].astype(np.int64) - EXPONENTS[0] if spec.act_scale == "pow2" else np.int64(0)
        factors = [(scale, a)]
        if spec.weight_format.correction == "min":
            factors.append((extra, np.broadcast_to(s, a.shape)))
        for bits, value in factors:
            significands, exponents = significand(bits[g])
            total += shifted(significands * value, exponents + up)
            beyond += specials(bits[g], value)
    return np.where(beyond == 0, round_fp32(total, spec.grid_exponent), beyond)


def _fp32(spec: "MixPESpec", job: Gemm) -> F32:
    """Groups ascending, every step rounded to FP32."""
    m, _, n = job.shape
    total = np.zeros((m, n), dtype=np.float32)
    for g, (a, s) in enumerate(_group_sums(spec, job)):
        up = job.x_scale[:, g : g + 1] if spec.act_scale == "pow2" else 0
        term = job.scale[g].astype(np.float32) * np.ldexp(a.astype(np.float32), up)
        if spec.weight_format.correction == "min":
            assert job.extra is not None
            term = term + job.extra[g].astype(np.float32) * np.ldexp(s.astype(np.float32), up)
        total = total + term
    return total


def _fp16_bits(a: NDArray[Any] | None) -> Int:
    return np.zeros(0, np.int64) if a is None or a.dtype != np.float16 else a.view(np.uint16).astype(np.int64)


def _zero(spec: "MixPESpec", job: Gemm) -> Int:
    """Zero points ``[groups, N]``; 0 where the format has none."""
    if spec.weight_format.correction == "zero":
        assert job.extra is not None
        return job.extra.astype(np.int64)
    return np.zeros(job.scale.shape, dtype=np.int64)


def _real_activations(spec: "MixPESpec", job: Gemm, g: Int) -> F64:
    scale = np.ldexp(1.0, job.x_scale)[:, g] if spec.act_scale == "pow2" else job.x_scale.astype(np.float64)[:, None]
    return job.x * scale
