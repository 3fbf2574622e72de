"""What an expert cache costs in time: a text's batches through all layers, experts from a memory of stated speed.

A batch begins a layer; its shared expert, which never leaves, is computed while the router decides; then the routed
experts, ascending, each when it is there. As in the unit ``expert_cache``, decisions (:mod:`golden.moe.residency`) are
made in order, what the layer needs, then what is guessed for a later one; each waits until its place is loaded and the
last job on it is through. Loads are made one after the other, those that are needed before those that are guessed.
Neither a decision nor anything between two layers takes time. Cycles of the array are those of ``expert_ffn``, of the
router and what follows it, which their benches hold to the RTL.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from golden.mixpe.job import Gemm
from golden.moe.dispatch import Batch
from golden.moe.dispatch import Token as Chosen
from golden.moe.expert import ExpertBatch, Queue
from golden.moe.ffn import Int
from golden.moe.foresight import Ranks
from golden.moe.gate import Group
from golden.moe.gate import Token as Scored
from golden.moe.layer import MoEFFNSpec
from golden.moe.precision import Expert, Weights
from golden.moe.residency import BELADY, Belady, Counts, Decision, KeyList, Residency
from golden.moe.scoring import Tokens
from golden.spec import SpecError


class Memory(NamedTuple):
    """Where experts come from. A load's ``latency`` hides behind the load before it."""

    bandwidth: int
    """bytes per cycle"""
    latency: int
    """cycles from the request to the first byte"""


class Times(NamedTuple):
    """Cycles of a batch in a layer."""

    known: int
    """until its experts are known"""
    shared: int
    """until the first routed expert may begin"""
    after: int
    """from the last expert to the end of the layer"""


@dataclass(frozen=True)
class Machine:
    """A configuration of ``moe_ffn`` with a shared expert of ``shared`` neurons and routed ones of ``routed``, of which
    a token has ``active``. :class:`~golden.spec.SpecError` for neurons that the configuration has no tiles for."""

    spec: MoEFFNSpec
    shared: int
    routed: int
    active: int

    def __post_init__(self) -> None:
        for unit in self.spec.ffn.grain:
            for neurons in (self.shared, self.routed):
                if neurons % unit:
                    raise SpecError(f"neurons of an expert must be a multiple of {unit}, not {neurons}")

    @property
    def size(self) -> int:
        """Bytes of a routed expert: codes and parameters of its three matrices."""
        engine = self.spec.ffn.engine
        bits = engine.weight_format.bits + engine.port("par").lane_width / self.spec.group
        return round(self.routed * 3 * self.spec.d * bits / 8)

    @cache  # noqa: B019 - a handful of machines
    def times(self, tokens: int) -> Times:
        """Of so many tokens."""
        alone = self.spec.ffn.cycles(self._batch(tokens, 0))
        after = tokens * self.spec.d // self.spec.ffn.words
        return Times(self._known(tokens), alone - after, after)

    @cache  # noqa: B019
    def expert(self, tokens: int) -> int:
        """Cycles of a routed expert for so many tokens."""
        return self.spec.ffn.cycles(self._batch(tokens, tokens)) - self.spec.ffn.cycles(self._batch(tokens, 0))

    def _batch(self, tokens: int, queued: int) -> ExpertBatch:
        """A batch of that shape: its values are not looked at."""
        experts = tuple(_blank(self.spec.d, neurons) for neurons in (self.shared, self.routed))
        queue = Queue(0, np.arange(queued), np.ones(queued, np.float32))
        return ExpertBatch(np.zeros((tokens, self.spec.d), np.int64), experts, (queue,) * bool(queued), load=False)

    def _known(self, tokens: int) -> int:
        spec, k = self.spec, self.active
        w = np.zeros((spec.d, 2 * spec.experts), np.int64)
        scale = np.zeros((spec.d // spec.group, 2 * spec.experts))
        gemm = Gemm(x=np.zeros((tokens, spec.d), np.int64), w=w, scale=scale, extra=scale)
        norm = np.ones(2 * spec.experts, np.float32) if spec.norms else None
        scored = Scored(np.zeros(spec.experts, np.int64), k, k)
        chosen = Batch((Chosen(np.arange(k), np.zeros(k, np.int64)),) * tokens)
        sent = spec.gate.cycles(Group((scored,) * tokens)) + spec.dispatch.cycles(chosen)
        return spec.router.cycles(Tokens(gemm, norm)) + sent


def _blank(d: int, neurons: int) -> Expert:
    """So many neurons and no weights."""
    nothing = np.zeros((1, 0))
    return Expert(Weights(np.zeros((d, 0)), nothing), Weights(np.zeros((neurons, 0)), nothing))


class Step(NamedTuple):
    """A batch in a layer."""

    layer: int
    tokens: int
    needs: dict[int, int]
    """expert: its tokens; ascending, the order of use"""
    hints: list[int]
    """experts that are guessed, in the order of the tokens that are guessed to need them"""


def steps(chosen: Int, guess: Ranks | None, batch: int, late: bool = False, blind: bool = False) -> list[Step]:
    """Of a text, ``batch`` consecutive tokens at a time: ``chosen [T, L, k]``, ``guess [T, L, n]``, all n of a token
    being guessed. ``late``: a batch has the guesses for the tokens of the batch before. ``blind``: none for layer 0.
    """
    found = []
    for start in range(0, len(chosen), batch):
        mine = chosen[start : start + batch]
        known = slice(max(0, start - batch), start) if late else slice(start, start + batch)
        for layer in range(chosen.shape[1]):
            experts, counts = np.unique(mine[:, layer], return_counts=True)
            hints = [] if guess is None or (blind and layer == 0) else guess[known, layer].ravel().tolist()
            needs = dict(zip(experts.tolist(), counts.tolist(), strict=True))
            found.append(Step(layer, len(mine), needs, list(dict.fromkeys(hints))))
    return found


class Job(NamedTuple):
    """An expert's part of a step: the place it reads, and whether it must be loaded there first."""

    tokens: int
    place: int
    miss: bool


class Planned(NamedTuple):
    """What is decided in a step."""

    tokens: int
    jobs: list[Job]
    prefetches: list[int]
    """places"""


@dataclass(frozen=True)
class Caches:
    """``slots`` places for experts: of each layer, or, ``shared``, of all layers together. ``ahead``: guesses are
    loaded so many layers before."""

    slots: int
    policy: str
    shared: bool = False
    ahead: int = 1

    def plan(self, work: Sequence[Step]) -> tuple[list[Planned], Counts]:
        """All decisions, which no time changes. ``belady`` looks at needs alone, and prefetches nothing."""
        caches = self._made(work)
        planned = []
        for at, step in enumerate(work):
            jobs = [
                Job(step.needs[expert], self._place(step, decision), decision.miss)
                for expert, decision in zip(step.needs, self._needed(caches, step), strict=True)
            ]
            later = work[at + self.ahead] if at + self.ahead < len(work) else None
            planned.append(Planned(step.tokens, jobs, self._hinted(caches, later) if later else []))
        return planned, _sum(cache.counts for cache in dict.fromkeys(caches.values()))

    def _made(self, work: Sequence[Step]) -> dict[int, "_Cache"]:
        layers = sorted({step.layer for step in work})
        if self.shared:
            return dict.fromkeys(layers, _Cache(self, work))
        return {layer: _Cache(self, [s for s in work if s.layer == layer]) for layer in layers}

    def _needed(self, caches: dict[int, "_Cache"], step: Step) -> list[Decision]:
        return caches[step.layer].needed([_key(step, expert) for expert in step.needs])

    def _hinted(self, caches: dict[int, "_Cache"], step: Step) -> list[int]:
        if self.policy == BELADY or not step.hints:
            return []
        decided = caches[step.layer].residency.decide(KeyList([_key(step, e) for e in step.hints], need=False))
        return [self._place(step, decision) for decision in decided if decision.miss]

    def _place(self, step: Step, decision: Decision) -> int:
        assert decision.slot is not None
        return decision.slot if self.shared else step.layer * self.slots + decision.slot


class _Cache:
    """Of some steps."""

    def __init__(self, of: Caches, work: Sequence[Step]) -> None:
        needs = [_key(step, expert) for step in work for expert in step.needs]
        self.residency = Belady(of.slots, needs) if of.policy == BELADY else Residency(of.slots, of.policy)

    @property
    def counts(self) -> Counts:
        return self.residency.counts

    def needed(self, keys: list[int]) -> list[Decision]:
        if self.residency.policy != BELADY:
            return self.residency.decide(KeyList(keys))
        return [decision for key in keys for decision in self.residency.decide(KeyList([key]))]


LAYERS = 1 << 16


def _key(step: Step, expert: int) -> int:
    return expert * LAYERS + step.layer


def _sum(counts: Iterator[Counts]) -> Counts:
    total = Counts()
    for one in counts:
        for name, value in vars(one).items():
            setattr(total, name, getattr(total, name) + value)
    return total


class Time(NamedTuple):
    """What a text takes. ``late``: experts that were on their way and not there when their turn came."""

    cycles: int
    stalled: int
    late: int


class Loader:
    """Loads, one at a time: what is needed before what is guessed, else in the order in which they are asked for; what
    has begun ends."""

    def __init__(self, places: int, cycles: int, latency: int) -> None:
        self.ready = [0] * places
        """when each place's load is there"""
        self._cycles, self._latency = cycles, latency
        self._free = 0
        self._queue: dict[int, int] = {}
        """guessed: place, since when; in order"""

    def guessed(self, place: int, now: int) -> None:
        self._queue[place] = now

    def needed(self, place: int, now: int) -> None:
        self._until(now)
        self._begin(place, now)

    def forward(self, place: int, now: int) -> None:
        """It turns out to be needed."""
        self._until(now)
        if place in self._queue:
            self._begin(place, now)

    def settled(self, place: int) -> int:
        """When nothing is loaded there any more, with nothing new asked for."""
        while place in self._queue:
            first, since = next(iter(self._queue.items()))
            self._begin(first, since)
        return self.ready[place]

    def _until(self, now: int) -> None:
        """What begins before."""
        while self._queue:
            place, since = next(iter(self._queue.items()))
            if max(self._free, since) >= now:
                return
            self._begin(place, since)

    def _begin(self, place: int, now: int) -> None:
        self._queue.pop(place, None)
        self._free = max(self._free, now) + self._cycles
        self.ready[place] = self._free + self._latency


def play(planned: Sequence[Planned], places: int, machine: Machine, memory: Memory) -> Time:
    """Of decisions about so many ``places``: cycles in all, and cycles in which the array waits for an expert."""
    batches = {tokens: machine.times(tokens) for tokens in {step.tokens for step in planned}}
    jobs = {tokens: machine.expert(tokens) for tokens in {job.tokens for step in planned for job in step.jobs}}
    loader = Loader(places, -(-machine.size // memory.bandwidth), memory.latency)
    through = [0] * places
    now = deciding = stalled = late = 0
    for step in planned:
        times = batches[step.tokens]
        deciding, now = max(deciding, now + times.known), now + times.shared
        for job in step.jobs:
            if job.miss:
                deciding = max(deciding, through[job.place], loader.settled(job.place))
                loader.needed(job.place, deciding)
            else:
                loader.forward(job.place, deciding)
            wait = max(0, loader.ready[job.place] - now)
            stalled, late = stalled + wait, late + (wait > 0 and not job.miss)
            now += wait + jobs[job.tokens]
            through[job.place] = now
        for place in step.prefetches:
            deciding = max(deciding, through[place], loader.settled(place))
            loader.guessed(place, deciding)
        now += times.after
    return Time(now, stalled, late)
