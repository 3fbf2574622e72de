"""The model with its matrices as jobs of engines: the blocks' in W4A8, the head in W8A8.

Embedding, norms, rotary embedding, attention's products and softmax, SiLU and sums of the residual stay in float32.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import q4_1, q8_0, quantize
from golden.llama.approximate import INPUT, Place
from golden.llama.forward import Array, Llama, Observer
from golden.llama.weights import ModelFile, Weights
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.mixpe.layer import gemm
from golden.spec import UnitSpec

Compute = Callable[[Any, Any], Any]
"""The result of a job by the unit of that specification, which comes first."""

PIECE = 8192
"""Outputs of the head that are one job: a limit to the memory that its golden model takes."""


def golden(spec: UnitSpec, job: Any) -> Any:
    """By the bit-true model."""
    return spec.compute(job)


class Engines(NamedTuple):
    """``prompt`` computes the blocks' matrices for several tokens, ``token`` for one, ``head`` the logits."""

    prompt: MixPESpec
    token: MixPESpec
    head: MixPESpec


class Parts(NamedTuple):
    """What a model file has, as stored: matrices and norms by layer and name, and the head."""

    matrices: Mapping[Place, q4_1.Matrix]
    norms: Mapping[Place, NDArray[np.float32]]
    head: q8_0.Matrix

    @classmethod
    def of(cls, file: ModelFile) -> "Parts":
        """:class:`~golden.spec.SpecError` where a matrix is in another format."""
        layers = range(file.config.layers)
        return cls(
            {(i, name): file.matrix(i, name) for i in layers for name in INPUT},
            {(i, name): file.part(i, name) for i in layers for name in ("attn_norm", "ffn_norm")},
            file.head(),
        )


class Quantised(Llama):
    """Activations are quantised per token to INT8, weights are as stored; ``compute`` does the rest.

    Of ``weights`` the layers are not touched: they would be dequantised.

    Two models differ in nothing but ``compute``: where one's results are the other's bit for bit, logits are.
    """

    def __init__(
        self,
        weights: Weights,
        parts: Parts,
        engines: Engines,
        compute: Compute = golden,
        observe: Observer | None = None,
    ) -> None:
        super().__init__(weights, observe=observe)
        self.parts, self.engines, self.compute = parts, engines, compute

    def linear(self, layer: int, name: str, x: Array) -> Array:
        spec = self.engines.token if len(x) == 1 else self.engines.prompt
        y: Array = self.compute(spec, gemm(spec, x, self.parts.matrices[layer, name]))
        return y

    def logits(self, hidden: Array) -> Array:
        spec, (codes, d) = self.engines.head, self.parts.head
        x = quantize.quantise_tokens(hidden, spec.act)
        pieces = (slice(n, n + PIECE) for n in range(0, len(codes), PIECE))
        jobs = (Gemm(x=x.codes, w=codes[n].T, scale=d[n].T, x_scale=x.scale) for n in pieces)
        return np.concatenate([self.compute(spec, job) for job in jobs], axis=1)

    def _parameter(self, layer: int, name: str) -> Array:
        return self.parts.norms[layer, name]
