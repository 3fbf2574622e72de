"""The bench of unit ``orizuru``: transactions made from the specification and a seed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from golden import fixture
from golden.formats import FLOATS
from golden.orizuru.engine import OrizuruSpec, Vector
from golden.orizuru.keys import KeyFormat
from tb.transactions import Case, case_of, cases_of

Int = NDArray[np.int64]


def bench(spec: OrizuruSpec, seed: int) -> list[Case]:
    """Ties, corners and orders of all kinds, every length and k of small engines, all stalls, resets, status."""
    rng = np.random.default_rng(seed)
    mixed = [random_vector(spec, rng) for _ in range(8)]
    tied = [with_thresholds(spec, rng, job) for job in _patterns(spec, rng)]
    long = _long(spec, rng)
    cases = [
        case_of(spec, "lengths", list(_lengths(spec, rng)), seed=seed),
        case_of(spec, "patterns", tied, seed=seed),
        case_of(spec, "holes", [_holes(spec, rng) for _ in range(8)], seed=seed),
        case_of(spec, "shorter", list(_shorter(spec, rng)), seed=seed),
        case_of(spec, "nothing", [_some(spec, rng, 0, 1), _some(spec, rng, spec.n, 0)] * 3, seed=seed),
        *(case_of(spec, f"alone-{n}", [_some(spec, rng, n, spec.k_max)], seed=seed) for n in (0, 1, spec.n)),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *cases_of(spec, "ties", tied[:6], seed=seed, level=160),
        case_of(spec, "sink-nearly-stuck", mixed[:3], seed=seed, stall={"o": 240}),
        case_of(spec, "k-late", mixed, seed=seed, stall={"cfg": 250}),
        _untimed(case_of(spec, "too-long", [long, mixed[0], mixed[1]], seed=seed, status={"sts_error": 1})),
        _untimed(case_of(spec, "empty-end", [_empty_end(spec, rng), mixed[2], _empty_end(spec, rng)], seed=seed)),
    ]
    for lane in sorted({0, 1, spec.lanes - 1} & set(range(spec.lanes))):
        one = [_one_beyond(spec, rng, lane), mixed[0]]
        cases.append(_untimed(case_of(spec, f"too-long-by-{lane}", one, seed=seed, status={"sts_error": 1})))
    most = (1 << spec.k_width) - 1
    for k in sorted({*range(spec.k_max + 1, min(spec.k_max + 4, most) + 1), most} - {spec.k_max}):
        wide = _some(spec, rng, spec.n, k)
        cases.append(case_of(spec, f"k-too-large-{k}", [wide, mixed[0]], seed=seed, status={"sts_error": 2}))
    if most > spec.k_max:
        both = [long, _some(spec, rng, spec.n, most)]
        cases.append(_untimed(case_of(spec, "both-wrong", both, seed=seed, status={"sts_error": 3})))
    first = spec.rows + spec.latency
    for at in (0, 1, 2, spec.rows // 2, spec.rows + 1, first, first + 3, first + spec.rows):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", mixed[:3], seed=seed)]
    return cases


def _untimed(case: Case) -> Case:
    """Of a vector with more beats than there are rows the cycles are not specified."""
    return replace(case, cycles=None)


def corners(fmt: KeyFormat) -> Int:
    """Smallest and largest keys, and around zero; of floats zeros, subnormals, infinities and NaN of both signs."""
    if fmt.kind != "float":
        middle = (fmt.low + fmt.high + 1) // 2
        return np.array([fmt.low, fmt.low + 1, middle - 1, middle, middle + 1, fmt.high - 1, fmt.high])
    infinity = {"fp16": 0x7C00, "bf16": 0x7F80, "fp32": 0x7F800000}[fmt.name]
    top = 1 << (fmt.bits - 1)
    magnitudes = np.array([0, 1, infinity - 1, infinity, infinity + 1, top - 1])
    return np.concatenate([magnitudes, magnitudes | top])


def random_keys(spec: OrizuruSpec, rng: np.random.Generator, n: int) -> Int:
    """Anything, a few values again and again, or corners."""
    fmt = spec.key_format
    anything = rng.integers(fmt.low, fmt.high, n, endpoint=True)
    few = rng.choice(rng.integers(fmt.low, fmt.high, 3, endpoint=True), n)
    return (anything, few, rng.choice(corners(fmt), n))[rng.integers(3)]


def random_vector(spec: OrizuruSpec, rng: np.random.Generator) -> Vector:
    """Full or short, k anything, sometimes with keys missing."""
    n = int(rng.integers(0, spec.n, endpoint=True)) if rng.random() < 0.5 else spec.n
    present = rng.random(n) < 0.7 if rng.random() < 0.25 else None
    k = int(rng.integers(0, spec.k_max, endpoint=True))
    return with_thresholds(spec, rng, Vector(random_keys(spec, rng, n), k, present))


def with_thresholds(spec: OrizuruSpec, rng: np.random.Generator, job: Vector) -> Vector:
    """With thresholds for variant ``threshold``: mostly keys of the vector near its ends, or anything, also crossed."""
    if not spec.thresholds:
        return job
    fmt = spec.key_format
    if rng.random() < 0.3 or not len(job.keys):
        lower, upper = rng.integers(fmt.low, fmt.high, 2, endpoint=True)
    else:
        ranked = job.keys[np.argsort(fmt.order(job.keys), kind="stable")]
        lower, upper = (ranked[int(share * (len(ranked) - 1))] for share in (rng.random() / 4, 1 - rng.random() / 4))
    return replace(job, upper=int(upper), lower=int(lower))


def _some(spec: OrizuruSpec, rng: np.random.Generator, n: int, k: int) -> Vector:
    return with_thresholds(spec, rng, Vector(random_keys(spec, rng, n), k))


def _lengths(spec: OrizuruSpec, rng: np.random.Generator) -> Iterator[Vector]:
    """Every length with several k in small engines, of large ones the ends and around multiples of a beat."""
    near = {0, 1, 2, spec.lanes - 1, spec.lanes, spec.lanes + 1, spec.n - spec.lanes, spec.n - 1, spec.n}
    lengths = range(spec.n + 1) if spec.n <= 16 else sorted(x for x in near if x <= spec.n)
    for n, k in product(lengths, sorted({0, 1, min(2, spec.k_max), spec.k_max})):
        yield _some(spec, rng, n, k)


def _patterns(spec: OrizuruSpec, rng: np.random.Generator) -> Iterator[Vector]:
    """All equal, two values, rising, falling, alternating, one that stands out, corners; of sorted and real keys."""
    fmt, n, k = spec.key_format, spec.n, spec.k_max
    some = np.sort(rng.integers(fmt.low, fmt.high, n, endpoint=True))
    one = np.arange(n) == rng.integers(n)
    order = np.argsort(fmt.order(some), kind="stable")
    yield Vector(np.full(n, corners(fmt)[rng.integers(7)]), k)
    yield Vector(rng.choice(corners(fmt)[:2], n), k)
    yield Vector(some[order], k)
    yield Vector(some[order][::-1], k)
    for high in (np.arange(n) % 2 == 1, one, ~one):
        yield Vector(np.where(high, fmt.high, fmt.low), k)
    yield Vector(rng.choice(corners(fmt), n), k)
    yield Vector(real_keys(fmt, n), k)


def real_keys(fmt: KeyFormat, n: int, start: int = 0) -> Int:
    """``n`` real activations from number ``start`` of the fixture on, tokens joined; integers use the format's whole
    range."""
    x = fixture.load().x.ravel()[start : start + n].astype(np.float64)
    if fmt.kind == "float":
        float_format = FLOATS[fmt.name]
        return float_format.code(float_format.rounded(x))
    scaled = np.rint(x * (((1 << (fmt.bits - 1)) - 1) / np.abs(x).max())).astype(np.int64)
    return scaled + fmt.low + (1 << (fmt.bits - 1))


def real(spec: OrizuruSpec) -> tuple[Vector, int]:
    """One vector of real activations, n of them; k_max of each side are wanted, or just beyond the thresholds."""
    keys = real_keys(spec.key_format, spec.n)
    ranked = keys[np.argsort(spec.key_format.order(keys), kind="stable")]
    return Vector(keys, spec.k_max, upper=int(ranked[-spec.k_max]), lower=int(ranked[spec.k_max - 1])), 1


def _holes(spec: OrizuruSpec, rng: np.random.Generator) -> Vector:
    n = spec.n
    job = Vector(random_keys(spec, rng, n), spec.k_max, rng.random(n) < rng.random())
    return with_thresholds(spec, rng, job)


def _shorter(spec: OrizuruSpec, rng: np.random.Generator) -> Iterator[Vector]:
    """Shorter and shorter ones, two of each length: whatever an earlier one left would win on both sides."""
    fmt, lengths = spec.key_format, sorted({round(n) for n in np.geomspace(1, spec.n, 8)}, reverse=True)
    values = np.arange(fmt.low, fmt.high + 1, 1 << max(0, fmt.bits - 16))
    order = np.argsort(fmt.order(values), kind="stable")
    for step, n in enumerate(lengths):
        inside = values[order][step * 7 : len(values) - step * 7]
        for _ in range(2):
            some = rng.choice(inside, n)
            some[:1], some[-1:] = inside[0], inside[-1]
            yield with_thresholds(spec, rng, Vector(some, spec.k_max))


def _long(spec: OrizuruSpec, rng: np.random.Generator) -> Vector:
    return _some(spec, rng, spec.n + int(rng.integers(1, 2 * spec.lanes, endpoint=True)), spec.k_max)


def _empty_end(spec: OrizuruSpec, rng: np.random.Generator) -> Vector:
    """n keys, and tlast with an empty beat behind them."""
    beats = spec.rows + 1
    job = Vector(random_keys(spec, rng, beats * spec.lanes), spec.k_max, np.arange(beats * spec.lanes) < spec.n)
    return with_thresholds(spec, rng, job)


def _one_beyond(spec: OrizuruSpec, rng: np.random.Generator, lane: int) -> Vector:
    """One key in the beat behind the last row, in that lane."""
    places = np.arange((spec.rows + 1) * spec.lanes)
    present = (places < spec.n) | (places == spec.rows * spec.lanes + lane)
    return with_thresholds(spec, rng, Vector(random_keys(spec, rng, len(places)), spec.k_max, present))
