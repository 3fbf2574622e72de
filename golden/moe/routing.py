"""How a layer learns which experts its tokens need: by a router and a gate, or by a table of what was predicted.

Both ways are used alike by :class:`golden.moe.layer.MoEFFNSpec`. ``job`` is a batch as it came, ``seen`` its live
tokens alone.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.job import Gemm
from golden.moe.dispatch import Batch
from golden.moe.fp32 import ONE
from golden.moe.gate import Group
from golden.moe.gate import Token as Scored
from golden.moe.scoring import Tokens
from golden.ports import Beats, Field, StreamPort

if TYPE_CHECKING:
    from golden.moe.layer import LayerBatch, MoEParameters

Int = NDArray[np.int64]
F32 = NDArray[np.float32]

WAYS = ("router", "table")


@dataclass(frozen=True)
class ByRouter:
    """Scores by the router's rows, experts by the gate."""

    spec: "MoEParameters"

    @property
    def cause(self) -> str:
        """Of bit 1 of ``sts_error``."""
        return "k_max was above experts" + " or a score was not finite" * self.spec.softmax

    @property
    def choice(self) -> tuple[Field, ...]:
        """Fields of ``cfg``."""
        return tuple(field for field in self.spec.gate.port("cfg").fields if field.name != "load")

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        rows = {port.name: port for port in self.spec.router.ports}
        docs = {"wgt": "the router's rows, step by step", "par": "the router's rows, group by group"}
        if self.spec.norms:
            docs["norm"] = "1 / length of the router's rows; one beat"
        table = [port for port in self.spec.gate.ports if port.name == "table"]
        return (
            *(StreamPort(f"r{name}", "in", rows[name].lanes, rows[name].fields, "", doc) for name, doc in docs.items()),
            *table,
        )

    def scores(self, seen: "LayerBatch") -> F32:
        """``[T, experts]``"""
        return self.spec.router.compute(self._tokens(seen))

    def choose(self, seen: "LayerBatch") -> Int:
        return self.spec.gate.compute(self.scored(seen))

    def wrong(self, seen: "LayerBatch") -> bool:
        """What sets bit 1 of ``sts_error``, beside what the dispatcher finds."""
        return bool(self.spec.gate.errors(self.scored(seen)) & 0b1100)

    def inputs(self, job: "LayerBatch") -> dict[str, Beats]:
        """Rows and table, whether they are to come or not."""
        rows = self.spec.router.inputs(self._tokens(_one(job)))
        nothing = Group((Scored(np.zeros(self.spec.experts, np.int64), 0, 0),), job.table)
        beats = {f"r{name}": part for name, part in rows.items()} | self.spec.gate.inputs(nothing)
        mine = {port.name: beats[port.name].data for port in self.ports}
        return {name: Beats(part, np.zeros(len(part), np.bool_)) for name, part in mine.items()}

    def cycles(self, job: "LayerBatch", seen: "LayerBatch") -> int:
        """At most so many until the last token's experts are known, if tokens, rows and table come at once."""
        rows = len(self.spec.router.inputs(self._tokens(_one(seen)))["wgt"])
        return self.spec.router.cycles(self._tokens(seen)) + self.spec.gate.cycles(self.scored(seen)) + rows

    def _tokens(self, job: "LayerBatch") -> Tokens:
        assert job.router
        w = job.router.weights
        return Tokens(Gemm(x=job.x, w=w.codes, scale=w.scale, extra=w.extra), job.router.norm)

    def scored(self, job: "LayerBatch") -> Group:
        scores = self.scores(job).view(np.uint32).astype(np.int64)
        return Group(tuple(Scored(v, job.k_min, job.k_max, job.tau) for v in scores), job.table)


@dataclass(frozen=True)
class ByTable:
    """What was predicted comes with the batch: ``route``, beats as ``expert_table`` tells them."""

    spec: "MoEParameters"

    choice: ClassVar[tuple[Field, ...]] = ()
    cause: ClassVar[str] = "route had another number of tokens than the batch, no such expert, or one twice in a token"

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        told = self.spec.table.port("o")
        return (replace(told, name="route", direction="in", doc="the tokens' experts and weights"),)

    def choose(self, seen: "LayerBatch") -> Int:
        rows = [
            (number, expert, weight if self.spec.scaled else ONE)
            for number, token in enumerate(seen.route)
            for expert, weight in zip(token.expert.tolist(), token.weight.tolist(), strict=True)
        ]
        return np.array(rows, np.int64).reshape(-1, 3)

    def wrong(self, seen: "LayerBatch") -> bool:
        return len(seen.route) != len(seen.x)

    def inputs(self, job: "LayerBatch") -> dict[str, Beats]:
        """With a confidence of 0, which is not looked at."""
        beats = self.spec.dispatch.inputs(Batch(job.route))["i"]
        fields = self.spec.dispatch.port("i").unpack(beats)
        fields["confidence"] = np.zeros_like(fields["expert"])
        return {"route": self.ports[0].pack(last=beats.last, **fields)}

    def cycles(self, job: "LayerBatch", seen: "LayerBatch") -> int:
        return sum(max(1, len(token.expert)) for token in job.route)


def _one(job: "LayerBatch") -> "LayerBatch":
    """With its first token alone."""
    return replace(job, x=job.x[:1])
