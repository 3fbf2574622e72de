"""The bench of unit ``kmeans_function``: transactions made from the specification and a seed."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from golden import fixture
from golden.kmeans.codebook import Codebook
from golden.kmeans.function import VALUES, Group, KMeansFunctionSpec, Table, Vector
from golden.kmeans.layer import calibrate
from golden.kmeans.tables import moments, values
from tb.transactions import Case, altered, case_of, cases_of

Int = NDArray[np.int64]


def bench(spec: KMeansFunctionSpec, seed: int) -> list[Case]:
    """Vectors of every short length, tables kept and one after another, extremes, all stalls, resets, status."""
    rng = np.random.default_rng(seed)
    mixed = [random_group(spec, rng, int(rng.integers(1, 5))) for _ in range(6)]
    short = [random_group(spec, rng, int(n), most=1) for n in (1, 1, 1, 3, 1, 9, 1)]
    cases = [
        case_of(spec, "lengths", [Group(random_table(spec, rng), tuple(_lengths(spec, rng)))], seed=seed),
        case_of(spec, "extremes", list(_extremes(spec)), seed=seed),
        case_of(spec, "short", short, seed=seed),
        *(case_of(spec, f"alone-{n}", [_one(spec, rng, n)], seed=seed) for n in (0, 1, min(spec.lanes + 1, spec.n))),
        case_of(spec, "long", [_one(spec, rng, longest(spec)) for _ in range(3)], seed=seed),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *cases_of(spec, "short", short, seed=seed, level=160),
        *(
            case_of(spec, f"{port.name}-nearly-stuck", mixed[:3] + short[:3], seed=seed, stall={port.name: 240})
            for port in spec.ports
        ),
        altered(case_of(spec, "first-cfg-0", mixed[:2], seed=seed), "cfg", next=0),
    ]
    if spec.moments:
        for level, most in ((128, 1), (240, 8)):
            behind = [random_group(spec, rng, 4, most) for _ in range(16)]
            cases.append(case_of(spec, f"stats-behind-{level}", behind, seed=seed, stall={"stats": level}))
        long = [_one(spec, rng, spec.n + extra) for extra in (1, spec.lanes, 3 * spec.n)]
        cases += [
            case_of(spec, f"too-long-{i}", [job], seed=seed, status={"sts_error": 1}) for i, job in enumerate(long)
        ]
    first = spec.entries + spec.latency
    for at in (0, 1, spec.entries // 2, first, first + 3, first + spec.entries):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", mixed[:3], seed=seed)]
    return cases


def longest(spec: KMeansFunctionSpec) -> int:
    """A length that the sums allow, and a simulation."""
    return min(spec.n, 600)


def random_table(spec: KMeansFunctionSpec, rng: np.random.Generator) -> Table:
    value, half = VALUES[spec.value], 1 << (spec.moment_bits - 1)
    least = -(1 << (value.width - 1)) if value.signed else 0
    entries = rng.integers(least, least + (1 << value.width), spec.entries)
    if not spec.moments:
        return Table(entries)
    return Table(entries, *rng.integers(-half, half, (2, spec.entries)))


def random_vector(spec: KMeansFunctionSpec, rng: np.random.Generator, n: int) -> Vector:
    """Any indices, or one again and again; sometimes with invalid ones among them."""
    index = rng.integers(0, spec.entries, n) if rng.random() < 0.7 else np.full(n, rng.integers(spec.entries))
    return Vector(index, rng.random(n) < 0.7 if rng.random() < 0.3 else None)


def random_group(spec: KMeansFunctionSpec, rng: np.random.Generator, vectors: int, most: int = 0) -> Group:
    """Vectors of up to ``most`` beats; without it some of one beat, some long."""
    lengths = [
        int(rng.integers(0, spec.lanes * (most or rng.choice([1, 4, 40])), endpoint=True)) for _ in range(vectors)
    ]
    parts = [random_vector(spec, rng, min(n, longest(spec))) for n in lengths]
    return Group(random_table(spec, rng), tuple(parts))


def _one(spec: KMeansFunctionSpec, rng: np.random.Generator, n: int) -> Group:
    return Group(random_table(spec, rng), (Vector(rng.integers(0, spec.entries, n)),))


def _lengths(spec: KMeansFunctionSpec, rng: np.random.Generator) -> Sequence[Vector]:
    """Every length up to two beats and one, and every index alone."""
    lengths = range(min(2 * spec.lanes + 1, spec.n) + 1)
    return [*(random_vector(spec, rng, n) for n in lengths), *(Vector(np.array([j])) for j in range(spec.entries))]


def _extremes(spec: KMeansFunctionSpec) -> Sequence[Group]:
    """The longest vectors of one index, each with the entry that makes its sums largest or smallest; entries that are
    the ends of their range."""
    n, half = min(spec.n, 5000), 1 << (spec.moment_bits - 1)
    groups = []
    for j, (first, second) in product((0, spec.entries - 1), ((-half, half - 1), (half - 1, -half))):
        at = np.arange(spec.entries) == j
        table = Table(at * 1, np.where(at, first, 0), np.where(at, second, 0)) if spec.moments else Table(at * 1)
        groups.append(Group(table, (Vector(np.full(n, j)),)))
    value = VALUES[spec.value]
    least = -(1 << (value.width - 1)) if value.signed else 0
    for ends in ((least, -1 if value.signed else 0), (0, least + (1 << value.width) - 1)):
        some = (np.resize(corners, spec.entries) for corners in (ends, (-1, 0), (-half, half - 1)))
        table = Table(*some) if spec.moments else Table(next(some))
        groups.append(Group(table, (Vector(np.arange(spec.entries)[: spec.n]),)))
    return groups


def real_groups(spec: KMeansFunctionSpec, tokens: int, function: str) -> list[Group]:
    """Real tokens as indices, each with the table that its exponent needs, and the moments of its centroids."""
    x = fixture.load().x[:tokens]
    learned = calibrate(x, spec.bits)
    return [
        Group(_real_table(spec, learned.book, function, int(e)), (Vector(row),))
        for row, e in zip(*learned.indices(x), strict=True)
    ]


def real(spec: KMeansFunctionSpec) -> tuple[Group, int]:
    """SiLU of a real token, and how many indices it has."""
    job = real_groups(spec, 1, "silu")[0]
    return job, len(job.vectors[0].index)


def _real_table(spec: KMeansFunctionSpec, book: Codebook, function: str, e: int) -> Table:
    entries = values(function, book, e, spec.value, (book, e)).codes
    return Table(entries, *moments(book)) if spec.moments else Table(entries)
