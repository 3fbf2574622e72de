"""The model with its matrices as jobs of engines: the blocks' in W4A8, the head in W8A8.

Embedding, norms, rotary embedding, attention's products and softmax, SiLU and sums of the residual stay in float32.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

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


class Matrices(NamedTuple):
    """As stored, by layer and name; and the head."""

    blocks: Mapping[Place, q4_1.Matrix]
    head: q8_0.Matrix

    @classmethod
    def of(cls, file: ModelFile) -> "Matrices":
        """:class:`~golden.spec.SpecError` where a matrix is in another format."""
        return cls({(i, name): file.matrix(i, name) for i in range(file.config.layers) for name in INPUT}, file.head())


class Quantised(Llama):
    """Activations are quantised per token to INT8, weights are as stored; ``compute`` does the rest.

    Two models differ in nothing but ``compute``: where one's results are the other's bit for bit, logits are.
    """

    def __init__(
        self,
        weights: Weights,
        matrices: Matrices,
        engines: Engines,
        compute: Compute = golden,
        observe: Observer | None = None,
    ) -> None:
        super().__init__(weights, observe=observe)
        self.matrices, self.engines, self.compute = matrices, engines, compute

    def linear(self, layer: int, name: str, x: Array) -> Array:
        spec = self.engines.token if len(x) == 1 else self.engines.prompt
        y: Array = self.compute(spec, gemm(spec, x, self.matrices.blocks[layer, name]))
        return y

    def logits(self, hidden: Array) -> Array:
        spec, (codes, d) = self.engines.head, self.matrices.head
        x = quantize.quantise_tokens(hidden, spec.act)
        pieces = (slice(n, n + PIECE) for n in range(0, len(codes), PIECE))
        jobs = (Gemm(x=x.codes, w=codes[n].T, scale=d[n].T, x_scale=x.scale) for n in pieces)
        return np.concatenate([self.compute(spec, job) for job in jobs], axis=1)
