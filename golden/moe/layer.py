"""A whole mixture-of-experts layer: specification and bit-true model of the unit ``moe_ffn``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.mixpe.formats import ALIGNED
from golden.mixpe.gemm import listed
from golden.mixpe.job import Gemm
from golden.moe.dispatch import Batch, DispatchSpec, Queues
from golden.moe.dispatch import Token as Chosen
from golden.moe.expert import FORMATS, ExpertBatch, ExpertFFNSpec, Queue
from golden.moe.gate import GateSpec, Group, Table
from golden.moe.gate import Token as Scored
from golden.moe.precision import Expert, Weights
from golden.moe.scoring import RouterSpec, Tokens
from golden.moe.spec import SCORES
from golden.orizuru.engine import RANKED
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]
F32 = NDArray[np.float32]

NEXT = 2
"""Cycles by which the next batch begins later than that of the experts alone: its configuration waits for the end."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The router: rows of the representatives as columns 2j (gate) and 2j + 1 (up) of ``weights``, 1 / length of each
    in ``norm`` (FP32; ``None`` without norms)."""

    weights: Weights
    norm: F32 | None


@dataclass(frozen=True, eq=False)
class LayerBatch:
    """A job: FP16 codes ``x[T, d]``; experts, the shared one first; the router; how many experts a token has at least
    and at most, and the threshold (FP32 bit pattern). ``table``: bias and scale per expert. ``load``: experts,
    router and table come with the batch; without it, they are those of the batch before. ``base`` as of
    :class:`~golden.moe.expert.ExpertBatch`."""

    x: Int
    experts: tuple[Expert, ...]
    router: Rows
    k_min: int
    k_max: int
    tau: int = 0
    table: Table | None = None
    load: bool = True
    base: int | None = 0


class MoEParameters(UnitSpec):
    """What the units of a mixture-of-experts layer are configured by, and the units that it is made of."""

    d: int = param(576, "width of the model", low=16, high=16384)
    neurons: int = param(576, "most neurons of an expert", low=16, high=16384)
    experts: int = param(5, "routed experts", low=1, high=32)
    tokens: int = param(16, "most tokens of a batch", low=1, high=1024)
    slots: int | None = param(None, "most experts of a token; derived: all", low=1, high=32)
    capacity: int = param(0, "most tokens of an expert, what is beyond is dropped; 0: any", low=0, high=1024)
    rows: int = param(4, "rows of the array: tokens at a time", low=1, high=64)
    cols: int = param(64, "columns of the array: outputs at a time", low=4, high=64)
    lanes: int | None = param(
        None, "activations per beat; derived: the least power of two of rows + 2", low=8, high=256
    )
    weight: str = param("uint4_min", "weight format; mixed: as each expert's descriptor says", choices=FORMATS)
    group: int = param(32, "inputs that share a weight scale and an exponent of activations", low=16, high=256)
    align: int = param(8, "bits of activations in the experts: 8, 12, 16, 20, 24", low=8, high=24)
    router_align: int = param(16, "bits of activations in the router: likewise", low=8, high=24)
    core: str = param("booth", "product core of the experts", choices=("shift_add", "booth", "multiply"))
    score: str = param("abs", "magnitude of the product, or with its sign", choices=SCORES)
    norms: bool = param(True, "the router's rows come with 1 / length")
    bias: bool = param(False, "a number per expert is added to its score before ranking")
    scaled: bool = param(False, "experts have weights 1 + score * u; false: 1")
    softmax: bool = param(False, "scores are probabilities")
    selector: str = param("queue", "variant of the top-k engine", choices=RANKED)
    reach: int = param(4, "SiLU: the table goes to two to this", low=1, high=5)
    segments: int = param(5, "SiLU: segments per unit, two to this", low=1, high=8)
    ring: int | None = param(
        None,
        "steps of weights that are kept, a power of two; derived: the least for a tile, and half of one that comes "
        "while it is used",
        low=16,
        high=65536,
    )

    def _derive(self) -> dict[str, Any]:
        experts = self._experts(None)
        return {"slots": self.experts, "lanes": experts.lanes, "ring": experts.ring}

    def _check(self) -> None:
        if self.router_align not in ALIGNED:
            raise SpecError(f"router_align must be one of {listed(ALIGNED)}, not {self.router_align}")
        _ = self.ffn, self.gate, self.dispatch

    # --- units ---

    def _experts(self, slots: int | None) -> ExpertFFNSpec:
        shared = (
            "d",
            "neurons",
            "experts",
            "tokens",
            "rows",
            "cols",
            "lanes",
            "weight",
            "group",
            "align",
            "core",
            "ring",
        )
        values = {name: getattr(self, name) for name in (*shared, "scaled", "reach", "segments")}
        return ExpertFFNSpec(**values | {"slots": slots or self.experts})

    @cached_property
    def ffn(self) -> ExpertFFNSpec:
        return self._experts(self.slots)

    @cached_property
    def router(self) -> RouterSpec:
        return RouterSpec(
            experts=self.experts,
            cols=2 * self.experts,
            k_max=self.d,
            weight=self.ffn.engine.weight,
            align=self.router_align,
            group=self.group,
            score=self.score,
            norms=self.norms,
            reach=self.reach,
            segments=self.segments,
        )

    @cached_property
    def gate(self) -> GateSpec:
        return GateSpec(
            experts=self.experts,
            lanes=self.router.pairs,
            bias=self.bias,
            scaled=self.scaled,
            softmax=self.softmax,
            selector=self.selector,
        )

    @cached_property
    def dispatch(self) -> DispatchSpec:
        return DispatchSpec(experts=self.experts, tokens=self.tokens, slots=self.slots, capacity=self.capacity)


class MoEFFNSpec(MoEParameters):
    """A feed-forward layer of CMoE: router, gate, dispatcher, shared and routed experts, sum.

    Formula     ``y[t] = E_shared(x[t]) + sum of w_e * E_e(x[t])`` over the experts that the gate selects for token t,
                ascending; scores as :class:`golden.moe.scoring.RouterSpec`, selection and weights as
                :class:`golden.moe.gate.GateSpec`, experts and their sum as
                :class:`golden.moe.expert.ExpertFFNSpec`, which say what is rounded. A token's result does not depend
                on its batch mates.
                Tokens come in FP16 and leave in FP32.
    Streams     ``i``, ``desc``, ``fetch``, ``wgt``, ``par``, ``o``, ``stats`` as of ``expert_ffn``. ``cfg``: one beat
                per batch: whether all tables come (``load``), ``k_min``, ``k_max``, ``tau`` as of ``gate``. With
                ``load`` also: ``rwgt`` and ``rpar``: the router's rows as a pass of ``router`` takes them, one after
                the other, with ``norms`` one beat of ``rnorm``; with ``bias`` or ``scaled`` ``table``, as of ``gate``.
                The first batch after a reset must have ``load`` 1. ``counts``: per batch how many tokens chose each
                expert, tlast on the last. The next ``cfg`` is taken when ``stats`` has been.
    Memory      as of ``expert_ffn``; the router's rows are kept inside; the tokens twice, for experts and router.
    Latency     ``latency`` is that of a batch of one token for which no expert is chosen.
    Throughput  routing runs beside the shared expert: ``cycles`` is that of ``expert_ffn`` as long as it is the shorter
                one (``hidden``), else the least. The next batch begins when this one is through.
    Ranges      as of ``expert_ffn``. ``sts_error``: bit 0, a batch had more than ``tokens`` tokens; 1, ``k_max`` was
                above ``experts``, or a score not finite where there is a softmax; 2, a token had more than ``slots``
                experts (the later ones are left out), or an entry was dropped. Undefined until a reset after: tlast of
                ``i`` within a token; what is undefined for ``expert_ffn``.
    Source      CMoE (arXiv 2502.04416), its inference; dispatch and one reading of the weights per batch as in
                production systems (arXiv 2211.10017).
    Not done    pruned tokens (``dispatch`` has them); biases; more experts than the router takes in one pass.
    """

    unit: ClassVar[str] = "moe_ffn"

    @property
    def beats(self) -> int:
        """Of a token's activations."""
        assert self.lanes
        return self.d // self.lanes

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        inner = {port.name: port for port in self.ffn.ports}
        gate = {port.name: port for port in self.gate.ports}
        rows = {port.name: port for port in self.router.ports}
        wgt, par = (
            StreamPort(f"r{name}", "in", rows[name].lanes, rows[name].fields, "", f"the router's rows, {what}")
            for name, what in (("wgt", "step by step"), ("par", "group by group"))
        )
        norm = [
            StreamPort("rnorm", "in", p.lanes, p.fields, "", "1 / length of the router's rows; one beat")
            for p in rows.values()
            if p.name == "norm"
        ]
        choice = tuple(field for field in gate["cfg"].fields if field.name != "load")
        doc = "load: all tables come; experts of a token; one per batch"
        cfg = StreamPort("cfg", "in", 1, (Field("load", 1, "uint1"), *choice), "", doc)
        table = [gate["table"]] if "table" in gate else []
        counts = self.dispatch.port("stats")
        return (
            inner["i"],
            cfg,
            inner["desc"],
            wgt,
            par,
            *norm,
            *table,
            *(inner[name] for name in ("fetch", "wgt", "par", "o", "stats")),
            StreamPort("counts", "out", 1, counts.fields, "batch", counts.doc),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        strange = " or a score was not finite" if self.softmax else ""
        dropped = " or an entry was dropped" if self.capacity else ""
        return (
            StatusPort(
                "error",
                (
                    "a batch had more tokens than fit",
                    f"k_max was above experts{strange}",
                    f"a token had more experts than slots{dropped}",
                ),
            ),
        )

    # --- arithmetic ---

    def scores(self, job: LayerBatch) -> F32:
        """``[T, experts]``"""
        return self.router.compute(self._tokens(job))

    def choose(self, job: LayerBatch) -> Int:
        """``[chosen, 3]``: token, expert, weight (FP32 bit pattern), token after token, best expert first."""
        return self.gate.compute(self._scored(job))

    def queues(self, job: LayerBatch) -> Queues:
        """Of the experts."""
        return self.dispatch.compute(self._chosen(job))

    def errors(self, job: LayerBatch) -> int:
        """The bits of ``sts_error`` that a job sets, if its tokens fit."""
        selected, sent = self.gate.errors(self._scored(job)), self.dispatch.errors(self._chosen(job))
        return bool(selected & 0b1100) << 1 | bool(sent & 0b10010) << 2

    def compute(self, job: LayerBatch) -> F32:
        return self.ffn.compute(self.work(job))

    def _tokens(self, job: LayerBatch) -> Tokens:
        w = job.router.weights
        return Tokens(Gemm(x=job.x, w=w.codes, scale=w.scale, extra=w.extra), job.router.norm)

    def _scored(self, job: LayerBatch) -> Group:
        scores = self.scores(job).view(np.uint32).astype(np.int64)
        return Group(tuple(Scored(v, job.k_min, job.k_max, job.tau) for v in scores), job.table)

    def _chosen(self, job: LayerBatch) -> Batch:
        chosen = self.choose(job)
        mine = (chosen[chosen[:, 0] == t] for t in range(len(job.x)))
        return Batch(tuple(Chosen(rows[:, 1], rows[:, 2]) for rows in mine))

    def work(self, job: LayerBatch) -> ExpertBatch:
        """What is left to the experts."""
        found = self.queues(job)
        queues = []
        for number, first, count in found.jobs.tolist():
            entries = found.entries[first : first + count]
            weights = entries[:, 2].astype(np.uint32).view(np.float32)
            queues.append(Queue(number, entries[:, 0], weights))
        return ExpertBatch(job.x, job.experts, tuple(queues), job.load, job.base)

    # --- streams ---

    def inputs(self, job: LayerBatch) -> dict[str, Beats]:
        inner = self.ffn.inputs(self.work(job))
        rows = self.router.inputs(self._tokens(_one(job)))
        gate = self.gate.inputs(Group((Scored(np.zeros(self.experts, np.int64), 0, 0),), job.table))
        cfg = self.port("cfg").pack(load=[[job.load]], k_min=[[job.k_min]], k_max=[[job.k_max]], tau=[[job.tau]])
        beats = {name: inner[name] for name in ("i", "desc", "wgt", "par")} | {"cfg": cfg}
        tables = {f"r{name}": rows[name] for name in ("wgt", "par", *(["norm"] * self.norms))}
        if "table" in gate:
            tables["table"] = gate["table"]
        for name, table in tables.items():
            kept = slice(None if job.load else 0)
            beats[name] = Beats(table.data[kept], np.zeros(len(table.data[kept]), np.bool_))
        return beats

    def outputs(self, job: LayerBatch, result: F32) -> dict[str, Beats]:
        inner = self.ffn.outputs(self.work(job), result)
        counts = self.dispatch.outputs(self._chosen(job), self.queues(job))["stats"]
        return {name: inner[name] for name in ("fetch", "o", "stats")} | {"counts": counts}

    def result(self, job: LayerBatch, outputs: Mapping[str, Beats]) -> F32:
        y = self.port("o").unpack(outputs["o"])["y"]
        return y.reshape(len(job.x), self.d).astype(np.uint32).view(np.float32)

    # --- time ---

    @property
    def latency(self) -> int:
        return self.ffn.latency

    def cycles(self, *jobs: LayerBatch) -> int:
        alone = self.ffn.cycles(*(self.work(job) for job in jobs))
        return alone + NEXT * (len(jobs) - 1)

    def hidden(self, job: LayerBatch, more: int = 0) -> bool:
        """Whether all queues are certain to be there ``more`` cycles before the shared expert is through."""
        tokens = len(job.x)
        routed = self.router.cycles(self._tokens(job)) + self.gate.cycles(self._scored(job))
        routed += self.dispatch.cycles(self._chosen(job)) + len(self.router.inputs(self._tokens(_one(job)))["wgt"])
        shared = ExpertBatch(job.x, job.experts, ())
        return (
            routed + latency.BLOCK_QUEUE + tokens + more
            < self.ffn.cycles(shared) - tokens * self.d // self.ffn.words - 8
        )

    def figures(self) -> dict[str, int | float]:
        return self.ffn.figures()


def _one(job: LayerBatch) -> LayerBatch:
    """With its first token alone."""
    return LayerBatch(job.x[:1], job.experts, job.router, job.k_min, job.k_max, job.tau, job.table, job.load)
