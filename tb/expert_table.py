"""The bench of unit ``expert_table``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from golden.moe.prediction_table import Entry, ExpertTableSpec, Predicted, Request
from tb.transactions import Case, case_of, cases_of


def bench(spec: ExpertTableSpec, seed: int) -> list[Case]:
    """Batches of any size, layers in any order and often, hints alone, what is not there, all stalls, resets."""
    rng = np.random.default_rng(seed)
    mixed = [random_batch(spec, rng, n) for n in range(4)]
    cases = [
        *(_case(spec, f"alone-{n}", [replace(job, number=0)], seed) for n, job in enumerate(mixed)),
        *(_flagged(spec, case, mixed) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(_case(spec, f"{port.name}-nearly-stuck", mixed, seed, stall={port.name: 240}) for port in spec.ports),
        *(_case(spec, f"wrong-{name}", [job, mixed[1]], seed) for name, job in wrong(spec, rng).items()),
        *_early(spec, rng, seed),
    ]
    span = spec.cycles(*mixed)
    for at in sorted({0, 1, span // 4, span // 2, 3 * span // 4, spec.cycles(mixed[0]) - 2}):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", mixed[:2], seed)]
    return cases


def _case(spec: ExpertTableSpec, name: str, jobs: Sequence[Predicted], seed: int, **values: Any) -> Case:
    return _flagged(spec, case_of(spec, name, jobs, seed=seed, **values), jobs)


def _flagged(spec: ExpertTableSpec, case: Case, jobs: Sequence[Predicted]) -> Case:
    return replace(case, status={"sts_error": reduce(or_, map(spec.errors, jobs))})


def layers_of(spec: ExpertTableSpec, rng: np.random.Generator, tokens: int, most: int) -> list[list[list[Entry]]]:
    def entry() -> Entry:
        return Entry(
            int(rng.integers(spec.experts)), int(rng.integers(1 << 32)), int(rng.integers(1 << spec.confidence))
        )

    return [[[entry() for _ in range(rng.integers(0, most + 1))] for _ in range(tokens)] for _ in range(spec.layers)]


def random_batch(spec: ExpertTableSpec, rng: np.random.Generator, number: int) -> Predicted:
    tokens = int(rng.integers(1, min(spec.tokens, 6), endpoint=True)) if number else min(spec.tokens, 20)
    requests = []
    for layer in rng.integers(0, spec.layers, 6).tolist():
        entries, hints = rng.random(2) < 0.7
        requests.append(Request(layer, bool(entries), bool(hints), int(rng.integers(1 << spec.confidence)) // 2))
    last = Request(spec.layers - 1, True, bool(number % 2), release=True)
    return Predicted(number, layers_of(spec, rng, tokens, spec.slots), (*requests, Request(0), last))


def wrong(spec: ExpertTableSpec, rng: np.random.Generator) -> dict[str, Predicted]:
    """Too many entries, tokens; experts, layers and batches that are not there; releases of others."""
    job = random_batch(spec, rng, 0)
    unknown = (1 << spec.port("i").fields[0].width) - 1
    strange = [
        [*layer[:1], [Entry(unknown, 5, 1), Entry(0, 6, 1)][-spec.slots :]][-spec.tokens :] for layer in job.layers
    ]
    beyond = (1 << spec.port("request").fields[0].width) - 1
    crowd = layers_of(spec, rng, 1, spec.slots + 3)
    crowd[0][0] += [Entry(0, 7, (1 << spec.confidence) - 1)] * (spec.slots + 1)
    runs = {
        "entries": replace(job, layers=crowd),
        "tokens": replace(job, layers=layers_of(spec, rng, spec.tokens + 2, spec.slots)),
        "expert": replace(job, layers=strange),
        "layer": replace(job, requests=(Request(beyond), Request(beyond, False), Request(0, release=True))),
        "least": replace(job, requests=(Request(0, least=(1 << spec.confidence) - 1), *job.requests)),
        "batch": replace(
            job, requests=(Request(0, batch=2), Request(0, batch=-1), Request(0), Request(0, batch=255), *job.requests)
        ),
        "release": replace(job, requests=(Request(0, batch=2, release=True), *job.requests)),
        "after-release": replace(job, requests=(*job.requests, Request(0), Request(0, release=True))),
    }
    return runs


def _early(spec: ExpertTableSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """Asked for before it is complete, without waiting: an empty list, and no release."""
    job = max((random_batch(spec, rng, 0) for _ in range(8)), key=lambda job: len(spec.inputs(job)["i"]))
    job = replace(job, requests=(Request(0, wait=False, release=True), *job.requests))
    if len(spec.inputs(job)["i"]) > 4:
        yield _case(spec, "early", [job], seed)
        yield _case(spec, "early-slow", [job], seed, stall={"i": 200})


def real(spec: ExpertTableSpec) -> tuple[Predicted, int]:
    """A full batch, every layer told once; how many entries."""
    rng = np.random.default_rng(0)
    requests = tuple(Request(n, release=n == spec.layers - 1) for n in range(spec.layers))
    job = Predicted(0, layers_of(spec, rng, spec.tokens, spec.slots), requests)
    return job, len(spec.compute(job).entries)
