"""Real linear layers as jobs of the GEMM engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import q4_1, quantize
from golden.mixpe import model
from golden.mixpe.formats import ACT_FLOATS
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.spec import SpecError


def gemm(spec: MixPESpec, x: NDArray[np.floating[Any]], matrix: q4_1.Matrix) -> Gemm:
    """``y = x @ W.T`` for real activations ``x[M, K]`` and a stored matrix of N outputs, in the formats of ``spec``.

    Weights with a float minimum are taken as stored (groups of 32); other formats are quantised again from the stored
    values. Activations are quantised per token, or per token and group with powers of two; floating-point ones are
    rounded, or scaled per token to the format's range. The FP32 factor that NVFP4 has per tensor joins the tokens'.

    Raises :class:`~golden.spec.SpecError` where the stored groups do not fit and where K is beyond ``k_max``.
    """
    codes: NDArray[Any]
    extra: NDArray[Any] | None = None
    tensor = 1.0
    if spec.weight_format.correction == "min":
        if spec.group != q4_1.GROUP:
            raise SpecError(f"group must be {q4_1.GROUP}, as the weights are stored, not {spec.group}")
        codes, scale, extra = matrix.codes.T, matrix.d.T, _values(spec, matrix.m.T)
    elif spec.weight_format.magnitudes:
        codes, scale, tensor = quantize.quantise_e2m1(q4_1.dequantise(*matrix).T, spec.group, spec.scale)
    else:
        quantised = quantize.quantise_weights(q4_1.dequantise(*matrix).T, spec.weight, spec.group, spec.scale)
        codes, scale = quantised.codes, quantised.scale
        extra = quantised.zero if spec.weight_format.correction == "zero" else None
    x_codes, x_scale = _activations(spec, x)
    if tensor != 1:
        if spec.act_scale != "token" or x_scale is None:
            raise SpecError(f"act_scale must be token for e2m1 with scale {spec.scale}, not {spec.act_scale}")
        x_scale = (x_scale * np.float64(tensor)).astype(np.float32)
    job = Gemm(x=x_codes, w=codes, scale=_values(spec, scale), extra=extra, x_scale=x_scale)
    model.check(spec, job)
    return job


def _values(spec: MixPESpec, scale: NDArray[Any]) -> NDArray[Any]:
    """Stored scales or minima in the format of ``spec``."""
    return spec.scale_format.rounded(scale).astype(spec.scale_format.dtype)


def _activations(spec: MixPESpec, x: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], Any]:
    """Codes and scales of real activations."""
    if spec.act_format.floating:
        if spec.act_scale == "none":
            return quantize.float_codes(x, spec.act), None
        most = np.abs(x).max(axis=1).astype(np.float64)
        scale = np.where(most > 0, most / ACT_FLOATS[spec.act].largest, 1).astype(np.float32)
        return quantize.float_codes(x / scale.astype(np.float64)[:, None], spec.act), scale
    if spec.act_scale == "none":
        raise SpecError(f"act_scale must be token or pow2 for real activations as {spec.act}, not none")
    if spec.act_scale == "pow2":
        grouped = quantize.quantise_tokens_pow2(x, spec.group, spec.act)
        return grouped.codes, grouped.exponent
    tokens = quantize.quantise_tokens(x, spec.act)
    return tokens.codes, tokens.scale


def sqnr(reference: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> float:
    """Signal to quantisation noise in dB: ``10 log10(sum ref^2 / sum (y - ref)^2)``."""
    noise = np.square(y.astype(np.float64) - reference).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))
