"""What a conversion of a dense feed-forward network into experts is described by."""

import re
from collections.abc import Mapping
from typing import Any

from golden.spec import Spec, SpecError, param

DISTANCES = ("l1", "l2", "l2_squared")
SCORES = ("abs", "signed")
ROWS = ("unit", "raw")
SELECTIONS = ("topk", "threshold")

MOST_EXPERTS = 1 << 12
MOST_NEURONS = 1 << 20


class ConversionSpec(Spec):
    """Splits the dh neurons of a SwiGLU network into ``experts`` of equal size; ``shared`` of them serve every token,
    as one block, the others are routed: a token uses ``active`` of them, or those that reach a threshold.

    ``markers`` to ``rows`` are where the publication (CMoE, arXiv 2502.04416) and its authors' code differ, or leave
    something open; :data:`PRESETS` has both. The last four are choices of this project's; the presets have them as
    published.

    Raises :class:`~golden.spec.SpecError` where nothing would be routed, where more are active than routed, and for
    bounds of a threshold that no token can keep.
    """

    experts: int = param(8, "experts, shared ones included", low=2, high=MOST_EXPERTS)
    shared: int = param(3, "experts that serve every token, as one block", low=1, high=MOST_EXPERTS)
    active: int = param(3, "routed experts of a token, with a threshold on average", low=1, high=MOST_EXPERTS)
    markers: int = param(10, "neurons that a calibration token marks: the largest", low=1, high=MOST_NEURONS)
    iterations: int = param(1, "assignments at most; it ends where one changes nothing", low=1, high=1000)
    normalise: bool = param(True, "what marks comes from tokens and weight rows of unit length")
    distance: str = param("l1", "from a neuron's marks to a centroid: assignment, representative", choices=DISTANCES)
    score: str = param("abs", "what ranks experts: the representative's silu(a)*e, or its magnitude", choices=SCORES)
    rows: str = param("unit", "the router's rows: the representatives', of unit length or as they are", choices=ROWS)
    softmax: bool = param(True, "probabilities in place of scores; they differ with a bias or a scale only")
    selection: str = param("topk", "the best, or those that reach the layer's threshold", choices=SELECTIONS)
    least: int = param(0, "with a threshold: routed experts of a token at least", low=0, high=MOST_EXPERTS)
    most: int = param(None, "with a threshold: routed experts of a token at most", low=1, high=MOST_EXPERTS)

    def _derive(self) -> dict[str, Any]:
        return {"most": max(1, self.routed)}

    def _check(self) -> None:
        if self.routed < 1:
            raise SpecError(f"shared must be less than experts ({self.experts}), not {self.shared}")
        if self.active > self.routed:
            raise SpecError(f"active must be at most experts - shared ({self.routed}), not {self.active}")
        if not self.least <= self.most <= self.routed:
            rule = f"least and most must be ordered and at most experts - shared ({self.routed})"
            raise SpecError(f"{rule}, not {self.least} and {self.most}")

    @property
    def routed(self) -> int:
        """Experts that are not shared."""
        return self.experts - self.shared

    @property
    def name(self) -> str:
        """As publications write it: ``S3A3E8`` has 3 shared, 3 active, 8 experts in all."""
        return f"S{self.shared}A{self.active}E{self.experts}"

    def size(self, neurons: int) -> int:
        """Neurons of an expert, of a network with so many; :class:`~golden.spec.SpecError` where they cannot be split
        evenly, or are fewer than a token's markers."""
        if neurons % self.experts:
            raise SpecError(f"experts must divide the layer's {neurons} neurons, not {self.experts}")
        if self.markers > neurons:
            raise SpecError(f"markers must be at most the layer's {neurons} neurons, not {self.markers}")
        return neurons // self.experts


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "code": {"experts": 16, "shared": 2, "active": 2},
    "paper": {
        "iterations": 100,
        "normalise": False,
        "distance": "l2",
        "score": "signed",
        "rows": "raw",
    },
}
"""What differs from the defaults. The code converts once per layer, the paper until nothing moves any more."""


def shape(name: str) -> dict[str, int]:
    """``S3A3E8`` as fields; :class:`~golden.spec.SpecError` for another kind of name."""
    found = re.fullmatch(r"S(\d{1,4})A(\d{1,4})E(\d{1,4})", name, re.ASCII)
    if not found:
        raise SpecError(f"moe must be a name like S3A3E8 (shared, active, experts in all), not {name!r}")
    return dict(zip(("shared", "active", "experts"), map(int, found.groups()), strict=True))


def preset(name: str) -> dict[str, Any]:
    """The fields of a preset; :class:`~golden.spec.SpecError` for an unknown one."""
    if name not in PRESETS:
        raise SpecError(f"variant must be one of {', '.join(PRESETS)}, not {name!r}")
    return dict(PRESETS[name])
