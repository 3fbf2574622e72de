"""The bench of unit ``kmeans_linear``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from golden import fixture, q4_1
from golden.kmeans.codebook import HIGH, LOW, Codebook
from golden.kmeans.linear import KMeansLinearSpec, LinearToken
from golden.quantize import float_codes
from tb.kmeans_quantizer import on_boundaries, random_book, random_codes
from tb.transactions import Case, altered, case_of, cases_of


def bench(spec: KMeansLinearSpec, seed: int) -> list[Case]:
    """Lengths, widths, numbers of outliers, tables in turn, all stalls, resets, status. Cycles of one token at a time;
    of several they are not specified."""
    rng = np.random.default_rng(seed)
    mixed = chain(spec, rng, [(_length(spec, rng), _width(spec, rng)) for _ in range(6)])
    most = spec.engine.k_max
    alone = [(k, n, o) for k in _lengths(spec) for n in _widths(spec)[-1:] for o in (0, most)]
    alone += [(k, n, o) for k in _lengths(spec)[-1:] for n in _widths(spec) for o in (0, 1, most)]
    cases = [
        *(case_of(spec, f"alone-{k}-{n}-{o}", [random_job(spec, rng, k, n, o)], seed=seed) for k, n, o in alone),
        case_of(spec, "boundaries", [_on_boundaries(spec, rng) for _ in range(6)], seed=seed),
        case_of(spec, "short", chain(spec, rng, [(1, _width(spec, rng)) for _ in range(6)]), seed=seed),
        case_of(spec, "none", [replace(job, k=0) for job in chain(spec, rng, [(spec.k_max, 1)] * 4)], seed=seed),
        case_of(spec, "some", [replace(job, k=i % 2 * most) for i, job in enumerate(mixed)], seed=seed),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *cases_of(spec, "small", chain(spec, rng, [(1, 1)] * 8), seed=seed, level=160),
        *(case_of(spec, f"{p.name}-late", mixed[:4], seed=seed, stall={p.name: 240}) for p in spec.ports),
        case_of(spec, "not-finite", [_strange(spec, rng), *mixed[:2]], seed=seed, status={"sts_error": 2}),
        case_of(spec, "too-long", [_long(spec, rng), *mixed[:2]], seed=seed, status={"sts_error": 1}),
        case_of(spec, "extremes", list(_extremes(spec)), seed=seed, status={"sts_error": 2}),
        *_wrong_counts(spec, rng, seed),
        case_of(spec, "o-stuck", [random_job(spec, rng, 1, spec.lines, 0) for _ in range(16)], stall={"o": 252}),
        case_of(spec, "scales", list(_scales(spec, rng)), seed=seed),
    ]
    span = spec.cycles(mixed[0])
    for at in (0, 1, 2, span // 4, span // 2, 3 * span // 4, span - 3, span + 5):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", mixed[:3], seed=seed)]
    return [case if case.name.startswith("alone") else replace(case, cycles=None) for case in cases]


def chain(
    spec: KMeansLinearSpec, rng: np.random.Generator, sizes: Sequence[tuple[int, int]], new: float = 0.3
) -> list[LinearToken]:
    """Jobs of those sizes (K, N); most of them use the table that is there."""
    jobs: list[LinearToken] = []
    for k, n in sizes:
        job = random_job(spec, rng, k, n, int(rng.integers(0, spec.engine.k_max, endpoint=True)))
        if jobs and rng.random() >= new:
            job = replace(job, acts=jobs[-1].acts, weight_book=jobs[-1].weight_book, load=False)
        jobs.append(job)
    return jobs


def random_job(spec: KMeansLinearSpec, rng: np.random.Generator, length: int, n: int, outliers: int) -> LinearToken:
    """Activations of all magnitudes, sometimes some are missing."""
    book = Codebook(np.sort(rng.integers(LOW, HIGH, 1 << spec.weight_bits, endpoint=True)))
    return LinearToken(
        x=random_codes(rng, length),
        acts=random_book(spec.quantizer, rng),
        shift=int(np.clip(length.bit_length() + rng.integers(2, 8), 0, 31)),
        weights=rng.integers(0, 1 << spec.weight_bits, (n, length)),
        weight_book=book,
        scale=rng.lognormal(0, 2, n).astype(np.float32),
        k=outliers,
        present=rng.random(length) < 0.7 if rng.random() < 0.3 else None,
    )


def _on_boundaries(spec: KMeansLinearSpec, rng: np.random.Generator) -> LinearToken:
    """As many outliers as there may be, on boundaries or next to them."""
    token = on_boundaries(spec.quantizer, rng)
    job = random_job(spec, rng, spec.k_max, 1, spec.engine.k_max)
    return replace(job, x=token.x, acts=token.book, shift=token.shift, present=None)


def _length(spec: KMeansLinearSpec, rng: np.random.Generator) -> int:
    return spec.k_max if rng.random() < 0.3 else int(rng.integers(1, spec.k_max, endpoint=True))


def _width(spec: KMeansLinearSpec, rng: np.random.Generator) -> int:
    return int(rng.integers(1, min(spec.n_max, 6 * spec.lines * spec.macs), endpoint=True))


def _lengths(spec: KMeansLinearSpec) -> list[int]:
    near = {0, 1, spec.lanes, spec.lanes + 1, spec.codes + 1, spec.k_max - 1, spec.k_max}
    return sorted(k for k in near if k <= spec.k_max)


def _widths(spec: KMeansLinearSpec) -> list[int]:
    row = spec.lines * spec.macs
    near = {1, spec.lines, spec.lines + 1, row, row + 1, 2 * row + 1, min(spec.n_max, 8 * row)}
    return sorted(n for n in near if n <= spec.n_max)


def _strange(spec: KMeansLinearSpec, rng: np.random.Generator) -> LinearToken:
    """One that is not finite, and an outlier for it."""
    job = random_job(spec, rng, spec.k_max, 1, spec.engine.k_max)
    job.x[rng.integers(spec.k_max)] = rng.choice([0x7C00, 0xFC00, 0x7FFF, 0xFE00])
    return replace(job, present=None)


def _long(spec: KMeansLinearSpec, rng: np.random.Generator) -> LinearToken:
    return replace(random_job(spec, rng, spec.k_max + spec.lanes + 1, 1, spec.engine.k_max), present=None)


def _extremes(spec: KMeansLinearSpec) -> Iterator[LinearToken]:
    """The largest sums of both paths: one activation and one pair of centroids everywhere, at the largest exponent."""
    k, n = spec.k_max, min(spec.n_max, spec.lines)
    for x, act, weight in ((0x7FFF, LOW, LOW), (0x7FFF, LOW, HIGH), (0xFFFF, HIGH, LOW), (0xFBFF, LOW, LOW)):
        acts, book = Codebook(np.full(1 << spec.act_bits, act)), Codebook(np.full(1 << spec.weight_bits, weight))
        weights = np.zeros((n, k), np.int64)
        yield LinearToken(np.full(k, x), acts, 0, weights, book, np.ones(n, np.float32), spec.engine.k_max)


def _scales(spec: KMeansLinearSpec, rng: np.random.Generator) -> Iterator[LinearToken]:
    """Scales that are no numbers, or the ends of theirs; centroids of 0 and -1."""
    ends = np.array([-0.0, 1e-40, -3, np.finfo(np.float32).max, np.inf, -np.inf, np.nan], np.float32)
    for first, book in enumerate(([0, 0], [-1, 0], [LOW, -1], [-1, -1], [0, HIGH], [0, 0], [LOW, HIGH])):
        job = random_job(spec, rng, spec.k_max, min(spec.lines, spec.n_max), spec.engine.k_max)
        job.x[0] = 0x8000
        acts, weights = (Codebook(np.sort(np.resize(book, 1 << b))) for b in (spec.act_bits, spec.weight_bits))
        yield replace(job, scale=np.resize(ends[first:], len(job.scale)), acts=acts, weight_book=weights, shift=31)


def _wrong_counts(spec: KMeansLinearSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """No outputs, which count as one; more than ``n_max`` or ``outliers``, if their fields have room for that."""
    for n, counts in ((0, 1), ((1 << spec.gemm.n_width) - 1, spec.n_max)):
        if n != counts:
            job = random_job(spec, rng, min(spec.k_max, 2 * spec.codes), counts, spec.engine.k_max)
            jobs = [replace(job, present=None), *chain(spec, rng, [(1, 1)] * 2)]
            yield altered(case_of(spec, f"n-{n}", jobs, seed=seed, status={"sts_error": 4}), "cfg", n=n)
    k = (1 << spec.engine.k_width) - 1
    if k > spec.engine.k_max:
        jobs = [random_job(spec, rng, spec.k_max, 1, k), *chain(spec, rng, [(1, 1)] * 2)]
        yield case_of(spec, f"k-{k}", jobs, seed=seed, status={"sts_error": 8})


def real(spec: KMeansLinearSpec) -> tuple[LinearToken, int]:
    """A real token and rows of a real matrix, to evenly spaced centroids."""
    f = fixture.load()
    k, n = min(spec.k_max, fixture.WIDTH), min(spec.n_max, 8 * spec.lines)
    w = q4_1.dequantise(*f.gate)[:n, :k].astype(np.float64)
    step = 256 >> spec.weight_bits
    books = [Codebook(np.arange(1 << b) * (256 >> b) + LOW + (128 >> b)) for b in (spec.act_bits, spec.weight_bits)]
    weights = np.clip(np.floor((w * (30 / w.std()) - LOW) / step), 0, (1 << spec.weight_bits) - 1).astype(np.int64)
    x = float_codes(f.x[:1, :k].astype(np.float64), "fp16")[0]
    job = LinearToken(x, books[0], k.bit_length() + 4, weights, books[1], np.ones(n, np.float32), spec.outliers)
    return job, n * k
