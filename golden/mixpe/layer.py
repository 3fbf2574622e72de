"""Real linear layers as jobs of the GEMM engine."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import q4_1, quantize
from golden.formats import OUTPUTS
from golden.mixpe import model
from golden.mixpe.formats import ACT_FLOATS
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.spec import SpecError

EIGHT_BITS = (OUTPUTS["int8"], OUTPUTS["int8_sym"])


class RealGemm(NamedTuple):
    """A real layer as a job. Its results times ``factor`` (broadcast over ``[M, N]``) are the layer's: raw and 8-bit
    results leave scales to their reader."""

    job: Gemm
    factor: NDArray[np.float64]


def gemm(spec: MixPESpec, x: NDArray[np.floating[Any]], matrix: q4_1.Matrix) -> Gemm:
    """The job of :func:`real_gemm`."""
    return real_gemm(spec, x, matrix).job


def real_gemm(spec: MixPESpec, x: NDArray[np.floating[Any]], matrix: q4_1.Matrix) -> RealGemm:
    """``y = x @ W.T`` for real activations ``x[M, K]`` and a stored matrix of N outputs, in the formats of ``spec``.

    Weights with a float minimum are taken as stored (groups of 32); other formats are quantised again from the stored
    values. Activations are quantised per token, or per token and group with powers of two; floating-point ones are
    rounded, or scaled per token to the format's range. The FP32 factor that NVFP4 has per tensor joins the tokens'
    scales, and so does the scale of 8-bit results, whose largest of each token is 127.

    Raises :class:`~golden.spec.SpecError` where the stored groups do not fit and where K is beyond ``k_max``.
    """
    codes: NDArray[Any]
    extra: NDArray[Any] | None = None
    channel: NDArray[Any] | None = None
    tensor = 1.0
    if spec.weight_format.correction == "min":
        if spec.group != q4_1.GROUP:
            raise SpecError(f"group must be {q4_1.GROUP}, as the weights are stored, not {spec.group}")
        codes, scale, extra = matrix.codes.T, _values(spec, matrix.d.T), _values(spec, matrix.m.T)
    elif spec.weight_format.magnitudes:
        if spec.scale_format.integer:
            raise SpecError(f"scale must be a floating-point format for real weights as e2m1, not {spec.scale!r}")
        codes, scale, tensor = quantize.quantise_e2m1(q4_1.dequantise(*matrix).T, spec.group, spec.scale)
    else:
        quantised = quantize.quantise_weights(q4_1.dequantise(*matrix).T, spec.weight, spec.group, spec.scale)
        codes, scale, channel = quantised.codes, quantised.scale, quantised.channel
        extra = quantised.zero if spec.weight_format.correction == "zero" else None
    x_codes, x_scale = _activations(spec, x)
    tokens: Any = tensor if x_scale is None else x_scale.astype(np.float64) * tensor
    factor = np.ones((1, 1))
    if spec.act_scale == "pow2" and (tensor != 1 or spec.out_format in EIGHT_BITS):
        raise SpecError(f"act_scale must be token for real layers with {_scaled(spec)}, not pow2")
    if spec.out_format in EIGHT_BITS:
        most = np.abs(x @ q4_1.dequantise(*matrix).T).max(axis=1).astype(np.float64)
        factor = np.where(most > 0, most / 127, 1)[:, None]
        tokens = tokens / factor[:, 0]
    if spec.act_scale == "none":
        if np.any(tokens != 1) and not spec.raw:
            raise SpecError(f"act_scale must be token for real layers with {_scaled(spec)}, not none")
        x_scale = None
    elif spec.act_scale == "token":
        x_scale = tokens.astype(np.float32)
    if spec.raw:
        factor = np.reshape(tokens, (-1, 1)) * (1 if channel is None else channel.astype(np.float64))
        channel = None
    job = Gemm(x=x_codes, w=codes, scale=scale, extra=extra, x_scale=x_scale, channel=channel)
    model.check(spec, job)
    return RealGemm(job, factor)


def _scaled(spec: MixPESpec) -> str:
    """What of the formats needs scales per token."""
    if spec.out_format in EIGHT_BITS:
        return f"out {spec.out}"
    return f"scale {spec.scale}" if spec.weight_format.magnitudes else f"act {spec.act}"


def _values(spec: MixPESpec, scale: NDArray[Any]) -> NDArray[Any]:
    """Stored scales or minima in the format of ``spec``."""
    return spec.scale_format.rounded(scale).astype(spec.scale_format.dtype)


def _activations(spec: MixPESpec, x: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], Any]:
    """Codes and scales of real activations; floating-point ones have none unless ``spec`` asks for them."""
    name = spec.stream_format.name
    if spec.act_format.floating:
        if spec.act_scale == "none":
            return quantize.float_codes(x, name), None
        most = np.abs(x).max(axis=1).astype(np.float64)
        # to the largest number; of a format with FP32's exponents to 1, or sums would overflow
        top = ACT_FLOATS[name].largest if ACT_FLOATS[name].exact else 1.0
        scale = np.where(most > 0, most / top, 1).astype(np.float32)
        return quantize.float_codes(x / scale.astype(np.float64)[:, None], name), scale
    if spec.act_scale == "pow2":
        grouped = quantize.quantise_tokens_pow2(x, spec.group, spec.act)
        return grouped.codes, grouped.exponent
    tokens = quantize.quantise_tokens(x, spec.act)
    return tokens.codes, tokens.scale


def sqnr(reference: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> float:
    """Signal to quantisation noise in dB: ``10 log10(sum ref^2 / sum (y - ref)^2)``."""
    noise = np.square(y.astype(np.float64) - reference).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))
