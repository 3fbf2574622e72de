"""Units as their streams see them: what each takes and gives in every cycle."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from golden.kmeans.linear import KMeansLinearSpec
from golden.moe.layer import MoEFFNSpec
from golden.mixpe.gemm import MixPESpec
from golden.orizuru.engine import OrizuruSpec
from golden.soc.copy import CopySpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.gemm import Gemm
from golden.soc.cycles.linear import Linear
from golden.soc.cycles.moe import MoE
from golden.soc.cycles.parts import Clock
from golden.soc.cycles.topk import TopK
from golden.soc.descriptor import Entry
from golden.soc.kinds import Lane
from golden.spec import UnitSpec


class Unit(Protocol):
    """A job ``begin`` s; then ``cycle`` by cycle. ``asks``: the rows of an input are those that it asks for."""

    def begin(self, job: Any, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None: ...

    def cycle(self, complete: bool) -> None: ...

    def asks(self, lane: Lane, entry: Entry, source: Source) -> None: ...


class Plain:
    """A unit that asks for nothing."""

    def asks(self, lane: Lane, entry: Entry, source: Source) -> None:
        raise NotImplementedError


class Copy:
    """A wire."""

    def __init__(self, clock: Clock, spec: CopySpec):
        pass

    def begin(self, job: Any, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        self._i, self._o = sources["i"], sinks["o"]

    def cycle(self, complete: bool) -> None:
        if self._i.valid and self._o.ready:
            self._i.take()
            self._o.put()


MODELS: Mapping[type[UnitSpec], Callable[[Clock, Any], Unit]] = {CopySpec: Copy, MixPESpec: Gemm, OrizuruSpec: TopK, MoEFFNSpec: MoE, KMeansLinearSpec: Linear}
