"""The golden models of ``expert_ffn`` and ``moe_ffn``: their properties."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from golden.moe import fp32
from golden.moe.dispatch import per_token
from golden.moe.expert import ExpertBatch, ExpertFFNSpec, Queue
from golden.moe.gate import Table
from golden.moe.layer import LayerBatch, MoEFFNSpec, Rows
from golden.moe.precision import Weights
from tb.expert_ffn import random_batch as random_experts_batch
from tb.moe_ffn import random_batch

Array = Any

SEEDS = st.integers(0, 2**32 - 1)
SIZES = {"d": 32, "neurons": 32, "tokens": 9, "rows": 2, "cols": 4, "group": 16}
FORMATS = st.sampled_from(["uint4_min", "uint4_zero", "int4", "int8"])
ALIGN = st.sampled_from([8, 16])
quick = settings(max_examples=25, deadline=None)


@st.composite
def layers(draw: st.DrawFn, /, **fixed: Any) -> MoEFFNSpec:
    experts = draw(st.integers(1, 6))
    weighted, capacity = draw(st.booleans()), draw(st.sampled_from([0, 0, 2]))
    values = {"experts": experts, "weight": draw(FORMATS), "align": draw(ALIGN), "scaled": weighted, "bias": weighted}
    return MoEFFNSpec(
        **SIZES | values | {"capacity": capacity, "score": draw(st.sampled_from(["abs", "signed"]))} | fixed
    )


@st.composite
def units(draw: st.DrawFn, /, **fixed: Any) -> ExpertFFNSpec:
    experts = draw(st.integers(1, 6))
    values = {"experts": experts, "slots": draw(st.integers(1, experts)), "weight": draw(FORMATS)}
    return ExpertFFNSpec(**SIZES | values | {"align": draw(ALIGN), "scaled": draw(st.booleans())} | fixed)


def batch(spec: MoEFFNSpec, seed: int) -> LayerBatch:
    rng = np.random.default_rng(seed)
    return random_batch(spec, rng, int(rng.integers(1, spec.tokens, endpoint=True)))


def experts_batch(spec: ExpertFFNSpec, seed: int) -> ExpertBatch:
    rng = np.random.default_rng(seed)
    return random_experts_batch(spec, rng, int(rng.integers(1, spec.tokens, endpoint=True)))


def same_bits(a: Array, b: Array) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


# --- experts have no names ---


@quick
@given(units(), SEEDS)
def test_relabelled_experts_of_the_same_queues(spec: ExpertFFNSpec, seed: int) -> None:
    """As long as the order of the queues stays, so does every bit."""
    job = experts_batch(spec, seed)
    label = np.random.default_rng(seed).permutation(spec.experts)
    experts = (job.experts[0], *(job.experts[1 + e] for e in np.argsort(label)))
    queues = tuple(queue._replace(expert=int(label[queue.expert])) for queue in job.queues)
    assert same_bits(spec.compute(job), spec.compute(replace(job, experts=experts, queues=queues)))


@quick
@given(layers(capacity=0), SEEDS)
def test_relabelled_experts_of_a_layer(spec: MoEFFNSpec, seed: int) -> None:
    """The choice is relabelled, rank by rank; results differ by the rounding of sums in another order, and not at all
    where a token has no more than one routed expert."""
    job = batch(spec, seed)
    scores = spec.scores(job)
    bias = 0 if job.table is None else job.table.b
    assume(all(len(set(row)) == spec.experts for row in fp32.add(scores.view(np.uint32), bias).tolist()))  # no ties
    label = np.random.default_rng(seed).permutation(spec.experts)
    other = relabelled(job, np.argsort(label))
    assert same_bits(spec.scores(other)[:, label], scores)
    chosen = spec.choose(job)
    again = chosen.copy()
    again[:, 1] = label[chosen[:, 1]]
    assert np.array_equal(spec.choose(other), again)
    assert np.array_equal(spec.queues(other).counts[label], spec.queues(job).counts)
    y, z = spec.compute(job), spec.compute(other)
    few = np.bincount(chosen[:, 0], minlength=len(job.x)) <= 1
    assert same_bits(y[few], z[few])
    size = sum(np.abs(part) for part in parts(spec, job))
    assert (np.abs(y - z) <= spec.experts * 2.0**-23 * size).all()


def relabelled(job: LayerBatch, old: Array) -> LayerBatch:
    """Expert e is what was ``old[e]``."""
    columns = (2 * old[:, None] + np.arange(2)).ravel()
    assert job.router
    w, norm, table = job.router.weights, job.router.norm, job.table
    weights = Weights(w.codes[:, columns], w.scale[:, columns], None if w.extra is None else w.extra[:, columns])
    return replace(
        job,
        experts=(job.experts[0], *(job.experts[1 + e] for e in old)),
        router=Rows(weights, None if norm is None else norm[columns]),
        table=None if table is None else Table(table.b[old], table.u[old]),
    )


def parts(spec: MoEFFNSpec, job: LayerBatch) -> list[Array]:
    """What each expert gives its tokens, times their weights."""
    found = []
    for one, tokens, weights in spec.work(job).work():
        alone = ExpertBatch(job.x[tokens], (one,), ())
        part = np.zeros((len(job.x), spec.d))
        part[tokens] = spec.ffn.compute(alone) * weights[:, None]
        found.append(part)
    return found


# --- tokens to queues and back ---


@quick
@given(layers(), SEEDS)
def test_queues_and_back(spec: MoEFFNSpec, seed: int) -> None:
    """From the beats that ``expert_ffn`` takes, every choice comes back, once, with its weight; of an expert with a
    limit the first ones."""
    job = batch(spec, seed)
    work = spec.work(job)
    beats = spec.ffn.inputs(work)
    jobs, entries = (spec.ffn.port(name).unpack(beats[name]) for name in ("job", "entry"))
    assert len(entries["token"]) == jobs["count"].sum()
    ends = np.cumsum(jobs["count"])
    assert np.array_equal(jobs["first"][:, 0] + jobs["count"][:, 0], ends)
    expert = np.repeat(jobs["expert"][:, 0], jobs["count"][:, 0])
    weight = entries["weight"][:, 0] if spec.scaled else np.full(len(expert), fp32.ONE)
    back = set(zip(entries["token"][:, 0].tolist(), expert.tolist(), weight.tolist(), strict=True))
    chosen = list(map(tuple, spec.choose(job).tolist()))
    limit = spec.capacity or spec.tokens
    kept = {entry for entry in chosen if sum(o[1] == entry[1] and o[0] < entry[0] for o in chosen) < limit}
    assert back == kept and len(back) == len(expert)
    assert all((np.diff(queue.tokens) > 0).all() for queue in work.queues)
    assert spec.queues(job).counts.tolist() == np.bincount([e for _, e, _ in chosen], minlength=spec.experts).tolist()


# --- a token does not depend on its batch ---


@quick
@given(layers(capacity=0), SEEDS)
def test_any_batch_of_the_same_tokens(spec: MoEFFNSpec, seed: int) -> None:
    """In any order, any number of times, cut anywhere."""
    job = batch(spec, seed)
    rng = np.random.default_rng(seed)
    some = rng.integers(len(job.x), size=spec.tokens)
    cut = int(rng.integers(1, spec.tokens))
    y = spec.compute(job)
    for tokens in (some, some[:cut], some[cut:]):
        assert same_bits(spec.compute(replace(job, x=job.x[tokens])), y[tokens])


@quick
@given(layers(capacity=0, pruning=True), SEEDS)
def test_finished_tokens_change_nothing_but_their_rows(spec: MoEFFNSpec, seed: int) -> None:
    """Whoever they are; theirs are +0. They are counted nowhere."""
    job = batch(spec, seed)
    rng = np.random.default_rng(seed)
    live = rng.random(len(job.x)) < rng.random()
    pruned = replace(job, live=live)
    y = spec.compute(pruned)
    assert same_bits(y[live], spec.compute(job)[live]) and not y[~live].view(np.uint32).any()
    chosen = spec.choose(job)
    assert spec.queues(pruned).counts.sum() == sum(live[t] for t in chosen[:, 0])
    assert spec.errors(pruned) & ~spec.errors(job) == 0
    again = spec.result(pruned, spec.outputs(pruned, y))
    assert same_bits(again, y)


@quick
@given(layers(), SEEDS)
def test_what_the_router_chooses_may_be_told_by_a_table(spec: MoEFFNSpec, seed: int) -> None:
    """Experts and weights: the same bits."""
    job = batch(spec, seed)
    told = replace(job, route=per_token(spec.choose(job), len(job.x)))
    by_table = MoEFFNSpec(**spec.values() | {"routing": "table", "bias": False})
    assert same_bits(by_table.compute(told), spec.compute(job))
    beats = by_table.inputs(told)["route"]
    assert beats.last.sum() == by_table.port("route").unpack(beats)["final"][beats.last].argmax() + 1 == len(job.x)


@quick
@given(units(), SEEDS)
def test_any_batch_of_tokens_with_the_same_experts(spec: ExpertFFNSpec, seed: int) -> None:
    job = experts_batch(spec, seed)
    some = np.random.default_rng(seed).permutation(len(job.x))[: 1 + seed % len(job.x)]
    place = {int(t): n for n, t in enumerate(some)}
    queues = []
    for queue in job.queues:
        mine = np.array([place[t] for t in queue.tokens.tolist() if t in place], np.int64)
        if len(mine):
            queues.append(Queue(queue.expert, mine, queue.weights[np.isin(queue.tokens, some)]))
    assert same_bits(spec.compute(replace(job, x=job.x[some], queues=tuple(queues))), spec.compute(job)[some])


# --- codes are numbers, whatever their format ---


def widened(spec: Any) -> Any:
    return type(spec)(**spec.values() | {"weight": "int8"})


@quick
@given(units(weight="int4"), SEEDS)
def test_codes_of_four_bits_are_codes_of_eight(spec: ExpertFFNSpec, seed: int) -> None:
    job = experts_batch(spec, seed)
    assert same_bits(spec.compute(job), widened(spec).compute(job))


@quick
@given(layers(weight="int4"), SEEDS)
def test_and_so_in_a_layer(spec: MoEFFNSpec, seed: int) -> None:
    job, wide = batch(spec, seed), widened(spec)
    assert same_bits(spec.scores(job), wide.scores(job))
    assert np.array_equal(spec.choose(job), wide.choose(job))
    assert same_bits(spec.compute(job), wide.compute(job))
