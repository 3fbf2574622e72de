"""The bench of unit ``lutgemm``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.kmeans import token
from golden.kmeans.codebook import HIGH, LOW
from golden.kmeans.lutgemm import IndexGemm, LutGemmSpec
from tb.transactions import Case, altered, case_of, cases_of

Int = NDArray[np.int64]


def bench(spec: LutGemmSpec, seed: int) -> list[Case]:
    """All pairs, one pair again and again, extremes, all lengths and widths, tables in turn, stalls, resets, status."""
    rng = np.random.default_rng(seed)
    mixed = chain(spec, rng, [(_length(spec, rng), _width(spec, rng)) for _ in range(6)])
    few = min(spec.n_max, 2 * spec.lines)
    cases = [
        case_of(spec, "lengths", chain(spec, rng, [(k, few) for k in _lengths(spec)]), seed=seed),
        case_of(spec, "widths", chain(spec, rng, [(_length(spec, rng), n) for n in _widths(spec)]), seed=seed),
        case_of(spec, "short", chain(spec, rng, [(1, _width(spec, rng)) for _ in range(6)]), seed=seed),
        case_of(spec, "all-pairs", [_all_pairs(spec, rng)], seed=seed),
        case_of(spec, "extremes", [extreme(spec, rng, at) for at in range(4)], seed=seed),
        case_of(spec, "new-tables", [random_job(spec, rng, spec.k_max, few) for _ in range(5)], seed=seed),
        case_of(spec, "one-table", chain(spec, rng, [(spec.k_max, few)] * 5, new=0), seed=seed),
        case_of(spec, "nothing", [replace(mixed[0], present=np.zeros(len(mixed[0].index), np.bool_))], seed=seed),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *cases_of(spec, "small", chain(spec, rng, [(1, 1)] * 8), seed=seed, level=160),
        case_of(spec, "sink-nearly-stuck", mixed[:3], seed=seed, stall={"o": 250}),
        case_of(spec, "results-wait", chain(spec, rng, [(1, min(spec.n_max, 9 * spec.lines))] * 8), stall={"o": 250}),
        *(case_of(spec, f"{s}-late", mixed[:4], seed=seed, stall={s: 240}) for s in ("act", "w", "cfg", "lut")),
        case_of(spec, "too-long", [_long(spec, rng), *mixed[:2]], seed=seed, status={"sts_error": 1}),
        *_wrong_n(spec, rng, seed),
    ]
    if spec.out == "fp32":
        cases += [case_of(spec, f"{s}-late", mixed[:4], seed=seed, stall={s: 240}) for s in ("scl", "exp")]
    span = spec.cycles(mixed[0])
    for at in (0, 1, 2, span // 3, span // 2, span - 3, span + 1, span + spec.latency):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", mixed[:3], seed=seed)]
    # of a token with more beats than there are rows the cycles are not specified
    return [replace(c, cycles=None) if c.name == "too-long" else c for c in cases]


def chain(
    spec: LutGemmSpec, rng: np.random.Generator, sizes: Sequence[tuple[int, int]], new: float = 0.3
) -> list[IndexGemm]:
    """Jobs of those sizes (K, N); most of them use the table that is there."""
    jobs: list[IndexGemm] = []
    for k, n in sizes:
        job = random_job(spec, rng, k, n)
        if jobs and rng.random() >= new:
            job = replace(job, acts=jobs[-1].acts, books=jobs[-1].books, load=False)
        jobs.append(job)
    return jobs


def random_job(spec: LutGemmSpec, rng: np.random.Generator, k: int, n: int) -> IndexGemm:
    """Any indices, or few of them; sometimes activations are missing."""
    index, weights = (
        rng.integers(0, 1 << bits, shape) if rng.random() < 0.7 else rng.choice(rng.integers(0, 1 << bits, 2), shape)
        for bits, shape in ((spec.act_bits, k), (spec.weight_bits, (n, k)))
    )
    return IndexGemm(
        index=index,
        weights=weights,
        acts=centroids(spec, rng, 1 << spec.act_bits),
        books=centroids(spec, rng, 1 << spec.weight_bits),
        present=rng.random(k) < 0.7 if rng.random() < 0.3 else None,
        exponent=int(rng.integers(*token.EXPONENTS, endpoint=True)),
        scale=_scales(rng, n),
    )


def centroids(spec: LutGemmSpec, rng: np.random.Generator, count: int) -> Int:
    """INT8, ascending; or FP16 codes whose products are finite, subnormals and zeros of both signs among them."""
    if spec.table == "int16":
        return np.sort(rng.integers(LOW, HIGH, count, endpoint=True))
    codes = rng.integers(0, 0x5BFF, count, endpoint=True) | rng.integers(0, 2, count) << 15
    return np.where(rng.random(count) < 0.2, rng.choice([0, 0x8000, 1, 0x8001, 0x03FF], count), codes)


def _scales(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Of all magnitudes, also such that results are subnormal, infinite or NaN."""
    codes = rng.integers(0, 1 << 32, n, dtype=np.uint64).astype(np.uint32)
    usual = rng.lognormal(0, 3, n).astype(np.float32)
    return np.where(rng.random(n) < 0.5, usual, codes.view(np.float32))


def _length(spec: LutGemmSpec, rng: np.random.Generator) -> int:
    most = min(spec.k_max, 8 * spec.codes)
    return most if rng.random() < 0.3 else int(rng.integers(1, most, endpoint=True))


def _width(spec: LutGemmSpec, rng: np.random.Generator) -> int:
    return int(rng.integers(1, min(spec.n_max, 4 * spec.lines), endpoint=True))


def _lengths(spec: LutGemmSpec) -> list[int]:
    """From none on; of a large unit around multiples of a beat, and the longest."""
    near = {0, 1, 2, spec.codes - 1, spec.codes, spec.codes + 1, 3 * spec.codes, spec.k_max - 1, spec.k_max}
    return list(range(spec.k_max + 1)) if spec.k_max <= 16 else sorted(k for k in near if k <= spec.k_max)


def _widths(spec: LutGemmSpec) -> list[int]:
    near = {1, 2, spec.lines - 1, spec.lines, spec.lines + 1, 3 * spec.lines - 1, min(spec.n_max, 9 * spec.lines)}
    return sorted(n for n in near if 1 <= n <= spec.n_max)


def _all_pairs(spec: LutGemmSpec, rng: np.random.Generator) -> IndexGemm:
    """Each pair as often as there is room for, in any order."""
    count = min(spec.k_max, max(spec.entries, 4))
    order = np.stack([rng.permutation(spec.entries)[:count] for _ in range(spec.lines)])
    order = np.pad(order, ((0, 0), (0, count - order.shape[1])), mode="edge")
    job = random_job(spec, rng, count, min(spec.lines, spec.n_max))
    index = order[0] >> spec.weight_bits
    return replace(job, index=index, weights=order[: len(job.weights)] % (1 << spec.weight_bits), present=None)


def extreme(spec: LutGemmSpec, rng: np.random.Generator, at: int) -> IndexGemm:
    """One pair only, as often as the unit can count, with the largest products of both signs."""
    job = random_job(spec, rng, spec.rows * spec.codes, min(spec.n_max, spec.lines))
    ends = (LOW, HIGH) if spec.table == "int16" else (0xDBFF, 0x5BFF)  # the largest product is finite
    a, w = at % 2, at // 2
    books = [np.full(1 << bits, ends[end]) for bits, end in ((spec.act_bits, a), (spec.weight_bits, w))]
    return replace(job, index=job.index * 0, weights=job.weights * 0, acts=books[0], books=books[1], present=None)


def _long(spec: LutGemmSpec, rng: np.random.Generator) -> IndexGemm:
    return random_job(spec, rng, (spec.rows + 1) * spec.codes, min(spec.n_max, spec.lines + 1))


def _wrong_n(spec: LutGemmSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """No output channels, which count as one, and more than ``n_max``, if n has room for them."""
    for n, counts in ((0, 1), ((1 << spec.n_width) - 1, spec.n_max)):
        if n != counts:
            jobs = [random_job(spec, rng, 1, counts), *chain(spec, rng, [(1, 1)] * 2)]
            yield altered(case_of(spec, f"n-{n}", jobs, seed=seed, status={"sts_error": 2}), "cfg", n=n)


def real(spec: LutGemmSpec) -> tuple[IndexGemm, int]:
    """A real token and rows of a real matrix, both to the nearest of evenly spaced centroids."""
    f = fixture.load()
    k, n = min(spec.k_max, fixture.WIDTH), min(spec.n_max, 8 * spec.lines)
    index, acts = _even(f.x[0, :k], spec.act_bits)
    weights, books = _even(q4_1.dequantise(*f.gate)[:n, :k], spec.weight_bits)
    return IndexGemm(index, weights, acts, books, scale=np.ones(n, np.float32)), n * k


def _even(values: NDArray[np.float32], bits: int) -> tuple[Int, Int]:
    step = 256 >> bits
    book = np.arange(1 << bits) * step + LOW + step // 2
    scaled = values.astype(np.float64) * (64 / np.abs(values).std() / 3)
    return np.clip(np.floor((scaled - LOW) / step), 0, (1 << bits) - 1).astype(np.int64), book
