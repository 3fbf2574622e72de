"""A whole mixture-of-experts layer: specification and bit-true model of the unit ``moe_ffn``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.mixpe.formats import ALIGNED
from golden.mixpe.gemm import listed
from golden.moe import pruning
from golden.moe.dispatch import Batch, DispatchSpec, Queues, per_token
from golden.moe.dispatch import Token as Chosen
from golden.moe.expert import FORMATS, ExpertBatch, ExpertFFNSpec, Queue
from golden.moe.gate import GateSpec, Table
from golden.moe.precision import Expert, Weights
from golden.moe.prediction_table import ExpertTableSpec
from golden.moe.routing import WAYS, ByRouter, ByTable
from golden.moe.scoring import RouterSpec
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
    """A job: FP16 codes ``x[T, d]``; experts, the shared one first.

    Where a router decides: its rows; how many experts a token has at least and at most, and the threshold (FP32 bit
    pattern); ``table``: bias and scale per expert. Where a table does: ``route``, each token's experts and weights.

    ``load``: experts, router and table come with the batch; without it, they are those of the batch before. ``base`` as
    of :class:`~golden.moe.expert.ExpertBatch`. ``live[T]``, with ``pruning``: tokens that are not finished; none given:
    all."""

    x: Int
    experts: tuple[Expert, ...]
    router: Rows | None = None
    k_min: int = 0
    k_max: int = 0
    tau: int = 0
    table: Table | None = None
    load: bool = True
    base: int | None = 0
    route: tuple[Chosen, ...] = ()
    live: NDArray[np.bool_] | None = None


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
    routing: str = param("router", "who decides on experts; table: what was predicted (SiDA's own use)", choices=WAYS)
    confidence: int = param(8, "of routing=table: bits of a confidence, not looked at", low=1, high=16)
    pruning: bool = param(False, "a batch says which of its tokens are finished: they cost nothing, their rows are 0")

    def _derive(self) -> dict[str, Any]:
        experts = self._experts(None)
        return {"slots": self.experts, "lanes": experts.lanes, "ring": experts.ring}

    def _check(self) -> None:
        if self.router_align not in ALIGNED:
            raise SpecError(f"router_align must be one of {listed(ALIGNED)}, not {self.router_align}")
        for field in ("bias", "softmax"):
            if self.routing == "table" and getattr(self, field):
                raise SpecError(f"{field} must be False where routing is table, not True")
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

    @cached_property
    def table(self) -> ExpertTableSpec:
        """What tells ``route``; how many layers it has does not matter."""
        sizes = {name: getattr(self, name) for name in ("experts", "tokens", "slots", "confidence")}
        return ExpertTableSpec(layers=1, **sizes)

    @cached_property
    def way(self) -> ByRouter | ByTable:
        return ByTable(self) if self.routing == "table" else ByRouter(self)


class MoEFFNSpec(MoEParameters):
    """A feed-forward layer of CMoE: router, gate, dispatcher, shared and routed experts, sum.

    Formula     ``y[t] = E_shared(x[t]) + sum of w_e * E_e(x[t])`` over the experts that the gate selects for token t,
                ascending; scores as :class:`golden.moe.scoring.RouterSpec`, selection and weights as
                :class:`golden.moe.gate.GateSpec`, experts and their sum as
                :class:`golden.moe.expert.ExpertFFNSpec`, which say what is rounded. A token's result does not depend
                on its batch mates.
                Tokens come in FP16 and leave in FP32.
    Table       ``routing=table``: neither router nor gate. The experts of a token, ascending, and their weights (with
                ``scaled``, else 1) are those that ``route`` names. A token without any has the shared expert alone.
    Pruning     ``pruning``: a batch says in ``live`` which of its tokens are finished. These are neither routed nor
                computed, by the shared expert neither; their rows are +0. The others are a batch of their own.
    Streams     ``i``, ``desc``, ``fetch``, ``wgt``, ``par``, ``o``, ``stats`` as of ``expert_ffn``. ``cfg``: one beat
                per batch: whether all tables come (``load``), ``k_min``, ``k_max``, ``tau`` as of ``gate``. With
                ``load`` also: ``rwgt`` and ``rpar``: the router's rows as a pass of ``router`` takes them, one after
                the other, with ``norms`` one beat of ``rnorm``; with ``bias`` or ``scaled`` ``table``, as of ``gate``.
                The first batch after a reset must have ``load`` 1. ``counts``: per batch how many tokens chose each
                expert, tlast on the last. The next ``cfg`` is taken when ``stats`` has been.
                ``route``, instead of all that is of the router: what ``o`` of ``expert_table`` tells, beat for beat,
                one list per batch; ``confidence`` is not looked at.
                ``live``: one beat per batch, before its tokens; lane t says of token t that it is not finished, lanes
                beyond the batch nothing. ``i``, ``route`` and ``o`` have all tokens. A batch without live tokens takes
                ``live``, ``cfg``, ``i``, ``route`` and gives its rows, nothing else: it loads no tables, whatever
                ``load`` is.
    Memory      as of ``expert_ffn``; the router's rows are kept inside; the tokens twice, for experts and router.
    Latency     ``latency`` is that of a batch of one token for which no expert is chosen.
    Throughput  routing runs beside the shared expert: ``cycles`` is that of ``expert_ffn`` as long as it is the shorter
                one (``hidden``; a table nearly always is), else the least. The next batch begins when this one is
                through. With ``pruning`` a finished token costs its beats of ``i`` and its row, or less: rows ahead of
                the first live token leave while that is computed. One cycle more per run.
    Ranges      as of ``expert_ffn``. ``sts_error``: bit 0, a batch had more than ``tokens`` tokens; 1, ``k_max`` was
                above ``experts``, or a score not finite where there is a softmax; of a table: not as many live tokens
                as the batch has (those that are missing have no experts), no such expert, or one twice in a token
                (left out); 2, a token had more than ``slots`` experts (the later ones are left out), or an entry was
                dropped. What ``route`` says of tokens that are none of the batch costs time and changes no result.
                Undefined until a reset after: tlast of ``i`` within a token; what is undefined for ``expert_ffn``.
    Source      CMoE (arXiv 2502.04416), its inference; dispatch, one reading of the weights per batch and pruned tokens
                as in production systems (arXiv 2211.10017); the table of SiDA-MoE (arXiv 2310.18859).
    Not done    biases; more experts than the router takes in one pass.
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
        doc = "load: all tables come" + "; experts of a token" * bool(self.way.choice) + "; one per batch"
        cfg = StreamPort("cfg", "in", 1, (Field("load", 1, "uint1"), *self.way.choice), "", doc)
        doc = "lane t: token t is not finished; one per batch"
        live = [StreamPort("live", "in", self.tokens, (Field("live", 1, "uint1"),), "", doc)] if self.pruning else []
        counts = self.dispatch.port("stats")
        return (
            inner["i"],
            *live,
            cfg,
            inner["desc"],
            *self.way.ports,
            *(inner[name] for name in ("fetch", "wgt", "par", "o", "stats")),
            StreamPort("counts", "out", 1, counts.fields, "batch", counts.doc),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        dropped = " or an entry was dropped" if self.capacity else ""
        return (
            StatusPort(
                "error",
                (
                    "a batch had more tokens than fit",
                    self.way.cause,
                    f"a token had more experts than slots{dropped}",
                ),
            ),
        )

    # --- arithmetic ---

    def live(self, job: LayerBatch) -> NDArray[np.bool_]:
        """``[T]``: the tokens that are not finished; :class:`~golden.spec.SpecError` where that cannot be said."""
        if job.live is None:
            return np.ones(len(job.x), np.bool_)
        if not self.pruning:
            raise SpecError(f"live must be None where pruning is False, not of {len(job.live)} tokens")
        if job.live.shape != (len(job.x),):
            raise SpecError(f"live must have shape [{len(job.x)}], not {list(job.live.shape)}")
        if len(job.x) > self.tokens:
            raise SpecError(f"tokens must be at most {self.tokens}, not {len(job.x)}")
        return job.live

    def seen(self, job: LayerBatch) -> LayerBatch:
        """The batch of its live tokens alone, as which it is computed. They are numbered anew."""
        if job.live is None:
            return job
        live = self.live(job)
        route = tuple(token for n, token in enumerate(job.route) if n >= len(live) or live[n])
        return replace(job, x=job.x[live], route=route, live=None)

    def scores(self, job: LayerBatch) -> F32:
        """``[live tokens, experts]``, of the router."""
        return ByRouter(self).scores(self.seen(job))

    def choose(self, job: LayerBatch) -> Int:
        """``[chosen, 3]``: live token, expert, weight (FP32 bit pattern), token after token, best expert first."""
        seen = self.seen(job)
        return self.way.choose(seen) if len(seen.x) else np.zeros((0, 3), np.int64)

    def queues(self, job: LayerBatch) -> Queues:
        """Of the experts."""
        return self.dispatch.compute(self._chosen(job))

    def errors(self, job: LayerBatch) -> int:
        """The bits of ``sts_error`` that a job sets, if its tokens fit."""
        if not self.live(job).any():
            return 0
        sent = self.dispatch.errors(self._chosen(job))
        return (self.way.wrong(self.seen(job)) or bool(sent & 0b1101)) << 1 | bool(sent & 0b10010) << 2

    def compute(self, job: LayerBatch) -> F32:
        live = self.live(job)
        y = np.zeros((len(job.x), self.d), np.float32)
        if live.any():
            y[live] = self.ffn.compute(self.work(job))
        return y

    def _chosen(self, job: LayerBatch) -> Batch:
        return Batch(per_token(self.choose(job), int(self.live(job).sum())))

    def work(self, job: LayerBatch) -> ExpertBatch:
        """What is left to the experts."""
        found, seen = self.queues(job), self.seen(job)
        queues = []
        for number, first, count in found.jobs.tolist():
            entries = found.entries[first : first + count]
            weights = entries[:, 2].astype(np.uint32).view(np.float32)
            queues.append(Queue(number, entries[:, 0], weights))
        return ExpertBatch(seen.x, job.experts, tuple(queues), job.load, job.base)

    # --- streams ---

    def inputs(self, job: LayerBatch) -> dict[str, Beats]:
        live = self.live(job)
        inner = self.ffn.inputs(self.work(job))
        x = job.x.reshape(-1, self.port("i").lanes)
        choice = {field.name: [[getattr(job, field.name)]] for field in self.way.choice}
        beats = {
            "i": self.port("i").pack(x=x, last=np.arange(len(x)) == len(x) - 1),
            "cfg": self.port("cfg").pack(load=[[job.load]], **choice),
        }
        if self.pruning:  # of tokens beyond the batch anything may be said
            beats["live"] = self.port("live").pack(live=[[*live, *[True] * (self.tokens - len(live))]])
        for name in ("desc", "wgt", "par"):
            beats[name] = inner[name][: None if live.any() else 0]
        for name, table in self.way.inputs(job).items():
            comes = name == "route" or (job.load and live.any())
            beats[name] = table[: None if comes else 0]
        return beats

    def outputs(self, job: LayerBatch, result: F32) -> dict[str, Beats]:
        live = self.live(job)
        y = result.view(np.uint32).astype(np.int64).reshape(-1, self.ffn.words)
        rows = {"o": self.port("o").pack(y=y, last=np.arange(len(y)) == len(y) - 1)}
        if not live.any():
            return {name: self.port(name).nothing for name in ("fetch", "stats", "counts")} | rows
        inner = self.ffn.outputs(self.work(job), result[live])
        if self.pruning:
            counters = self.port("stats").unpack(inner["stats"])
            counters["cycles"][:] = self._sent(job).computed - pruning.begins(live, self.beats) - latency.SKID
            inner["stats"] = self.port("stats").pack(**counters)
        counts = self.dispatch.outputs(self._chosen(job), self.queues(job))["stats"]
        return {"fetch": inner["fetch"], "stats": inner["stats"], "counts": counts} | rows

    def result(self, job: LayerBatch, outputs: Mapping[str, Beats]) -> F32:
        y = self.port("o").unpack(outputs["o"])["y"]
        return y.reshape(len(job.x), self.d).astype(np.uint32).view(np.float32)

    # --- time ---

    @property
    def latency(self) -> int:
        return self.ffn.latency + self.pruning

    def cycles(self, *jobs: LayerBatch) -> int:
        if not self.pruning:
            return self.ffn.cycles(*(self.work(job) for job in jobs)) + NEXT * (len(jobs) - 1)
        begin, end = 0, 0
        for job in jobs:
            rows = self._sent(job)
            end = max(end, begin + rows.last, begin + rows.computed + 1 + latency.SKID)  # the counters follow
            begin += rows.last + 1
        return end + 1

    def _sent(self, job: LayerBatch) -> pruning.Sent:
        """When the rows of a batch leave that begins in cycle 0."""
        live, words = self.live(job), self.d // self.ffn.words
        begin, filled = pruning.begins(live, self.beats), 1 + len(live) * self.beats
        first = begin + self.ffn.first(self.work(job), filled - begin) if live.any() else 0
        return pruning.sent(live, filled, first, words)

    def hidden(self, job: LayerBatch, more: int = 0) -> bool:
        """Whether all queues are certain to be there ``more`` cycles before the shared expert is through."""
        seen = self.seen(job)
        tokens = len(seen.x)
        if not tokens:
            return True
        routed = self.way.cycles(job, seen) + self.dispatch.cycles(self._chosen(job))
        shared = ExpertBatch(seen.x, job.experts, ())
        return (
            routed + latency.BLOCK_QUEUE + tokens + more
            < self.ffn.cycles(shared) - tokens * self.d // self.ffn.words - 8
        )

    def figures(self) -> dict[str, int | float]:
        return self.ffn.figures()
