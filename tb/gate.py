"""The bench of unit ``gate``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture
from golden.formats import FLOATS
from golden.moe.gate import GateSpec, Group, Table, Token
from tb.transactions import Case, case_of, cases_of

Int = NDArray[np.int64]

CORNERS = np.array([0, 1, 0x007FFFFF, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000])
"""Zero, subnormals, the smallest normal number, one, the largest; what is not finite."""


def bench(spec: GateSpec, seed: int) -> list[Case]:
    """Every number of experts, thresholds, ties, corners, tables in turn, all stalls, resets, every status bit."""
    rng = np.random.default_rng(seed)
    mixed = [random_group(spec, rng, int(rng.integers(1, 4))) for _ in range(5)]
    many = 4 if spec.softmax or spec.experts > 8 else 32  # where a token does not take long
    cases = [
        _case(spec, "numbers", [_group(spec, rng, list(_numbers(spec, rng)))], seed),
        _case(spec, "thresholds", [_group(spec, rng, list(_thresholds(spec, rng)))], seed),
        _case(spec, "ties", [_group(spec, rng, list(_ties(spec, rng)))], seed),
        _case(spec, "near", [_group(spec, rng, list(_near(spec, rng))) for _ in range(many // 4)], seed),
        _case(spec, "corners", [_corners(spec, rng) for _ in range(many)], seed),
        *(
            _case(spec, f"alone-{k}", [_group(spec, rng, [_token(spec, rng, k, k)])], seed)
            for k in (0, 1, spec.experts)
        ),
        _case(spec, "many", [random_group(spec, rng, 3) for _ in range(many)], seed),
        *(_flagged(spec, case, mixed) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(_case(spec, f"{port.name}-nearly-stuck", mixed[:3], seed, stall={port.name: 240}) for port in spec.ports),
        *_wrong(spec, rng, mixed[:2], seed),
    ]
    span = spec.cycles(*mixed)
    for at in sorted({0, 1, *range(2, 40, 12 if spec.softmax else 3), span // 8, span // 3, spec.cycles(mixed[0]) - 2}):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", mixed[:2], seed)]
    return cases


def _case(spec: GateSpec, name: str, jobs: Sequence[Group], seed: int, **values: Any) -> Case:
    return _flagged(spec, case_of(spec, name, jobs, seed=seed, **values), jobs)


def _flagged(spec: GateSpec, case: Case, jobs: Sequence[Group]) -> Case:
    """With the status that the jobs set."""
    return replace(case, status={"sts_error": reduce(or_, map(spec.errors, jobs))})


def codes(values: NDArray[np.floating[Any]]) -> Int:
    return FLOATS["fp32"].code(values.astype(np.float32))


def random_scores(rng: np.random.Generator, n: int) -> Int:
    """As a router's: positive or of both signs, of one magnitude or many, sometimes few different ones."""
    values = rng.normal(size=n) * 2.0 ** rng.integers(-3, 4)
    kind = rng.integers(4)
    if kind == 0:
        values = np.abs(values)
    if kind == 1:
        values *= 2.0 ** rng.integers(-30, 30, n)
    return codes(rng.choice(values[:2], n) if kind == 2 else values)


def random_table(spec: GateSpec, rng: np.random.Generator) -> Table | None:
    """Small biases, as load balance makes them, so that they change some ranks."""
    if not spec.parameters_of_experts:
        return None
    b = rng.integers(-40, 40, spec.experts) / 64
    return Table(codes(b), codes(rng.normal(size=spec.experts)))


def _token(spec: GateSpec, rng: np.random.Generator, k_min: int, k_max: int, n: int = 0) -> Token:
    scores = random_scores(rng, n or spec.experts)
    return Token(scores, k_min, k_max, int(rng.choice(scores)))


def _group(spec: GateSpec, rng: np.random.Generator, tokens: Sequence[Token]) -> Group:
    return Group(tuple(tokens), random_table(spec, rng))


def random_group(spec: GateSpec, rng: np.random.Generator, tokens: int) -> Group:
    """A fixed number, a threshold with a minimum and a maximum, a threshold alone."""
    chosen = []
    for _ in range(tokens):
        low, high = sorted(int(k) for k in rng.integers(0, spec.experts, 2, endpoint=True))
        kind = rng.integers(3)
        chosen.append(_token(spec, rng, *((high, high), (low, high), (0, spec.experts))[kind]))
    return _group(spec, rng, chosen)


def _numbers(spec: GateSpec, rng: np.random.Generator) -> Iterator[Token]:
    """Fixed numbers, and a minimum above the maximum."""
    near = sorted({0, 1, 2, spec.experts // 2, spec.experts - 1, spec.experts} & set(range(spec.experts + 1)))
    for k in near:
        yield _token(spec, rng, k, k)
    yield _token(spec, rng, spec.experts, min(1, spec.experts))


def _thresholds(spec: GateSpec, rng: np.random.Generator) -> Iterator[Token]:
    """None above, all, some; at the threshold; below, between zeros; with a minimum."""
    n = spec.experts
    for tau in (0x7F800000, 0xFF800000, 0x7FFFFFFF):
        for k_min in (0, min(2, n)):
            yield replace(_token(spec, rng, k_min, n), tau=tau)
    for _ in range(3):
        yield _token(spec, rng, 0, n)
    zeros = Token(rng.choice([0, 1 << 31], n), 0, n)
    yield from (zeros, replace(zeros, tau=1 << 31), replace(zeros, tau=codes(np.array([1 / n])).item()))


def _ties(spec: GateSpec, rng: np.random.Generator) -> Iterator[Token]:
    """All equal, two values, rising, falling, one that stands out."""
    n, half = spec.experts, (spec.experts + 1) // 2
    rising = codes(np.arange(n) / 8)
    for row in (np.full(n, rising[-1]), np.where(np.arange(n) % 2, 0x3F800000, 0), rising, rising[::-1]):
        yield Token(row, half, n, int(row[0]))
    yield Token(np.where(np.arange(n) == n - 1, 0x42F00000, 0x3F800000), 1, n, 0x3F000000)


def _near(spec: GateSpec, rng: np.random.Generator) -> Iterator[Token]:
    """Scores of which each differs from a common one in one bit, or not: every bit of a key counts."""
    for first in range(0, 32, max(1, spec.experts - 1)):
        one = int(random_scores(rng, 1)[0]) & 0x7FFFFFFF
        scores = rng.permutation([one, *(one ^ 1 << (first + n) % 32 for n in range(spec.experts - 1))])
        yield Token(scores, int(rng.integers(1, spec.experts, endpoint=True)), spec.experts, one)


def _corners(spec: GateSpec, rng: np.random.Generator) -> Group:
    """Extremes in scores and tables, of both signs."""

    def some() -> Int:
        return rng.choice(CORNERS, spec.experts) | rng.integers(0, 2, spec.experts) << 31

    tokens = tuple(Token(some(), int(rng.integers(spec.experts + 1)), spec.experts, int(some()[0])) for _ in range(4))
    return Group(tokens, Table(some(), some()) if spec.parameters_of_experts else None)


def _wrong(spec: GateSpec, rng: np.random.Generator, good: Sequence[Group], seed: int) -> Iterator[Case]:
    """Too many scores, too few, too large a number; then sound tokens."""
    k, most = min(2, spec.experts), (1 << spec.count_bits) - 1
    long = _token(spec, rng, k, k, (spec.rows + 2) * spec.lanes)
    jobs = {"long": [long, long], "k": [_token(spec, rng, most, most)]}
    if spec.rows > 1:
        jobs["short"] = [_token(spec, rng, k, k, (spec.rows - 1) * spec.lanes), _token(spec, rng, k, k, 1)]
    for name, tokens in jobs.items():
        yield _case(spec, f"wrong-{name}", [_group(spec, rng, tokens), *good], seed)


def real(spec: GateSpec) -> tuple[Group, int]:
    """A real token's first activations as scores; the best half of them."""
    scores = codes(np.abs(fixture.load().x[0, : spec.experts]))
    k = (spec.experts + 1) // 2
    return Group((Token(scores, k, k),), random_table(spec, np.random.default_rng(0))), 1
