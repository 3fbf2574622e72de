"""The bench of unit ``mixpe_pe``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.mixpe.formats import ACTS, WEIGHTS
from golden.mixpe.pe import Groups, PESpec
from golden.quantize import quantise_weights
from tb.transactions import Case, case_of, cases_of

REAL_TOKENS, REAL_CHANNELS = 4, 8


def bench(spec: PESpec, seed: int) -> list[Case]:
    """Every product alone, random groups of special and random lengths, extremes, all mixtures of stalls, resets."""
    rng = np.random.default_rng(seed)
    lengths = _lengths(spec, rng)
    mixed = [_random(spec, rng, lengths) for _ in range(2)]
    singles = [_random(spec, rng, [1] * 40)]
    cases = [
        case_of(spec, "every-product", [_every_product(spec)], seed=seed),
        case_of(spec, "extremes", list(_extremes(spec)), seed=seed),
        case_of(spec, "one-product", [_random(spec, rng, [1])], seed=seed),
        *cases_of(spec, "groups", mixed, seed=seed),
        *cases_of(spec, "singles", singles, seed=seed, level=160),
        case_of(spec, "sink-nearly-stuck", singles, seed=seed, stall={"o": 250}),
        case_of(spec, "source-nearly-idle", singles, seed=seed, stall={"i": 230, "o": 30}),
    ]
    for at in (0, 1, 2, spec.latency + 1, spec.latency + 17):
        cut = case_of(
            spec,
            f"reset-in-cycle-{at}",
            singles,
            seed=seed,
            stall={"o": 128},
            reset_at=at,
        )
        cases += [cut, case_of(spec, f"after-{cut.name}", singles, seed=seed)]
    return cases


def real(spec: PESpec) -> tuple[Groups, int]:
    """A job of real data and how many products it has: output-stationary, as an element of the array sees them.

    ``REAL_TOKENS`` tokens of the fixture, each against ``REAL_CHANNELS`` output channels of its gate matrix in turn,
    over the whole K in groups of 32 (shorter where ``spec.group`` is). Weights with a float minimum are the stored
    codes, others are quantised again; activations use the whole range of the format, per token.
    """
    data, w, a = fixture.load(), WEIGHTS[spec.weight], ACTS[spec.act]
    group = min(spec.group, q4_1.GROUP)
    if w.correction == "min":
        codes = data.gate.codes[:REAL_CHANNELS].T.astype(np.int64)
    else:
        stored = q4_1.dequantise(*data.gate)[:REAL_CHANNELS].T
        codes = quantise_weights(stored, spec.weight, group).codes.astype(np.int64)
    x = data.x[:REAL_TOKENS].astype(np.float64)
    x = np.rint(x * (a.high / np.abs(x).max(axis=1, keepdims=True))).astype(np.int64)
    k, n = codes.shape
    job = Groups(
        x=np.repeat(x, n, axis=0).ravel(),
        w=np.tile(codes.T.ravel(), len(x)),
        lengths=tuple(min(group, k - at) for at in range(0, k, group)) * (n * len(x)),
    )
    return job, len(job.x)


def _codes(spec: PESpec) -> NDArray[np.int64]:
    w = WEIGHTS[spec.weight]
    return np.arange(w.low, w.high + 1)


def _every_product(spec: PESpec) -> Groups:
    """All pairs of operands, each a group of its own."""
    x = ACTS[spec.act]
    w, a = (g.ravel() for g in np.meshgrid(_codes(spec), np.arange(x.low, x.high + 1)))
    return Groups(a, w, (1,) * len(a))


def _extremes(spec: PESpec) -> Iterator[Groups]:
    """Full groups of each corner of the operand ranges, and of corners that alternate in sign."""
    x, w = ACTS[spec.act], WEIGHTS[spec.weight]
    n, offset = spec.group, w.offset
    for a in (x.low, x.high):
        for b in (w.low, w.high, offset):
            yield Groups(np.full(n, a), np.full(n, b), (n,))
    turns = np.arange(n) % 2 == 0
    yield Groups(np.where(turns, x.low, x.high), np.full(n, w.low), (n,))
    yield Groups(np.full(n, x.low), np.where(turns, w.low, w.high), (n,))


def _lengths(spec: PESpec, rng: np.random.Generator) -> list[int]:
    """Short, full and random lengths in random order, in a job of about 2,000 products at most."""
    special = [n for n in (1, 2, 3, 4, spec.group - 1, spec.group) if 1 <= n <= spec.group]
    lengths = [*special, *special, *rng.integers(1, spec.group, 12, endpoint=True)]
    rng.shuffle(lengths)
    while sum(lengths) > 2000 and len(lengths) > 4:
        lengths.remove(max(lengths))
    return [int(n) for n in lengths]


def _random(spec: PESpec, rng: np.random.Generator, lengths: Sequence[int]) -> Groups:
    x, n = ACTS[spec.act], sum(lengths)
    a = rng.integers(x.low, x.high, n, endpoint=True)
    return Groups(a, rng.choice(_codes(spec), n), tuple(lengths))
