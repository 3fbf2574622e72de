"""The bench of unit ``kmeans_quantizer``: transactions made from the specification and a seed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden import fixture
from golden.kmeans import token
from golden.kmeans.codebook import HIGH, LOW, Codebook
from golden.kmeans.quantizer import QuantizerSpec, Token
from golden.quantize import float_codes
from tb.transactions import Case, case_of, cases_of

Int = NDArray[np.int64]


def bench(spec: QuantizerSpec, seed: int) -> list[Case]:
    """Lengths, boundaries hit exactly, scales from the smallest to the largest, all stalls, resets, status."""
    rng = np.random.default_rng(seed)
    mixed = [random_token(spec, rng) for _ in range(8)]
    wrong = [_long(spec, rng, 2), _strange(spec, rng)]
    many = range(max(6, min(64, 1024 // spec.k_max)))  # a short token shows little
    cases = [
        case_of(spec, "lengths", [job for n in _lengths(spec) for job in [some_token(spec, rng, n)] * 2], seed=seed),
        case_of(spec, "boundaries", [on_boundaries(spec, rng) for _ in many], seed=seed),
        case_of(spec, "near-zero", [_near_zero(spec, rng) for _ in range(4)], seed=seed),
        case_of(spec, "shifts", list(_shifts(spec, rng)), seed=seed),
        case_of(spec, "any-shift", [_any_shift(spec, rng) for _ in many], seed=seed),
        case_of(spec, "brinks", list(_brinks(spec, rng)), seed=seed),
        case_of(spec, "equal-centroids", [_tied(spec, rng) for _ in range(4)], seed=seed),
        case_of(spec, "holes", [_holes(spec, rng) for _ in many], seed=seed),
        case_of(spec, "long-then-short", [some_token(spec, rng, n) for n in (spec.k_max, 1, 1, 1, 1, spec.k_max)]),
        *(case_of(spec, f"alone-{n}", [some_token(spec, rng, n)], seed=seed) for n in (0, 1, spec.k_max)),
        *(
            case_of(spec, f"many-{level}", [random_token(spec, rng) for _ in many], seed=seed, stall=level)
            for level in (0, 96)
        ),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *cases_of(spec, "short", [some_token(spec, rng, 1) for _ in range(12)], seed=seed, level=160),
        case_of(spec, "cfg-late", mixed, seed=seed, stall={"cfg": 250}),
        case_of(spec, "exp-late", mixed, seed=seed, stall={"exp": 250}),
        *(
            case_of(spec, f"not-finite-{x:x}", [_strange(spec, rng, x), mixed[0]], seed=seed, status={"sts_error": 2})
            for x in (0x7C00, 0xFC00, 0x7FFF, 0xFE00)
        ),
        *(
            case_of(spec, f"too-long-{n}", [_long(spec, rng, n), *mixed[:2]], seed=seed, status={"sts_error": 1})
            for n in (1, 2, 3)
        ),
        *(
            case_of(
                spec, f"too-long-by-{lane}", [_beyond(spec, rng, lane), mixed[0]], seed=seed, status={"sts_error": 1}
            )
            for lane in sorted({0, 1, spec.lanes - 1} & set(range(spec.lanes)))
        ),
        *(
            case_of(spec, f"empty-end-{level}", [_beyond(spec, rng), *mixed[:2]] * 2, seed=seed, stall=level)
            for level in (0, 96)
        ),
        *(
            case_of(spec, f"both-wrong-{n}", [*wrong[::way], *mixed[:n]], seed=seed, status={"sts_error": 3})
            for n, way in ((0, 1), (1, -1), (2, 1))
        ),
    ]
    for at in (0, 1, 2, spec.rows, spec.rows + 3, spec.rows + spec.latency, 2 * spec.rows + spec.latency):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", mixed[:3], seed=seed)]
    return cases


def random_book(spec: QuantizerSpec, rng: np.random.Generator) -> Codebook:
    """Spread out, close together, or with the extremes."""
    count = 1 << spec.bits
    kind = rng.integers(3)
    centroids = rng.integers(LOW, HIGH, count, endpoint=True) if kind else rng.integers(-9, 9, count, endpoint=True)
    if kind == 2:
        centroids[:2] = LOW, HIGH
    return Codebook(np.sort(centroids))


def random_codes(rng: np.random.Generator, n: int) -> Int:
    """FP16 numbers that are finite: near one another, of all magnitudes, the smallest, or with one that stands out."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.normal(0, 10.0 ** rng.integers(-3, 3), n).astype(np.float16).view(np.uint16).astype(np.int64)
    codes = rng.integers(0, 0x7C00, n) | rng.integers(0, 2, n) << 15
    if kind == 1:
        return codes
    small = codes & 0x83FF
    if kind == 3 and n:
        small[rng.integers(n)] = 0x7BFF
    return small


def some_token(spec: QuantizerSpec, rng: np.random.Generator, n: int) -> Token:
    """With a shift that puts the mean among the centroids, more or less."""
    shift = int(np.clip(max(n, 1).bit_length() + rng.integers(2, 8), 0, 31))
    return Token(random_codes(rng, n), random_book(spec, rng), shift)


def random_token(spec: QuantizerSpec, rng: np.random.Generator) -> Token:
    n = spec.k_max if rng.random() < 0.5 else int(rng.integers(0, spec.k_max, endpoint=True))
    return some_token(spec, rng, n)


def _lengths(spec: QuantizerSpec) -> list[int]:
    """Every length of a small unit, of a large one the ends and around multiples of a beat."""
    near = {0, 1, 2, spec.lanes - 1, spec.lanes, spec.lanes + 1, 5 * spec.lanes, spec.k_max - 1, spec.k_max}
    return list(range(spec.k_max + 1)) if spec.k_max <= 16 else sorted(n for n in near if n <= spec.k_max)


def on_boundaries(spec: QuantizerSpec, rng: np.random.Generator) -> Token:
    """Activations on boundaries, and next to them on both sides, for the exponent that the token gets."""
    book = random_book(spec, rng)
    x = rng.choice(book.boundaries / 2, spec.k_max).astype(np.float16)
    codes = x.view(np.uint16).astype(np.int64)
    codes = np.maximum((codes & 0x7FFF) + rng.integers(-1, 2, spec.k_max), 0) | codes & 0x8000
    return _scaled_by(0, codes, book)


def _near_zero(spec: QuantizerSpec, rng: np.random.Generator) -> Token:
    """Powers of two and their neighbours, of a boundary and far below it, with the smallest boundaries that differ."""
    codes = (rng.integers(1, 20, spec.k_max) << 10) + rng.integers(-1, 2, spec.k_max)
    middle = 1 << (spec.bits - 1)
    return _scaled_by(0, codes | rng.integers(0, 2, spec.k_max) << 15, Codebook(np.arange(-middle, middle)))


def _scaled_by(e: int, codes: Int, book: Codebook) -> Token:
    """With the shift for that exponent, if there is one."""
    total = int(np.abs(token.steps(codes)).sum())
    return Token(codes, book, int(np.clip(total.bit_length() - 1 + token.GRID - e, 0, 31)))


def _shifts(spec: QuantizerSpec, rng: np.random.Generator) -> Iterator[Token]:
    """Exponents at both ends: the smallest and the largest numbers with the largest and the smallest shift."""
    for codes, shift in ((1, 31), (1, 0), (0x7BFF, 0), (0xFBFF, 31), (0, 5), (0x8000, 0), (0x3C00, 12), (0x03FF, 3)):
        yield Token(np.full(spec.k_max, codes), random_book(spec, rng), shift)
    low, high = token.EXPONENTS
    for codes, end in ((1, low), (0x7BFF, high)):
        for e in (end - 1, end, end + 1):
            yield _scaled_by(e, np.full(spec.k_max, codes), random_book(spec, rng))


def _any_shift(spec: QuantizerSpec, rng: np.random.Generator) -> Token:
    """All magnitudes under any exponent: far too large, far too small."""
    codes = rng.integers(0, 0x7C00, spec.k_max) | rng.integers(0, 2, spec.k_max) << 15
    return Token(codes, random_book(spec, rng), int(rng.integers(32)))


def _brinks(spec: QuantizerSpec, rng: np.random.Generator) -> Iterator[Token]:
    """Sums of two that are a power of two, or one step less: no bit of the sum may be wrong."""
    n = min(spec.k_max, 2 * spec.lanes)
    for exponent in [*range(1, 31)] * 5:
        large = int(rng.integers(1024, 2047))
        for small in (2048 - large, 2047 - large):
            x = np.zeros(max(n, 2))
            x[rng.permutation(len(x))[:2]] = np.ldexp([large, small], exponent - 25)
            codes = x.astype(np.float16).view(np.uint16).astype(np.int64)[: spec.k_max]
            yield _scaled_by(0, codes | rng.integers(0, 2, len(codes)) << 15, random_book(spec, rng))


def _tied(spec: QuantizerSpec, rng: np.random.Generator) -> Token:
    values = rng.integers(-20, 20, 2)
    book = Codebook(np.sort(rng.choice(values, 1 << spec.bits)))
    return Token(random_codes(rng, spec.k_max), book, 12)


def _holes(spec: QuantizerSpec, rng: np.random.Generator) -> Token:
    n = int(rng.integers(1, spec.k_max, endpoint=True))
    return Token(random_codes(rng, n), random_book(spec, rng), 10, rng.random(n) < rng.random())


def _strange(spec: QuantizerSpec, rng: np.random.Generator, code: int = 0x7C01) -> Token:
    job = some_token(spec, rng, spec.k_max)
    job.x[rng.integers(spec.k_max)] = code
    return job


def _long(spec: QuantizerSpec, rng: np.random.Generator, rows: int) -> Token:
    """What is beyond the last row is so large that it would show in the scale."""
    job = some_token(spec, rng, (spec.rows + rows) * spec.lanes)
    job.x[spec.rows * spec.lanes :] = 0x7BFF
    return job


def _beyond(spec: QuantizerSpec, rng: np.random.Generator, lane: int | None = None) -> Token:
    """A beat behind the last row: empty, or with one activation."""
    places = np.arange((spec.rows + 1) * spec.lanes)
    job = some_token(spec, rng, len(places))
    some = np.zeros(len(places), bool) if lane is None else places == spec.rows * spec.lanes + lane
    return replace(job, present=(places < spec.k_max) | some)


def real(spec: QuantizerSpec) -> tuple[Token, int]:
    """One vector of real activations, and centroids at even distances."""
    x = fixture.load().x.ravel()[: spec.k_max].astype(np.float64)
    codes = float_codes(x[None], "fp16")[0]
    step = 128 >> spec.bits
    book = Codebook(np.arange(1 << spec.bits) * 2 * step + LOW + step)
    return Token(codes, book, spec.k_max.bit_length() + 4), 1
