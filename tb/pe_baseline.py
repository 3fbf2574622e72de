"""The bench of unit ``pe_baseline``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.mixpe.baseline import MODES, BaselineSpec, Groups
from golden.mixpe.pe import PESpec
from golden.quantize import quantise_weights
from tb import mixpe_pe
from tb.transactions import Case, case_of, cases_of

F16 = NDArray[np.float16]

CORNERS = np.array(
    [0, 1, 2, 0x1FF, 0x200, 0x3FF, 0x400, 0x401, 0x7FF, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF],
    np.uint16,
)
"""FP16: zero, subnormals, the edges of binades, the largest, infinity, NaN."""


def bench(spec: BaselineSpec, seed: int) -> list[Case]:
    """Corners alone and in pairs, sums that cancel, grow and round, all mixtures of stalls, resets."""
    rng = np.random.default_rng(seed)
    lengths = mixpe_pe.group_lengths(spec.group, rng, 30)
    mixed = [random_job(spec, rng, lengths) for _ in range(2)]
    singles = [random_job(spec, rng, [1] * 40)]
    cases = [
        case_of(spec, "corners", list(_corners(spec)), seed=seed),
        case_of(spec, "one-beat", [random_job(spec, rng, [1])], seed=seed),
        *cases_of(spec, "groups", mixed, seed=seed),
        *cases_of(spec, "singles", singles, seed=seed, level=160),
        case_of(spec, "sink-nearly-stuck", singles, seed=seed, stall={"o": 250}),
        case_of(spec, "source-nearly-idle", singles, seed=seed, stall={"i": 230, "o": 30}),
    ]
    for at in (0, 1, 2, spec.latency + 1, spec.latency + 17):
        cut = case_of(spec, f"reset-in-cycle-{at}", singles, seed=seed, stall={"o": 128}, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", singles, seed=seed)]
    return cases


def random_job(spec: BaselineSpec, rng: np.random.Generator, lengths: Sequence[int]) -> Groups:
    """Groups of those lengths."""
    n = sum(lengths)
    if spec.design == "bitfusion":
        return _integers(spec, rng, rng.integers(0, len(spec.modes), n), lengths)
    x = _floats(rng, lengths)
    if spec.design == "fp16_dequant":
        return Groups(x, rng.integers(-8, 8, n), tuple(lengths), scale=_floats(rng, lengths))
    w = _floats(rng, lengths)
    again = np.flatnonzero(rng.random(n) < 0.3)  # the product before, with the other sign and nearly the same
    again = again[again > 0]
    x[again] = x[again - 1]
    w[again] = -w[again - 1]
    nudged = w.view(np.uint16)
    nudged[again] ^= rng.integers(0, 3, len(again)).astype(np.uint16)
    return Groups(x, w, tuple(lengths))


def real(spec: BaselineSpec) -> tuple[Groups, int]:
    """The real data of :func:`tb.mixpe_pe.real` for this element, and how many products it has.

    The same tokens and channels in the same order; FP16 weights are the stored ones, codes are INT4 with their scales,
    and a fused element takes as many products in a beat as its narrowest mode allows.
    """
    job, products = mixpe_pe.real(PESpec(weight="int8" if spec.narrowest == "8x8" else "int4", group=spec.group))
    if spec.design == "bitfusion":
        mode = len(spec.modes) - 1
        width = spec.products(mode)
        x, w = (a.reshape(-1, width) for a in (job.x, job.w))
        lengths = tuple(n // width for n in job.lengths)
        return Groups(x, w, lengths, mode=np.full(len(x), mode)), products
    data, group = fixture.load(), job.lengths[0]
    stored = q4_1.dequantise(*data.gate)[: mixpe_pe.REAL_CHANNELS].T
    tokens = np.repeat(data.x[: mixpe_pe.REAL_TOKENS], mixpe_pe.REAL_CHANNELS, axis=0).ravel().astype(np.float16)

    def in_order(columns: NDArray[np.floating[Any]]) -> F16:
        return np.tile(columns.T.ravel(), mixpe_pe.REAL_TOKENS).astype(np.float16)

    if spec.design == "fp16":
        return Groups(tokens, in_order(stored), job.lengths), products
    scale = np.repeat(quantise_weights(stored, "int4", group).scale, group, axis=0)[: len(stored)]
    return Groups(tokens, job.w[:, 0], job.lengths, scale=in_order(scale)), products


def every_code(scale: int) -> Groups:
    """All pairs of a 4-bit code and an FP16 activation, each a group of its own, with the scale of those bits."""
    w, x = (g.ravel() for g in np.meshgrid(np.arange(-8, 8), np.arange(1 << 16)))
    n = len(x)
    return Groups(_fp16(x), w, (1,) * n, scale=_fp16(np.full(n, scale)))


def _corners(spec: BaselineSpec) -> Iterator[Groups]:
    """All pairs of corners: alone, one after another in a sum, two at a time, and each between two smallest products
    (which a zero must not move, and a large product must swallow)."""
    if spec.design == "bitfusion":
        yield from _extremes(spec)
        return
    both = np.concatenate([CORNERS, CORNERS | 0x8000])
    x, w = (_fp16(g.ravel()) for g in np.meshgrid(both, both))
    at = np.arange(len(x))
    finite = at[np.isfinite(x) & np.isfinite(w)]
    smallest = np.flatnonzero((x == CORNERS[1:2].view(np.float16)) & (w == CORNERS[1:2].view(np.float16)))
    between = np.stack([np.full(len(at), smallest[0]), at, np.full(len(at), smallest[0])], axis=1).ravel()
    beyond = np.setdiff1d(at, finite)
    for chosen, length in ((at, 1), (finite, len(finite)), (beyond, 2), (between, 3)):
        lengths = (length,) * (len(chosen) // length)
        if spec.design == "fp16":
            yield Groups(x[chosen], w[chosen], lengths)
        else:
            codes = np.resize(np.arange(-8, 8), len(chosen))
            yield Groups(x[chosen], np.where(chosen == smallest[0], 1, codes), lengths, scale=w[chosen])
    if spec.design == "fp16_dequant":
        code, scale = (g.ravel() for g in np.meshgrid(np.arange(-8, 8), both))
        yield Groups(_fp16(np.full(len(code), 0x3C00)), code, (1,) * len(code), scale=_fp16(scale))


def _extremes(spec: BaselineSpec) -> Iterator[Groups]:
    """Each mode: full groups of each corner of the operand ranges, and every operand of its products alone."""
    n, most = spec.group, spec.products(len(spec.modes) - 1)
    for mode, name in enumerate(spec.modes):
        parts = spec.products(mode)
        x_bits, w_bits = MODES[name]
        for x in (-1 << x_bits - 1, (1 << x_bits - 1) - 1):
            for w in (-1 << w_bits - 1, (1 << w_bits - 1) - 1):
                modes = np.full(n, mode)
                yield Groups(np.full((n, most), x), np.full((n, most), w), (n,), mode=modes)
        one = np.eye(parts, most, dtype=np.int64)
        for x, w in ((-1, 1), (1, -1), (-1, -1)):
            yield Groups(x * one, w * one, (1,) * parts, mode=np.full(parts, mode))


def _integers(spec: BaselineSpec, rng: np.random.Generator, mode: NDArray[np.int64], lengths: Sequence[int]) -> Groups:
    """Operands of the modes given; what a mode does not use is nothing."""
    n, most = len(mode), spec.products(len(spec.modes) - 1)
    x, w = np.zeros((n, most), np.int64), np.zeros((n, most), np.int64)
    for i, name in enumerate(spec.modes):
        parts = spec.products(i)
        for out, bits in zip((x, w), MODES[name], strict=True):
            drawn = rng.integers(-1 << bits - 1, 1 << bits - 1, (n, parts))
            out[:, :parts] = np.where((mode == i)[:, None], drawn, out[:, :parts])
    return Groups(x, w, tuple(lengths), mode=mode)


def _floats(rng: np.random.Generator, lengths: Sequence[int]) -> F16:
    """FP16 numbers of all kinds, of one kind in a group: of like size, of all sizes, subnormals, with specials."""
    n = sum(lengths)
    bits = rng.integers(0, 1 << 16, n)
    kind = np.repeat(rng.integers(0, 8, len(lengths)), lengths)
    like = bits & 0x83FF | rng.integers(11, 18, n) << 10
    finite = np.where(bits >> 10 & 31 == 31, bits ^ 0x4000, bits)
    bits = np.where(kind < 7, finite, bits)
    bits = np.where(kind < 4, like, bits)
    bits = np.where((kind == 4) & (rng.random(n) < 0.5), bits & 0x83FF, bits)
    special = (kind == 7) & (rng.random(n) < 0.3)
    return _fp16(np.where(special, rng.choice(CORNERS, n) | bits & 0x8000, bits))


def _fp16(bits: NDArray[np.integer]) -> F16:
    return np.asarray(bits).astype(np.uint16).view(np.float16)
