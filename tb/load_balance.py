"""The bench of unit ``load_balance``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from golden.moe.balance import BalanceSpec, Load
from tb.gate import CORNERS, codes
from tb.transactions import Case, case_of, cases_of


def bench(spec: BalanceSpec, seed: int) -> list[Case]:
    """Equal, one-sided and extreme loads, next to the mean, extreme biases, all stalls, resets, wrong lengths."""
    rng = np.random.default_rng(seed)
    mixed = [random_load(spec, rng) for _ in range(8)]
    cases = [
        _case(spec, "loads", list(_loads(spec, rng)), seed),
        _case(spec, "corners", list(_corners(spec, rng)), seed),
        _case(spec, "alone", mixed[:1], seed),
        _case(spec, "sums", [_sums(spec, rng) for _ in range(2048 // spec.experts)], seed),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *(_case(spec, f"{p.name}-nearly-stuck", mixed[:4], seed, stall={p.name: 240}) for p in spec.ports),
    ]
    lengths = {"long": (spec.experts + 1, spec.experts + 4), "short": (1, spec.experts - 1)}
    for name, wrong in lengths.items():
        loads = [random_load(spec, rng, n) for n in wrong if n] + mixed[:2]
        cases += [_case(spec, f"too-{name}-{level}", loads, seed, stall=level) for level in (0, 96)]
    span = spec.cycles(mixed[0])
    for at in (0, 1, spec.experts, spec.experts + 4, span - 2, span + 3):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", mixed[:3], seed)]
    return cases


def _case(spec: BalanceSpec, name: str, jobs: Sequence[Load], seed: int, **values: Any) -> Case:
    case = case_of(spec, name, jobs, seed=seed, **values)
    return replace(case, status={"sts_error": reduce(or_, map(spec.errors, jobs))})


def random_load(spec: BalanceSpec, rng: np.random.Generator, n: int = 0) -> Load:
    """Few tokens, so that some experts have the mean."""
    n = n or spec.experts
    count = rng.integers(0, min(spec.tokens, int(rng.choice([1, 3, 1000]))), n, endpoint=True)
    return Load(count, codes(rng.normal(size=n) / 16), int(codes(np.array([rng.choice([0.001, 0.25])]))[0]))


def _loads(spec: BalanceSpec, rng: np.random.Generator) -> Iterator[Load]:
    """None, all equal, all to one, all but one, one more and one less than the mean."""
    n, most = spec.experts, (1 << spec.count_bits) - 1
    one = np.arange(n) == rng.integers(n)
    near = np.full(n, most // 2)
    near[:1] += 1
    near[-1:] -= 1
    for count in (0 * one, most + 0 * one, most * one, most * ~one, 1 * one, most - 1 * one, near):
        yield replace(random_load(spec, rng), count=count)


def _corners(spec: BalanceSpec, rng: np.random.Generator) -> Iterator[Load]:
    """Every corner as a step meets every corner as a bias, of both signs, of experts with fewer and more tokens."""
    both = np.concatenate([CORNERS, CORNERS | 1 << 31])
    for gamma in both:
        for odd in (0, 1):
            for at in range(0, len(both), spec.experts):
                b = np.resize(np.roll(both, -at), spec.experts)
                yield Load(np.arange(spec.experts) % 2 ^ odd, b, int(gamma))


def _sums(spec: BalanceSpec, rng: np.random.Generator) -> Load:
    """Biases and steps that meet in the adder: near in magnitude or not, cancelling to any bit, few bits or many."""
    gamma = int(rng.integers(1 << 31)) & -1 << int(rng.choice([0, 20]))
    apart = rng.choice([0, 1, 3, 27], spec.experts)
    near = gamma + (rng.integers(-apart, apart, endpoint=True) << 23)
    near += rng.integers(-3, 4, spec.experts) << rng.integers(0, 23, spec.experts)
    other = near & ~0x7FFFFF | rng.integers(0, 1 << 23, spec.experts)
    b = np.where(rng.integers(0, 2, spec.experts), near, other) & 0x7FFFFFFF | rng.integers(0, 2, spec.experts) << 31
    return replace(random_load(spec, rng), b=b, gamma=gamma | int(rng.integers(2)) << 31)


def real(spec: BalanceSpec) -> tuple[Load, int]:
    """The first experts are chosen more often."""
    count = spec.tokens // (1 + np.arange(spec.experts))
    return Load(count, codes(np.zeros(spec.experts)), int(codes(np.array([0.001]))[0])), 1
