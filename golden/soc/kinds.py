"""Kinds of jobs, and which streams of their units are in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from golden.kmeans.linear import KMeansLinearSpec
from golden.mixpe.gemm import MixPESpec
from golden.moe.layer import MoEFFNSpec
from golden.orizuru.engine import OrizuruSpec
from golden.ports import StreamPort
from golden.soc.copy import CopySpec
from golden.soc.descriptor import OUTPUT
from golden.spec import UnitSpec


@dataclass(frozen=True)
class Index:
    """The rows of an input are not its entry's, but those that the unit asks for by beats of ``stream``, counted from
    the entry's address: ``beats`` beats from beat ``at`` on, or, without ``beats``, row ``at`` of the entry's
    length, the rows one after the other."""

    stream: str
    at: str
    beats: str = ""


@dataclass(frozen=True)
class Host:
    """A kind whose unit has the unit of another one inside, as ``inside`` of its specification says; the streams of
    that are ``engine_...`` where it is placed outside."""

    kind: str
    inside: Callable[[Any], UnitSpec]


@dataclass(frozen=True)
class Kind:
    """A kind of jobs: its number in a job's header, its unit, whose unit it can share."""

    name: str
    number: int
    spec: type[UnitSpec]
    indexed: Mapping[str, Index] = field(default_factory=dict, hash=False)
    host: Host | None = None


KINDS = (
    Kind("copy", 0, CopySpec),
    Kind("gemm", 1, MixPESpec, host=Host("moe", lambda spec: spec.ffn.engine)),
    Kind("linear", 2, KMeansLinearSpec, {"col": Index("fetch", "channel")}),
    Kind("topk", 3, OrizuruSpec, host=Host("linear", lambda spec: spec.engine)),
    Kind("moe", 4, MoEFFNSpec, {"wgt": Index("fetch", "address", "beats"), "par": Index("fetch", "par", "pars")}),
)


ASKED_AHEAD = 2
"""Rows that a unit asks for ahead of those that are being read."""


@dataclass(frozen=True)
class Lane:
    """A stream that is in memory: its number in an entry, and two to ``slot``, the bytes that each beat has there."""

    port: StreamPort
    number: int
    index: Index | None = None

    @property
    def name(self) -> str:
        return self.port.name

    @property
    def slot(self) -> int:
        return (self.port.bytes - 1).bit_length()


@dataclass(frozen=True)
class Engine:
    """A unit that is there; ``host``: the kind whose unit works with this one, too."""

    kind: Kind
    spec: Any
    host: str = ""

    @property
    def name(self) -> str:
        return self.kind.name

    @cached_property
    def inputs(self) -> tuple[Lane, ...]:
        """From memory; stream number ``n`` is number ``n``."""
        ports = [p for p in self.spec.ports if p.direction == "in"]
        return tuple(Lane(p, n, self.kind.indexed.get(p.name)) for n, p in enumerate(ports))

    @cached_property
    def outputs(self) -> tuple[Lane, ...]:
        """To memory; all but those that say where inputs are."""
        ports = [p for p in self.spec.ports if p.direction == "out" and p.name not in self.asking]
        return tuple(Lane(p, OUTPUT + n) for n, p in enumerate(ports))

    @property
    def asking(self) -> tuple[str, ...]:
        """The outputs that say where inputs are."""
        return tuple(dict.fromkeys(index.stream for index in self.kind.indexed.values()))
