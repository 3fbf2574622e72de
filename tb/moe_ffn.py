"""The bench of unit ``moe_ffn``: transactions made from the specification and a seed."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.moe.dispatch import Token as Chosen
from golden.moe.gate import Table
from golden.moe.layer import LayerBatch, MoEFFNSpec, Rows
from golden.ports import Beats
from golden.quantize import float_codes
from tb.expert_ffn import PAUSES, lengths, plain_matrix, random_experts
from tb.transactions import Case, case_of, cases_of

BLOCKED = {"o": 250, "stats": 250, "counts": 254}
"""A batch leaves late, while the next one waits."""


def bench(spec: MoEFFNSpec, seed: int) -> list[Case]:
    """Batches of every length, fixed numbers of experts and thresholds, tables kept and changed, all stalls, resets;
    tokens finished in every way, lists of experts of every kind."""
    rng = np.random.default_rng(seed)
    mixed = chain(spec, rng, 4)
    mixed[0] = with_experts(spec, rng, random_batch(spec, rng, spec.tokens), 1)  # scores decide
    mixed[1] = _keeping(mixed[1], mixed[0])
    most = spec.slots or spec.experts
    plain = {
        **{f"tokens-{t}": [random_batch(spec, rng, t)] for t in lengths(spec.ffn)},
        "none": [with_experts(spec, rng, random_batch(spec, rng, min(2, spec.tokens)), 0)],
        "most": [with_experts(spec, rng, random_batch(spec, rng, spec.tokens), most)],
        "equal": [_equal(spec, rng)],
        **(_finished(spec, rng, _among(spec, rng)) if spec.pruning else {}),
        **(_lists(spec, rng) if spec.routing == "table" else {}),
    }
    beyond = with_experts(spec, rng, random_batch(spec, rng, spec.tokens), spec.experts)
    stalls = {f"{p.name}-late": {p.name: 240} for p in spec.ports}
    stalls |= PAUSES | {"results-blocked": BLOCKED}
    # Rows of the router are others each time: those that the memories still hold would do if they were the same.
    others = [with_experts(spec, rng, random_batch(spec, rng, spec.tokens), 1) for _ in range(4)]
    late = {"route": 254} if spec.routing == "table" else {"rwgt": 250, "rpar": 240}
    cases = [
        *(_case(spec, name, jobs, seed) for name, jobs in plain.items()),
        *(_flagged(spec, case, mixed) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(_case(spec, name, mixed[:2], seed, stall=stall) for name, stall in stalls.items()),
        _case(spec, "routing-late", others, seed, stall=late),
        *(_case(spec, f"finished-{name}", _among(spec, rng), seed, stall=stall) for name, stall in _late(spec).items()),
        *([_case(spec, "beyond-slots", [beyond, mixed[0]], seed)] if most < spec.experts else []),
        *(_too_long(spec, rng, more, seed) for more in (1, spec.tokens + 3)),
        *(_too_many(spec, rng, seed) if spec.routing == "router" else []),
    ]
    span = spec.cycles(mixed[0])
    for at in (0, 2, span // 4, span // 2, 3 * span // 4, span - 2, span + 3):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed[:2], seed=seed, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", mixed[:1], seed)]
    return cases


def _case(spec: MoEFFNSpec, name: str, jobs: Sequence[LayerBatch], seed: int, **values: Any) -> Case:
    return _flagged(spec, case_of(spec, name, jobs, seed=seed, **values), jobs)


def _flagged(spec: MoEFFNSpec, case: Case, jobs: Sequence[LayerBatch]) -> Case:
    """With the status that all jobs together set; with cycles where routing is hidden."""
    cycles = case.cycles if all(map(spec.hidden, jobs)) else None
    return replace(case, status={"sts_error": functools.reduce(operator.or_, map(spec.errors, jobs))}, cycles=cycles)


def chain(spec: MoEFFNSpec, rng: np.random.Generator, number: int) -> list[LayerBatch]:
    """Batches; every other one uses the tables that are there. With pruning, any of their tokens are finished, but not
    all of the first batch."""
    jobs: list[LayerBatch] = []
    for n in range(number):
        job = random_batch(spec, rng, int(rng.integers(1, spec.tokens, endpoint=True)))
        if n and spec.pruning:
            job = replace(job, live=rng.random(len(job.x)) < rng.choice([0, 0.5, 0.9]))
        loaded = next((last for last in reversed(jobs) if spec.live(last).any()), None)
        jobs.append(_keeping(job, loaded) if n % 2 and loaded else job)
    return jobs


def _keeping(job: LayerBatch, last: LayerBatch) -> LayerBatch:
    """With what is there."""
    return replace(job, experts=last.experts, router=last.router, table=last.table, load=False)


def random_batch(spec: MoEFFNSpec, rng: np.random.Generator, tokens: int) -> LayerBatch:
    """Half of them with a threshold; any experts where a table says so."""
    columns = 2 * spec.experts
    norm = rng.lognormal(0, 0.3, columns).astype(np.float32) if spec.norms else None
    most = spec.slots or spec.experts
    fixed = int(rng.integers(0, most, endpoint=True))
    choice: dict[str, Any]
    if spec.routing == "table":
        choice = {"route": tuple(_named(spec, rng, int(rng.integers(0, most, endpoint=True))) for _ in range(tokens))}
    else:
        choice = {"router": Rows(plain_matrix(spec.ffn, rng, spec.d, columns), norm), "table": _table(spec, rng)}
        if rng.random() < 0.5:
            choice |= {"k_min": fixed, "k_max": fixed}
        else:
            tau = np.float32(rng.lognormal(-1, 1) if not spec.softmax else 1 / spec.experts)
            choice |= {"k_min": 0, "k_max": most, "tau": int(tau.view(np.uint32))}
    x = float_codes(rng.normal(0, 1, (tokens, spec.d)), "fp16")
    return LayerBatch(x, random_experts(spec.ffn, rng), **choice)


def with_experts(spec: MoEFFNSpec, rng: np.random.Generator, job: LayerBatch, number: int) -> LayerBatch:
    """So many of each token."""
    if spec.routing == "router":
        return replace(job, k_min=number, k_max=number)
    return replace(job, route=tuple(_named(spec, rng, number) for _ in job.x))


def _named(spec: MoEFFNSpec, rng: np.random.Generator, number: int) -> Chosen:
    """Experts of a token, their weights about 1."""
    weights = rng.normal(1, 0.3, number).astype(np.float32).view(np.uint32)
    return Chosen(rng.permutation(spec.experts)[:number], weights.astype(np.int64))


def _finished(spec: MoEFFNSpec, rng: np.random.Generator, among: list[LayerBatch]) -> dict[str, list[LayerBatch]]:
    """All tokens, none, the first and last ones, every other one; batches without live ones between others."""
    number = np.arange(spec.tokens)
    patterns = {
        "all": number < 0,
        "none": number >= 0,
        "first": number > 0,
        "last": number < spec.tokens - 1,
        "all-but-first": number < 1,
        "all-but-last": number >= spec.tokens - 1,
        "even": number % 2 == 1,
        "odd": number % 2 == 0,
        "inner": (number == 0) | (number == spec.tokens - 1),
    }
    found = {f"finished-{name}": [_with_live(spec, rng, live)] for name, live in patterns.items()}
    return found | {"finished-among": among, "finished-only": [among[0], among[3]]}


def _among(spec: MoEFFNSpec, rng: np.random.Generator) -> list[LayerBatch]:
    """Batches without live tokens, which load no tables, before, between and behind others."""
    nobody, some = np.zeros(spec.tokens, np.bool_), np.arange(spec.tokens) % 2 == 0
    jobs = [_with_live(spec, rng, live) for live in (nobody, some, nobody, nobody[:1], some[:1], nobody)]
    jobs[4] = _keeping(jobs[4], jobs[1])
    return jobs


def _with_live(spec: MoEFFNSpec, rng: np.random.Generator, live: NDArray[np.bool_]) -> LayerBatch:
    return replace(random_batch(spec, rng, len(live)), live=live)


def _late(spec: MoEFFNSpec) -> dict[str, dict[str, int]]:
    """What tells finished tokens, and what they are in, long after the rest."""
    late = {f"{name}-far": {name: 254} for name in ("live", "i", "cfg", "route", "o")}
    there = {port.name for port in spec.ports if spec.pruning}
    return {name: stall for name, stall in late.items() if stall.keys() <= there}


def _lists(spec: MoEFFNSpec, rng: np.random.Generator) -> dict[str, list[LayerBatch]]:
    """What a table may say: weights of all bit patterns, too few tokens, too many, none, an expert that is none, one
    twice."""
    job = random_batch(spec, rng, spec.tokens)
    nothing = _named(spec, rng, 0)

    def replaced(token: Chosen, **values: Any) -> LayerBatch:
        return replace(job, route=(replace(token, **values), *job.route[1:]))

    any_bits = [replace(token, weight=rng.integers(0, 1 << 32, len(token.weight))) for token in job.route]
    unknown = (1 << spec.port("route").fields[0].width) - 1
    twice = np.zeros(2, np.int64)
    return {
        "list-weights": [replace(job, route=tuple(any_bits))],
        "list-short": [replace(job, route=job.route[: spec.tokens // 2 + 1]), job],
        "list-long": [replace(job, route=(*job.route, nothing)), job],
        "list-far-too-long": [replace(job, route=(*job.route, *[nothing] * spec.tokens)), job],
        "list-absent": [replace(job, route=(nothing,)), job],
        "list-unknown": [replaced(nothing, expert=twice[:1] + unknown, weight=twice[:1])],
        "list-twice": [replaced(nothing, expert=twice, weight=twice)],
    }


def _table(spec: MoEFFNSpec, rng: np.random.Generator) -> Table | None:
    if not (spec.bias or spec.scaled):
        return None
    b, u = rng.normal(0, 0.1, (2, spec.experts)).astype(np.float32).view(np.uint32).astype(np.int64)
    return Table(b, u)


def _equal(spec: MoEFFNSpec, rng: np.random.Generator) -> LayerBatch:
    """Tokens of zeros: all scores are equal."""
    job = with_experts(spec, rng, random_batch(spec, rng, spec.tokens), 1)
    return replace(job, x=np.zeros_like(job.x))


def _too_long(spec: MoEFFNSpec, rng: np.random.Generator, more: int, seed: int) -> Case:
    """Tokens that do not fit are lost; the next batch is whole. A list that does not name them is another one than the
    batch's, unless they count as finished."""
    long, after = (with_experts(spec, rng, random_batch(spec, rng, t), 1) for t in (spec.tokens, 1))
    case = _case(spec, f"too-long-by-{more}", [long, after], seed)
    fits = spec.inputs(long)["i"]
    beyond = fits.data[::-1][np.arange(more * spec.beats) % len(fits)]
    data = np.concatenate([fits.data, beyond])
    beats = Beats.concatenate([Beats(data, np.arange(len(data)) == len(data) - 1), spec.inputs(after)["i"]])
    differ = spec.routing == "table" and not spec.pruning
    status = {"sts_error": case.status["sts_error"] | 1 | 2 * differ}
    return replace(case, inputs={**case.inputs, "i": beats}, status=status, cycles=None)


def _too_many(spec: MoEFFNSpec, rng: np.random.Generator, seed: int) -> list[Case]:
    """More experts per token than there are; no score reaches the threshold."""
    if spec.experts + 1 >> spec.gate.count_bits:
        return []  # the port cannot say so many
    job = replace(random_batch(spec, rng, min(2, spec.tokens)), k_min=0, k_max=0)
    case = case_of(spec, "too-many", [job], seed=seed, status={"sts_error": 2})
    infinity = int(np.float32(np.inf).view(np.uint32))
    wrong = spec.inputs(replace(job, k_max=spec.experts + 1, tau=infinity))
    return [replace(case, inputs={**case.inputs, "cfg": wrong["cfg"]})]
