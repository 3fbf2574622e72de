"""The bench of unit ``moe_resident``: transactions made from the specification and a seed."""

from dataclasses import replace
from typing import Any

import numpy as np

from golden.moe.resident import MoEResidentSpec, ResidentRun, Step
from tb import moe_ffn
from tb.transactions import Case, case_of, in_time

MEMORY = {
    "memory-far": {"fill": 254},
    "memory-busy": {"dma": 250, "fill": 240},
    "weights-far": {"wgt": 200, "par": 190, "fetch": 200},
    "hints-late": {"hint": 252},
    "results-blocked": {"o": 250, "stats": 250, "cache": 252},
}
"""Long ones: loads that take many times as long as a batch, hints that come when all is over."""


def bench(spec: MoEResidentSpec, seed: int) -> list[Case]:
    """Runs of batches through layers, hints of every kind, all stalls, resets."""
    rng = np.random.default_rng(seed)
    runs = [random_run(spec, rng, n) for n in (5, 3)]
    everything = _everything(spec, rng)
    cases = [
        *(_case(spec, f"steps-{n}", [random_run(spec, rng, n)], seed) for n in (1, 2)),
        _case(spec, "no-needs", [_without(spec, rng, 3)], seed),
        _case(spec, "needs-and-none", [_without(spec, rng, 2)], seed),
        _case(spec, "all-needed", [everything], seed),
        _case(spec, "two-runs", runs, seed),
        *(_case(spec, f"{p.name}-late", runs[:1], seed, stall={p.name: 240}) for p in spec.ports),
        *(_case(spec, name, runs[:1], seed, stall=stall) for name, stall in MEMORY.items()),
        _case(spec, "everything-far", [everything], seed, stall={"fill": 253}),
        _case(spec, "mixed-both", runs, seed, stall=128),
    ]
    span = spec.cycles(runs[0])
    for at in (0, 2, span // 4, span // 2, 3 * span // 4, span - 2):
        cut = case_of(spec, f"reset-in-cycle-{at}", runs[:1], seed=seed, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", runs[1:], seed)]
    return in_time(cases, spec.timeout, "dma", "fill")


def _case(spec: MoEResidentSpec, name: str, jobs: list[ResidentRun], seed: int, **values: Any) -> Case:
    """With cycles where experts are there in time, and one run: the next one's table waits for the end of this."""
    case = case_of(spec, name, jobs, seed=seed, **values)
    status = {"sts_error": int(np.bitwise_or.reduce([spec.errors(job) for job in jobs])), "sts_key": 0}
    exact = len(jobs) == 1 and spec.on_time(jobs[0])
    return replace(case, status=status, cycles=case.cycles if exact else None)


def random_run(spec: MoEResidentSpec, rng: np.random.Generator, steps: int) -> ResidentRun:
    """Layer after layer, hints right and wrong, too many and none; with pruning, tokens finished and not, and batches
    of finished ones alone, but for the first."""
    found: list[Step] = []
    for n in range(steps):
        tokens = int(rng.integers(1, spec.tokens, endpoint=True))
        batch = replace(moe_ffn.random_batch(spec.moe, rng, tokens), base=None)
        if n and spec.pruning:
            batch = replace(batch, live=rng.random(tokens) < rng.choice([0, 0.6, 1]))
        following = (n + 1) % spec.layers
        some = rng.permutation(spec.experts)[: rng.integers(0, spec.experts, endpoint=True)]
        found.append(Step(batch, n % spec.layers, tuple(int(following * spec.experts + e) for e in some)))
    return ResidentRun(far(spec, rng), tuple(found))


def far(spec: MoEResidentSpec, rng: np.random.Generator) -> np.ndarray:
    """Addresses and lengths of all experts."""
    lengths = rng.integers(1, 99, spec.layers * spec.experts)
    return np.stack((np.cumsum(lengths), lengths), axis=1)


def _without(spec: MoEResidentSpec, rng: np.random.Generator, quiet: int) -> ResidentRun:
    """So many batches of three have no routed experts and no hints behind them; the others have all."""
    steps = [
        Step(moe_ffn.with_experts(spec.moe, rng, s.batch, 0), s.layer) if n % 3 < quiet else s
        for n, s in enumerate(_everything(spec, rng, 6).steps)
    ]
    return ResidentRun(far(spec, rng), tuple(steps))


def _everything(spec: MoEResidentSpec, rng: np.random.Generator, number: int = 4) -> ResidentRun:
    """All experts of each layer: more than there are places for, where those are fewer."""
    most = spec.slots or spec.experts
    run = random_run(spec, rng, number)
    steps = (replace(s, batch=moe_ffn.with_experts(spec.moe, rng, s.batch, most)) for s in run.steps)
    return replace(run, steps=tuple(steps))
