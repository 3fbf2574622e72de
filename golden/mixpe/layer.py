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
    weights = _weights(spec, matrix)
    x_codes, x_scale = _activations(spec, x)
    outputs = _output_scales(spec, x, matrix)
    factor = np.reshape(outputs, (-1, 1))
    if spec.act_scale == "pow2":
        if weights.tensor != 1 or spec.out_format in EIGHT_BITS:
            raise SpecError(f"act_scale must be token for real layers with {_scaled(spec)}, not pow2")
    else:
        tokens = (np.ones(1) if x_scale is None else x_scale.astype(np.float64)) * weights.tensor / outputs
        if spec.raw:
            factor = tokens[:, None] * (1 if weights.channel is None else weights.channel.astype(np.float64))
        elif spec.act_scale == "none" and np.any(tokens != 1):
            raise SpecError(f"act_scale must be token for real layers with {_scaled(spec)}, not none")
        x_scale = np.resize(tokens, len(x)).astype(np.float32) if spec.act_scale == "token" else None
    channel = weights.channel if spec.channel_scaled else None
    job = Gemm(x=x_codes, w=weights.codes, scale=weights.scale, extra=weights.extra, x_scale=x_scale, channel=channel)
    model.check(spec, job)
    return RealGemm(job, factor)


def _output_scales(spec: MixPESpec, x: NDArray[np.floating[Any]], matrix: q4_1.Matrix) -> NDArray[np.float64]:
    """Of 8-bit results, per token: the largest becomes 127. Others have none."""
    if spec.out_format not in EIGHT_BITS:
        return np.ones(1)
    most = np.abs(x @ q4_1.dequantise(*matrix).T).max(axis=1).astype(np.float64)
    return np.where(most > 0, most / 127, 1)


class RealWeights(NamedTuple):
    """Weights as a job has them, their channels' scales, and a factor of all of them."""

    codes: NDArray[Any]
    scale: NDArray[Any]
    extra: NDArray[Any] | None = None
    channel: NDArray[Any] | None = None
    tensor: float = 1.0


def _weights(spec: MixPESpec, matrix: q4_1.Matrix) -> RealWeights:
    """The stored weights in the format of ``spec``."""
    if spec.weight_format.correction == "min":
        if spec.group != q4_1.GROUP:
            raise SpecError(f"group must be {q4_1.GROUP}, as the weights are stored, not {spec.group}")
        return RealWeights(matrix.codes.T, _values(spec, matrix.d.T), _values(spec, matrix.m.T))
    values = q4_1.dequantise(*matrix).T
    if spec.weight_format.magnitudes:
        if spec.scale_format.integer:
            raise SpecError(f"scale must be a floating-point format for real weights as e2m1, not {spec.scale!r}")
        microscaled = quantize.quantise_e2m1(values, spec.group, spec.scale)
        return RealWeights(microscaled.codes, microscaled.scale, tensor=microscaled.tensor)
    q = quantize.quantise_weights(values, spec.weight, spec.group, spec.scale)
    return RealWeights(q.codes, q.scale, q.zero if spec.weight_format.correction == "zero" else None, q.channel)


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
