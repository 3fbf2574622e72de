"""The bench of unit ``moe_ffn``: transactions made from the specification and a seed."""

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from golden.moe.gate import Table
from golden.moe.layer import LayerBatch, MoEFFNSpec, Rows
from golden.ports import Beats
from golden.quantize import float_codes
from tb.expert_ffn import PAUSES, lengths, plain_matrix, random_experts
from tb.transactions import Case, case_of, cases_of

BLOCKED = {"o": 250, "stats": 250, "counts": 254}
"""A batch leaves late, while the next one waits."""


def bench(spec: MoEFFNSpec, seed: int) -> list[Case]:
    """Batches of every length, fixed numbers of experts and thresholds, tables kept and changed, all stalls, resets."""
    rng = np.random.default_rng(seed)
    mixed = chain(spec, rng, 4)
    mixed[0] = replace(mixed[0], x=random_batch(spec, rng, spec.tokens).x, k_min=1, k_max=1)  # scores decide
    most = spec.slots or spec.experts
    plain = {
        **{f"tokens-{t}": [random_batch(spec, rng, t)] for t in lengths(spec.ffn)},
        "none": [replace(random_batch(spec, rng, min(2, spec.tokens)), k_min=0, k_max=0)],
        "most": [replace(random_batch(spec, rng, spec.tokens), k_min=most, k_max=most)],
        "equal": [_equal(spec, rng)],
    }
    beyond = replace(random_batch(spec, rng, spec.tokens), k_min=spec.experts, k_max=spec.experts)
    stalls = {f"{p.name}-late": {p.name: 240} for p in spec.ports}
    stalls |= PAUSES | {"routing-late": {"rwgt": 250, "rpar": 240}, "results-blocked": BLOCKED}
    cases = [
        *(_case(spec, name, jobs, seed) for name, jobs in plain.items()),
        *(_flagged(spec, case, mixed) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(_case(spec, name, mixed[:2], seed, stall=stall) for name, stall in stalls.items()),
        *([_case(spec, "beyond-slots", [beyond, mixed[0]], seed)] if most < spec.experts else []),
        *(_too_long(spec, rng, more, seed) for more in (1, spec.tokens + 3)),
        *_too_many(spec, rng, seed),
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
    """Batches; every other one uses the tables that are there."""
    jobs: list[LayerBatch] = []
    for n in range(number):
        job = random_batch(spec, rng, int(rng.integers(1, spec.tokens, endpoint=True)))
        if n % 2:
            last = jobs[-1]
            job = replace(job, experts=last.experts, router=last.router, table=last.table, load=False)
        jobs.append(job)
    return jobs


def random_batch(spec: MoEFFNSpec, rng: np.random.Generator, tokens: int) -> LayerBatch:
    """Half of them with a threshold."""
    columns = 2 * spec.experts
    norm = rng.lognormal(0, 0.3, columns).astype(np.float32) if spec.norms else None
    most = spec.slots or spec.experts
    fixed = int(rng.integers(0, most, endpoint=True))
    if rng.random() < 0.5:
        choice: dict[str, Any] = {"k_min": fixed, "k_max": fixed}
    else:
        tau = np.float32(rng.lognormal(-1, 1) if not spec.softmax else 1 / spec.experts)
        choice = {"k_min": 0, "k_max": most, "tau": int(tau.view(np.uint32))}
    return LayerBatch(
        float_codes(rng.normal(0, 1, (tokens, spec.d)), "fp16"),
        random_experts(spec.ffn, rng),
        Rows(plain_matrix(spec.ffn, rng, spec.d, columns), norm),
        **choice,
        table=_table(spec, rng),
    )


def _table(spec: MoEFFNSpec, rng: np.random.Generator) -> Table | None:
    if not (spec.bias or spec.scaled):
        return None
    b, u = rng.normal(0, 0.1, (2, spec.experts)).astype(np.float32).view(np.uint32).astype(np.int64)
    return Table(b, u)


def _equal(spec: MoEFFNSpec, rng: np.random.Generator) -> LayerBatch:
    """Tokens of zeros: all scores are equal."""
    job = random_batch(spec, rng, spec.tokens)
    return replace(job, x=np.zeros_like(job.x), k_min=1, k_max=1)


def _too_long(spec: MoEFFNSpec, rng: np.random.Generator, more: int, seed: int) -> Case:
    """Tokens that do not fit are lost; the next batch is whole."""
    long, after = (replace(random_batch(spec, rng, t), k_min=1, k_max=1) for t in (spec.tokens, 1))
    case = _case(spec, f"too-long-by-{more}", [long, after], seed)
    fits = spec.inputs(long)["i"]
    beyond = fits.data[::-1][np.arange(more * spec.beats) % len(fits)]
    data = np.concatenate([fits.data, beyond])
    beats = Beats.concatenate([Beats(data, np.arange(len(data)) == len(data) - 1), spec.inputs(after)["i"]])
    status = {"sts_error": case.status["sts_error"] | 1}
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
