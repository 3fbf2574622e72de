"""What stands for which unit."""

from collections.abc import Callable, Mapping
from typing import Any

from golden.kmeans.linear import KMeansLinearSpec
from golden.mixpe.gemm import MixPESpec
from golden.moe.layer import MoEFFNSpec
from golden.orizuru.engine import OrizuruSpec
from golden.soc.copy import CopySpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.gemm import Gemm
from golden.soc.cycles.linear import Linear
from golden.soc.cycles.moe import MoE
from golden.soc.cycles.parts import Clock
from golden.soc.cycles.topk import TopK
from golden.soc.cycles.unit import Unit
from golden.soc.kinds import Engine
from golden.spec import SpecError, UnitSpec


class Copy(Unit):
    """A wire."""

    def __init__(self, clock: Clock, spec: CopySpec):
        pass

    def begin(self, job: Any, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        self._i, self._o = sources["i"], sinks["o"]

    def cycle(self, complete: bool) -> None:
        if self._i.valid and self._o.ready:
            self._i.take()
            self._o.put()


_MODELS: Mapping[type[UnitSpec], Callable[[Clock, Any], Unit]] = {
    CopySpec: Copy,
    MixPESpec: Gemm,
    KMeansLinearSpec: Linear,
    OrizuruSpec: TopK,
    MoEFFNSpec: MoE,
}

_NOT_COUNTED: Mapping[str, Mapping[str, Any]] = {
    "gemm": {"dataflow": "weight_stationary"},
    "topk": {"variant": "threshold"},
    "moe": {"routing": "table", "pruning": True, "weight": "mixed"},
}
"""Values of parameters."""


def model(clock: Clock, engine: Engine) -> Unit:
    """What stands for a unit; ``SpecError`` for one that is not counted."""
    for name, value in _NOT_COUNTED.get(engine.name, {}).items():
        if getattr(engine.spec, name) == value:
            raise SpecError(f"{name} of {engine.name} must not be {value!r} where cycles are counted")
    return _MODELS[type(engine.spec)](clock, engine.spec)
