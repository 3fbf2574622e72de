"""The bench of unit ``mixpe_pe``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.mixpe.formats import SOURCES, ActFormat, AlignedFormat, align
from golden.mixpe.pe import Groups, PESpec
from golden.quantize import float_codes, quantise_e2m1, quantise_weights
from tb.transactions import Case, case_of, cases_of

REAL_TOKENS, REAL_CHANNELS = 4, 8


def bench(spec: PESpec, seed: int) -> list[Case]:
    """Every product alone (or a sample), groups of special and random lengths, extremes, all stalls, resets."""
    rng = np.random.default_rng(seed)
    lengths = group_lengths(spec.group, rng, 12)
    mixed = [_random(spec, rng, lengths) for _ in range(2)]
    singles = [_random(spec, rng, [1] * 40)]
    cases = [
        case_of(spec, "products", [_products(spec, rng)], seed=seed),
        case_of(spec, "extremes", list(_extremes(spec)), seed=seed),
        case_of(spec, "one-product", [_random(spec, rng, [1])], seed=seed),
        *cases_of(spec, "groups", mixed, seed=seed),
        *cases_of(spec, "singles", singles, seed=seed, level=160),
        case_of(spec, "sink-nearly-stuck", singles, seed=seed, stall={"o": 250}),
        case_of(spec, "source-nearly-idle", singles, seed=seed, stall={"i": 230, "o": 30}),
    ]
    cuts = [(at, f"cycle-{at}", singles) for at in (0, 1, 2, spec.latency + 1, spec.latency + 17)]
    if spec.group > 2:
        cuts.append((spec.latency + 2, "group", [_random(spec, rng, [min(spec.group, 16), 1])]))
    for at, where, jobs in cuts:
        cut = case_of(spec, f"reset-in-{where}", jobs, seed=seed, stall={"o": 128}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", singles, seed=seed)]
    return cases


def real(spec: PESpec) -> tuple[Groups, int]:
    """A job of real data and how many products it has: output-stationary, as an element of the array sees them.

    ``REAL_TOKENS`` tokens of the fixture, each against ``REAL_CHANNELS`` output channels of its gate matrix in turn (in
    pairs for a pair of elements), over the whole K in groups of 32 (shorter where ``spec.group`` is). Weights with a
    float minimum are the stored codes, others are quantised again; integer activations use the whole range of the
    format, per token, floating-point ones are rounded, aligned ones rounded to BF16 and aligned.
    """
    data, w, a = fixture.load(), spec.weight_format, spec.act_format
    codes: NDArray[Any]
    group = min(spec.group, q4_1.GROUP)
    stored = q4_1.dequantise(*data.gate)[:REAL_CHANNELS].T
    if w.correction == "min":
        codes = data.gate.codes[:REAL_CHANNELS].T
    elif w.magnitudes:
        codes = quantise_e2m1(stored, group, "e8m0").codes
    else:
        codes = quantise_weights(stored, spec.weight, group).codes
    x = data.x[:REAL_TOKENS].astype(np.float64)
    if isinstance(a, AlignedFormat):
        starts = np.arange(0, x.shape[1], group)
        x_codes, _ = align(float_codes(x, "bf16"), SOURCES["bf16_aligned"], a.significand_bits, starts)
        x_codes &= (1 << a.significand_bits) - 1
    elif a.floating:
        x_codes = float_codes(x, spec.act)
    else:
        x_codes = np.rint(x * (a.high / np.abs(x).max(axis=1, keepdims=True))).astype(np.int64)
    k, n = codes.shape
    turns = n // spec.columns
    by_turn = codes.reshape(k, turns, spec.columns).swapaxes(0, 1).reshape(-1, spec.columns)
    job = Groups(
        x=np.repeat(x_codes, turns, axis=0).ravel(),
        w=np.tile(by_turn, (len(x), 1)).astype(np.int64),
        lengths=tuple(min(group, k - at) for at in range(0, k, group)) * (turns * len(x)),
    )
    return job, job.w.size


def weight_codes(spec: PESpec) -> NDArray[np.int64]:
    w = spec.weight_format
    return np.arange(w.low, w.high + 1)


def act_codes(fmt: ActFormat) -> NDArray[np.int64]:
    return np.arange(fmt.codes[0], fmt.codes[1] + 1)


def pairs(spec: PESpec, x: NDArray[np.int64], w: NDArray[np.int64]) -> Groups:
    """All products of the codes ``x`` and ``w``, each a group of its own; of a pair, with all of both weights."""
    a, *b = (g.ravel() for g in np.meshgrid(x, *[w] * spec.columns))
    return Groups(a, np.stack(b, axis=1), (1,) * len(a))


def _products(spec: PESpec, rng: np.random.Generator) -> Groups:
    """Every product of formats of up to 8 bits; of wider activations the corners and a sample, with every weight."""
    x = act_codes(spec.act_format)
    if len(x) > 256:
        ends = corners(spec.act_format)
        sample = rng.choice(x, max(8, 4000 // len(weight_codes(spec))))
        x = np.concatenate([ends, sample])
    return pairs(spec, x, weight_codes(spec))


def corners(fmt: ActFormat) -> NDArray[np.int64]:
    """Smallest and largest codes, and around zero; of floats zeros, the ends of the normal and subnormal numbers,
    infinities and NaN, of both signs."""
    if not fmt.floating or isinstance(fmt, AlignedFormat):
        codes = np.array([fmt.low, fmt.low + 1, -1, 0, 1, fmt.high - 1, fmt.high])
        if not fmt.floating:
            return codes
        special = 1 << (fmt.bits - 1)
        return np.concatenate([codes & (special - 1), codes & (special - 1) | special])
    normal = 1 << fmt.fraction_bits
    largest = int(extreme(fmt, 1))
    magnitudes = np.array(
        [0, 1, normal - 1, normal, normal + 1, largest, *range(largest + 1, 1 << (fmt.bits - 1))][:40]
    )
    return np.concatenate([magnitudes, magnitudes | 1 << (fmt.bits - 1)])


def extreme(fmt: ActFormat, sign: int) -> np.int64:
    """The code of the largest finite activation of that sign."""
    codes = act_codes(fmt)
    if fmt.exponent_bits:  # magnitudes ascend, NaN and infinities come after them
        magnitudes = codes[: len(codes) // 2]
        largest = magnitudes[~fmt.special(magnitudes)][-1]
        return largest if sign > 0 else largest | 1 << (fmt.bits - 1)
    return codes[np.argmax(np.where(fmt.special(codes), 0, sign * fmt.operand(codes)))]


def _extremes(spec: PESpec) -> Iterator[Groups]:
    """Full groups of each corner of the operand ranges, and of corners that alternate in sign."""
    w, n = weight_codes(spec), spec.group
    operands = spec.weight_format.operand(w)
    low, high, none = (w[i] for i in (operands.argmin(), operands.argmax(), np.abs(operands).argmin()))
    least, most = (extreme(spec.act_format, sign) for sign in (-1, 1))
    turns = np.arange(n) % 2 == 0
    for b in product((low, high, none), repeat=spec.columns):
        for a in (least, most, np.where(turns, least, most)):
            yield Groups(np.broadcast_to(a, n), np.tile(b, (n, 1)), (n,))
    yield Groups(np.full(n, least), np.tile(np.where(turns, low, high), (spec.columns, 1)).T, (n,))


def group_lengths(group: int, rng: np.random.Generator, count: int) -> list[int]:
    """Short, full and ``count`` random lengths in random order, in a job of about 2,000 steps at most."""
    special = [n for n in (1, 2, 3, 4, group - 1, group) if 1 <= n <= group]
    lengths = [*special, *special, *rng.integers(1, group, count, endpoint=True)]
    rng.shuffle(lengths)
    while sum(lengths) > 2000 and len(lengths) > 4:
        lengths.remove(max(lengths))
    return [int(n) for n in lengths]


def _random(spec: PESpec, rng: np.random.Generator, lengths: Sequence[int]) -> Groups:
    n = sum(lengths)
    x = rng.integers(*spec.act_format.codes, n, endpoint=True)
    finite = ~spec.act_format.special(x) | (rng.random(n) < 0.1)  # or hardly a sum would be
    return Groups(np.where(finite, x, 0), rng.choice(weight_codes(spec), (n, spec.columns)), tuple(lengths))
