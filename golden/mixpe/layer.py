"""Real linear layers as jobs of the GEMM engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import q4_1, quantize
from golden.mixpe import model
from golden.mixpe.formats import FLOATS
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.spec import SpecError


def gemm(spec: MixPESpec, x: NDArray[np.floating[Any]], matrix: q4_1.Matrix) -> Gemm:
    """``y = x @ W.T`` for real activations ``x[M, K]`` and a stored matrix of N outputs, in the formats of ``spec``.

    Weights with a float minimum are taken as stored (groups of 32); other formats are quantised again from the stored
    values. Activations are quantised per token, or per token and group with powers of two.

    Raises :class:`~golden.spec.SpecError` where the stored groups do not fit and where K is beyond ``k_max``.
    """
    codes: NDArray[Any]
    extra: NDArray[Any] | None
    if spec.weight_format.correction == "min":
        if spec.group != q4_1.GROUP:
            raise SpecError(f"group must be {q4_1.GROUP}, as the weights are stored, not {spec.group}")
        codes, scale, extra = matrix.codes.T, matrix.d.T, matrix.m.T.astype(FLOATS[spec.scale])
    else:
        quantised = quantize.quantise_weights(q4_1.dequantise(*matrix).T, spec.weight, spec.group)
        codes, scale = quantised.codes, quantised.scale
        extra = quantised.zero if spec.weight_format.correction == "zero" else None
    pow2 = spec.act_scale == "pow2"
    tokens = quantize.quantise_tokens_pow2(x, spec.group) if pow2 else quantize.quantise_tokens(x)
    job = Gemm(x=tokens.codes, w=codes, scale=scale.astype(FLOATS[spec.scale]), extra=extra, x_scale=tokens[1])
    model.check(spec, job)
    return job


def sqnr(reference: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> float:
    """Signal to quantisation noise in dB: ``10 log10(sum ref^2 / sum (y - ref)^2)``."""
    noise = np.square(y.astype(np.float64) - reference).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))
