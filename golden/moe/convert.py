"""A dense SwiGLU network into one shared block and routed experts, from activations alone: nothing is trained."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from golden.llama.forward import silu
from golden.moe import clusters, router
from golden.moe.ffn import Ffn, Int, Real, lengths
from golden.moe.spec import ConversionSpec
from golden.spec import SpecError


@dataclass(frozen=True, eq=False)
class Conversion:
    """Which neuron belongs where: a partition of 0 .. dh - 1."""

    spec: ConversionSpec
    shared: Int
    """``[shared * size]``: the shared block, most marked neuron first"""
    experts: Int
    """``[routed, size]``: the routed experts, neurons ascending"""
    representatives: Int
    """``[routed]``: a neuron of each expert, whose rows of gate and up are the router's"""
    threshold: float
    """score that ``active`` experts reach, on average over the calibration tokens"""
    unmarked: int
    """neurons that no calibration token marked"""

    @property
    def neurons(self) -> int:
        """dh."""
        return len(self.shared) + self.experts.size

    @property
    def size(self) -> int:
        """Neurons of a routed expert."""
        return self.experts.shape[1]

    @property
    def warning(self) -> str | None:
        """A sentence where the calibration says little."""
        if not self.unmarked:
            return None
        return f"{self.unmarked} of {self.neurons} neurons were never marked: where they went is arbitrary"

    @cached_property
    def owner(self) -> Int:
        """``[dh]``: the routed expert of each neuron, -1 for the shared block."""
        owner = np.full(self.neurons, -1, np.int64)
        owner[self.experts] = np.arange(len(self.experts))[:, None]
        return owner

    def with_router(self, **fields: object) -> "Conversion":
        """The same partition with other fields of the specification, such as ``selection``."""
        return replace(self, spec=ConversionSpec(**self.spec.values() | fields))


def convert(x: Real, ffn: Ffn, spec: ConversionSpec) -> Conversion:
    """Splits ``ffn`` by what it does with the calibration tokens ``x [q, d]``, the inputs of that very network.

    Each token marks the ``spec.markers`` neurons of largest magnitude. Those that were marked most make the shared
    block; the others are clustered (:func:`golden.moe.clusters.cluster`) into experts of equal size. Float64; integers
    from the marks on. The down matrix decides nothing.

    Source: CMoE, arXiv 2502.04416, and its authors' code: :data:`golden.moe.spec.PRESETS`. Not trained, so neither
    biases nor scales of the router come out of it.

    Raises :class:`~golden.spec.SpecError` where ``spec.experts`` does not divide dh, there are more markers than
    neurons, and for activations of another width, none, or such that are not finite.
    """
    size = spec.size(ffn.neurons)
    x = _checked(x, ffn)
    marked = clusters.marks(profile(x, ffn, spec.normalise), spec.markers)
    counts = marked.sum(axis=0, dtype=np.int64)
    shared = clusters.first(-counts, spec.shared * size).astype(np.int64)
    rest = np.setdiff1d(np.arange(ffn.neurons), shared)
    found = clusters.cluster(marked[:, rest], spec.routed, spec.distance, spec.iterations)
    representatives = rest[found.representatives]
    v = router.scores(x, ffn.part(representatives), spec)
    tau = router.threshold(v, spec.active)
    return Conversion(spec, shared, rest[found.members], representatives, tau, int((counts == 0).sum()))


def profile(x: Real, ffn: Ffn, normalise: bool) -> Real:
    """What marks are made from, ``[q, dh]``: the hidden values, or with ``normalise`` what they would be with tokens
    and rows of gate and up of unit length."""
    if not normalise:
        return ffn.hidden(x)
    a, e = (part / lengths(x)[:, None] for part in ffn.sums(x, unit=True))
    return silu(a) * e


def _checked(x: Real, ffn: Ffn) -> Real:
    width = ffn.gate.shape[1]
    if x.ndim != 2 or x.shape[1] != width or not len(x):
        raise SpecError(f"activations must be tokens of {width} values, not of shape {x.shape}")
    if not np.isfinite(x).all():
        raise SpecError(f"activations must be finite, not {x[~np.isfinite(x)][0]}")
    return x.astype(np.float64)
