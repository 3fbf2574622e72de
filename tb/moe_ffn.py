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
from tb.expert_ffn import lengths, random_experts, random_matrix
from tb.transactions import Case, case_of, cases_of


def bench(spec: MoEFFNSpec, seed: int) -> list[Case]:
    """Batches of every length, fixed numbers of experts and thresholds, tables kept and changed, all stalls, resets."""
    rng = np.random.default_rng(seed)
    mixed = chain(spec, rng, 4)
    most = spec.slots or spec.experts
    plain = {
        **{f"tokens-{t}": [random_batch(spec, rng, t)] for t in lengths(spec.ffn)},
        "none": [replace(random_batch(spec, rng, min(2, spec.tokens)), k_min=0, k_max=0)],
        "most": [replace(random_batch(spec, rng, spec.tokens), k_min=most, k_max=most)],
        "equal": [_equal(spec, rng)],
    }
    cases = [
        *(case_of(spec, name, jobs, seed=seed, status=_status(spec, jobs)) for name, jobs in plain.items()),
        *(replace(case, status=_status(spec, mixed)) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(
            case_of(spec, f"{p.name}-late", mixed[:2], seed=seed, stall={p.name: 240}, status=_status(spec, mixed[:2]))
            for p in spec.ports
        ),
        *_too_many(spec, rng, seed),
        *_too_long(spec, rng, seed),
    ]
    span = spec.cycles(mixed[0])
    for at in (0, 2, span // 4, span // 2, 3 * span // 4, span - 2, span + 3):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed[:2], seed=seed, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", [mixed[0]], seed=seed, status=_status(spec, mixed[:1]))]
    return cases


def _status(spec: MoEFFNSpec, jobs: Sequence[LayerBatch]) -> dict[str, int]:
    return {"sts_error": _errors(spec, jobs)}


def _errors(spec: MoEFFNSpec, jobs: Sequence[LayerBatch]) -> int:
    """What all of them together set."""
    return functools.reduce(operator.or_, map(spec.errors, jobs))


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
        Rows(random_matrix(spec.ffn, rng, spec.d, columns), norm),
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


def _too_many(spec: MoEFFNSpec, rng: np.random.Generator, seed: int) -> list[Case]:
    """More experts per token than there are; no score reaches the threshold."""
    if spec.experts + 1 >> spec.gate.count_bits:
        return []  # the port cannot say so many
    job = replace(random_batch(spec, rng, min(2, spec.tokens)), k_min=0, k_max=0)
    case = case_of(spec, "too-many", [job], seed=seed, status={"sts_error": 2})
    infinity = int(np.float32(np.inf).view(np.uint32))
    wrong = spec.inputs(replace(job, k_max=spec.experts + 1, tau=infinity))
    return [replace(case, inputs={**case.inputs, "cfg": wrong["cfg"]})]


def _too_long(spec: MoEFFNSpec, rng: np.random.Generator, seed: int) -> list[Case]:
    """Tokens more than fit are lost, and the next batch comes as always."""
    cases = []
    for more in (1, spec.tokens + 2):
        jobs = [replace(random_batch(spec, rng, spec.tokens), k_min=1, k_max=1), random_batch(spec, rng, 1)]
        case = case_of(spec, f"too-long-{more}", jobs, seed=seed, status={"sts_error": 1 | _errors(spec, jobs)})
        x = np.concatenate([jobs[0].x, np.resize(jobs[0].x, (more, spec.d))])
        activations = [spec.inputs(job)["i"] for job in (replace(jobs[0], x=x), jobs[1])]
        cases.append(replace(case, inputs={**case.inputs, "i": Beats.concatenate(activations)}, cycles=None))
    return cases
