"""The bench of unit ``mixpe``: transactions made from the specification and a seed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import EXPONENTS, FLOATS
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.ports import Beats
from tb.transactions import Case, case_of, cases_of


def bench(spec: MixPESpec, seed: int) -> list[Case]:
    """Tiles of all lengths in all mixtures of stalls, extremes of every format, resets, malformed tiles."""
    rng = np.random.default_rng(seed)
    r, c = spec.rows, spec.cols
    lengths = _lengths(spec)
    ragged = [random_job(spec, rng, r + 1, lengths[-1], c + 1)] if r * c <= 64 else []
    tiles = [random_job(spec, rng, r, k, c) for k in rng.permutation(lengths)]
    sprint = [random_job(spec, rng, r, 1, c) for _ in range(spec.timing.tiles + 4)]
    some = [random_job(spec, rng, r, int(k), c) for k in rng.choice(lengths, 3)]
    cases = [
        case_of(spec, "one-step", [random_job(spec, rng, r, 1, c)], seed=seed),
        *cases_of(spec, "tiles", [*tiles, *ragged], seed=seed),
        *cases_of(spec, "one-step-tiles", sprint, seed=seed, level=128),
        case_of(spec, "results-pile-up", 2 * sprint, seed=seed, stall={"o": 250}),
        case_of(spec, "full-groups", [random_job(spec, rng, r, spec.length, 6 * c)], seed=seed),
        case_of(spec, "extremes", list(_extremes(spec)), seed=seed),
        case_of(spec, "zero-points", list(_zero_points(spec, rng)), seed=seed),
        case_of(spec, "specials", [_specials(spec, rng) for _ in range(4)], seed=seed),
        case_of(spec, "infinities", list(_infinities(spec)), seed=seed),
        case_of(spec, "cancellation", [_cancellation(spec, rng)], seed=seed),
    ]
    for port in spec.ports:
        cases.append(case_of(spec, f"slow-{port.name}", some, seed=seed, stall={port.name: 224}))
    cases += _resets(spec, some, seed)
    cases += _malformed(spec, rng, seed)
    return cases


def random_job(spec: MixPESpec, rng: np.random.Generator, m: int, k: int, n: int) -> Gemm:
    """Operands uniform over their codes; scales, minima and tokens' scales over many binades, both signs."""
    f, x = spec.weight_format, spec.act_format
    groups = -(-k // spec.group) if spec.group else 1
    extra: NDArray[Any] | None = None
    if f.correction == "zero":
        extra = rng.integers(f.low, f.high, (groups, n), endpoint=True)
    elif f.correction == "min":
        extra = _floats(rng, spec.scale, (groups, n))
    return Gemm(
        x=rng.integers(x.low, x.high, (m, k), endpoint=True),
        w=rng.integers(f.low, f.high, (k, n), endpoint=True),
        scale=_floats(rng, spec.scale, (groups, n)),
        extra=extra,
        x_scale=rng.integers(*EXPONENTS, (m, groups), endpoint=True)
        if spec.act_scale == "pow2"
        else _floats(rng, "fp32", (m,)),
    )


def _floats(rng: np.random.Generator, fmt: str, shape: tuple[int, ...]) -> NDArray[Any]:
    low, high = (-26, 16) if fmt == "fp16" else (-40, 40)  # fp16 subnormals included
    dtype = FLOATS[fmt]
    return (rng.normal(size=shape) * 2.0 ** rng.integers(low, high, shape)).clip(-65504, 65504).astype(dtype)


def _lengths(spec: MixPESpec) -> list[int]:
    """Shortest, around one and two groups, and ragged; ascending."""
    g = spec.group or 48
    return sorted({min(k, spec.k_max) for k in (1, 2, g - 1, g, g + 1, 2 * g, 2 * g + 5, 3 * g - 7)})


def _filled(spec: MixPESpec, x: NDArray[Any], w: NDArray[Any], **fields: Any) -> Gemm:
    """A job of one tile with scale 1 (or as given), everywhere the same."""
    k = x.shape[1]
    groups = -(-k // spec.group) if spec.group else 1
    size = (groups, spec.cols)
    f, dtype = spec.weight_format, FLOATS[spec.scale]
    extra = {"none": None, "zero": np.zeros(size, np.int64), "min": np.ones(size, dtype)}[f.correction]
    token = np.zeros((spec.rows, groups), np.int64) if spec.act_scale == "pow2" else np.ones(spec.rows, np.float32)
    job = Gemm(x=x, w=w, scale=np.ones(size, dtype), extra=extra, x_scale=token)
    return dataclasses.replace(job, **fields)


def _extremes(spec: MixPESpec) -> Iterator[Gemm]:
    """Groups of one corner of the operand ranges, and of corners that alternate in sign, under the largest scale."""
    f, x = spec.weight_format, spec.act_format
    k = min(2 * spec.length, spec.k_max, 512)
    groups = -(-k // spec.group) if spec.group else 1
    dtype = FLOATS[spec.scale]
    most = np.full((groups, spec.cols), 65504, dtype)
    turns = (np.arange(k) % 2 == 0)[None, :]
    corners = [(a, b) for a in (x.low, x.high) for b in (f.low, f.high)]
    for a, b in corners:
        job = _filled(spec, np.full((spec.rows, k), a), np.full((k, spec.cols), b), scale=most)
        if f.correction == "min":
            job = dataclasses.replace(job, extra=most)
        if spec.act_scale == "pow2":
            job = dataclasses.replace(job, x_scale=np.full_like(job.x_scale, EXPONENTS[1]))
        yield job
    x_turns = np.repeat(np.where(turns, x.low, x.high), spec.rows, axis=0)
    w_turns = np.repeat(np.where(turns.T, f.low, f.high), spec.cols, axis=1)
    yield _filled(spec, x_turns, np.full((k, spec.cols), f.low), scale=most)
    yield _filled(spec, np.full((spec.rows, k), x.low), w_turns, scale=most)


def _zero_points(spec: MixPESpec, rng: np.random.Generator) -> Iterator[Gemm]:
    """Zero points 0, 8 and 15 (a plain job where the format has none)."""
    job = random_job(spec, rng, spec.rows, _lengths(spec)[-1], spec.cols)
    if spec.weight_format.correction != "zero":
        yield job
        return
    for z in (0, 8, 15):
        assert job.extra is not None
        yield dataclasses.replace(job, extra=np.full_like(job.extra, z))


def _specials(spec: MixPESpec, rng: np.random.Generator) -> Gemm:
    """Scales, minima and tokens' scales drawn from zeros, infinities, NaN and the ends of the format."""
    job = random_job(spec, rng, spec.rows, _lengths(spec)[-1], spec.cols)
    job.x[:, :: rng.integers(2, 5)] = 0
    job.x[0] = 0  # nothing but zeros under every special scale

    def some(a: NDArray[Any], share: float) -> NDArray[Any]:
        info = np.finfo(a.dtype)
        pool = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.smallest_subnormal, info.tiny]
        return np.where(rng.random(a.shape) < share, rng.choice(np.array(pool, a.dtype), a.shape), a)

    extra = job.extra
    if spec.weight_format.correction == "min":
        assert extra is not None
        extra = some(extra, 0.3)
    x_scale = job.x_scale if spec.act_scale == "pow2" else some(job.x_scale, 0.3)
    return dataclasses.replace(job, scale=some(job.scale, 0.3), extra=extra, x_scale=x_scale)


def _infinities(spec: MixPESpec) -> Iterator[Gemm]:
    """Infinities that agree, that clash from group to group, and that clash inside a group with the minimum."""
    k = min(3 * spec.length, spec.k_max, 768)
    ones = np.ones((spec.rows, k), np.int64)
    job = _filled(spec, ones, np.full((k, spec.cols), spec.weight_format.high))
    turns = np.where(np.arange(len(job.scale)) % 2, -1, 1)[:, None]
    pairs = ((np.inf, 0), (-np.inf, -np.inf), (np.inf * turns, 0), (np.inf, -np.inf), (0, np.inf * turns))
    for scale, minimum in pairs:
        both = {"scale": np.broadcast_to(scale, job.scale.shape).astype(job.scale.dtype)}
        if spec.weight_format.correction == "min":
            both["extra"] = np.broadcast_to(minimum, job.scale.shape).astype(job.scale.dtype)
        yield dataclasses.replace(job, **both)


def _cancellation(spec: MixPESpec, rng: np.random.Generator) -> Gemm:
    """Groups that cancel all but a little: the sum is exact or rounded in order, never lost."""
    k = min(3 * spec.length, spec.k_max, 768)
    job = random_job(spec, rng, spec.rows, k, spec.cols)
    sign = np.where(np.arange(len(job.scale)) % 2, -1, 1)[:, None]
    scale = (sign * np.full(job.scale.shape, 60000)).astype(job.scale.dtype)
    scale[-1] = np.finfo(np.float16).smallest_subnormal
    g = spec.group or k
    job.w[:] = job.w[:g][np.arange(k) % g]
    job.x[:] = job.x[:, :g][:, np.arange(k) % g]
    return dataclasses.replace(job, scale=scale)


def _resets(spec: MixPESpec, jobs: list[Gemm], seed: int) -> Iterator[Case]:
    """A reset in the middle of everything, then a clean job."""
    end = spec.cycles(*jobs)
    step = dataclasses.replace(jobs[0], **_first_step(jobs[0]))
    drained = jobs[0].shape[1] + spec.latency  # its words arrive in the queues just before
    times = {0, 1, 3, spec.length, drained - 4, drained - 3, drained, end // 2, end - spec.timing.beats}
    for at in sorted(t for t in times if t <= end - spec.timing.beats):
        yield case_of(spec, f"reset-in-cycle-{at}", jobs, seed=seed, stall={"o": 64}, reset_at=at)
        yield case_of(spec, f"after-reset-in-cycle-{at}", [step, jobs[0]], seed=seed)


def _first_step(job: Gemm) -> dict[str, Any]:
    """The job's first step alone."""
    first: dict[str, Any] = {"x": job.x[:, :1], "w": job.w[:1], "scale": job.scale[:1]}
    first["extra"] = None if job.extra is None else job.extra[:1]
    first["x_scale"] = job.x_scale[:, :1] if job.x_scale.ndim == 2 else job.x_scale
    return first


def _malformed(spec: MixPESpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """Each status bit: tlast of act and wgt in different steps (both ways), a tile longer than k_max."""
    k = _lengths(spec)[-1]
    if k > 2:
        # more tiles follow: the bit must stay, and they must come out right
        jobs = [random_job(spec, rng, spec.rows, n, spec.cols) for n in (k, 2, k)]
        good = case_of(spec, "tlast-disagrees", jobs, seed=seed)
        for stream in ("act", "wgt"):
            # the other stream ends the first tile at the same step, so all beats are still consumed
            beats = dict(good.inputs)
            last = beats[stream].last.copy()
            last[k - 1] = False
            beats[stream] = Beats(beats[stream].data, last)
            yield dataclasses.replace(good, name=f"no-tlast-on-{stream}", inputs=beats, status={"sts_error": 1})
    if spec.k_max <= 256:
        job = random_job(spec, rng, spec.rows, spec.k_max, spec.cols)
        case = case_of(spec, "too-long", [job, random_job(spec, rng, spec.rows, 2, spec.cols)], seed=seed)
        long = {s: _repeat_first(b) if s in ("act", "wgt") else b for s, b in case.inputs.items()}
        if spec.group and spec.k_max % spec.group == 0:  # the extra step starts a group
            streams = ("par", "scl") if spec.act_scale == "pow2" else ("par",)
            long |= {s: _repeat_first(long[s]) for s in streams}
        yield dataclasses.replace(case, name="too-long", inputs=long, status={"sts_error": 2}, judged=False)


def _repeat_first(b: Beats) -> Beats:
    return Beats(np.concatenate([b.data[:1], b.data]), np.concatenate([np.zeros(1, np.bool_), b.last]))
