"""The bench of unit ``router``: transactions made from the specification and a seed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from golden import fixture
from golden.moe.scoring import RouterSpec, Tokens, real_tokens
from golden.ports import Beats
from tb import mixpe
from tb.transactions import Case, case_of, cases_of


def bench(spec: RouterSpec, seed: int) -> list[Case]:
    """Lengths and numbers of tokens, sums from nothing to overflow, special numbers, all stalls, resets, status."""
    rng = np.random.default_rng(seed)
    lengths = _lengths(spec)
    mixed = [random_job(spec, rng, int(rng.integers(1, 4)), int(k)) for k in rng.permutation(lengths)]
    short = [random_job(spec, rng, 1, 1) for _ in range(spec.engine.timing.tiles + 6)]
    many = random_job(spec, rng, 2 * spec.rows + 1, min(spec.k_max, 40))
    cases = [
        *(case_of(spec, f"one-{k}", [random_job(spec, rng, 1, k)], seed=seed) for k in lengths),
        case_of(spec, "many", [many, many], seed=seed),
        case_of(spec, "largest", [random_job(spec, rng, 2, spec.k_max)], seed=seed),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *cases_of(spec, "short", short, seed=seed, level=128),
        *(case_of(spec, f"results-pile-up-{level}", 3 * short, seed=seed, stall={"o": level}) for level in (200, 250)),
        *(case_of(spec, f"short-{p.name}", short, seed=seed, stall={p.name: 248}) for p in spec.ports[:-1]),
        *(case_of(spec, f"slow-{p.name}", mixed[:3], seed=seed, stall={p.name: 224}) for p in spec.ports),
        case_of(spec, "scores", list(_scores(spec, rng)), seed=seed),
        case_of(spec, "specials", list(_specials(spec, rng)), seed=seed),
        *_beyond(spec, rng, seed),
        *_resets(spec, mixed[:3], short[:2], seed),
        *_malformed(spec, rng, seed),
    ]
    return cases


def random_job(spec: RouterSpec, rng: np.random.Generator, m: int, k: int) -> Tokens:
    """Operands as of ``mixpe``; with norms that bring sums to where silu bends, most of the time."""
    gemm = mixpe.random_job(spec.engine, rng, m, min(k, spec.k_max), 2 * spec.experts)
    if not spec.norms:
        return Tokens(gemm, None)
    most = np.abs(spec.engine.compute(gemm).astype(np.float64)).max(axis=0)
    factor = 2.0 ** rng.integers(-8, 6, len(most)) * rng.uniform(0.5, 1, len(most))
    norm = (factor / np.where((most > 1e-30) & np.isfinite(most), most, 1)).astype(np.float32)
    return Tokens(gemm, np.where(rng.random(len(norm)) < 0.2, -norm, norm))


def _lengths(spec: RouterSpec) -> list[int]:
    g = spec.group or 32
    return sorted({min(spec.k_max, k) for k in (1, 2, g - 1, g, g + 1, 2 * g + 5)})


def _scores(spec: RouterSpec, rng: np.random.Generator) -> Iterator[Tokens]:
    """Sums of all magnitudes, so that silu saturates, products are subnormal or overflow; a column of zeros."""
    for up in (-100, -20, 0, 3, 20, 100):
        job = random_job(spec, rng, 2 * spec.rows, 5)
        if job.norm is not None:
            yield replace(job, norm=job.norm * np.float32(2.0**up))
        yield replace(job, gemm=replace(job.gemm, x=np.zeros_like(job.gemm.x)))


def _specials(spec: RouterSpec, rng: np.random.Generator) -> Iterator[Tokens]:
    """Norms, scales and minima that are infinite, NaN, zero or the largest; activations likewise."""
    strange = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 1e-40], np.float32)
    engine = spec.engine
    for _ in range(3):
        job = random_job(spec, rng, spec.rows, 3)
        if job.norm is not None:
            yield replace(job, norm=rng.choice(strange, len(job.norm)))
        if engine.scale_format.infinities:
            scale = rng.choice(strange, job.gemm.scale.shape).astype(job.gemm.scale.dtype)
            yield replace(job, gemm=replace(job.gemm, scale=np.where(rng.random(scale.shape) < 0.5, scale, 1)))
    yield random_job(spec, rng, 1, 2)
    for code in (0x8000, 0x7BFF, 0x7C00, 0xFC00, 0x7E00) if engine.stream_format.floating else ():
        job = random_job(spec, rng, spec.rows, 3)
        job.gemm.x[:, 1] = code
        yield job
    job = random_job(spec, rng, spec.rows, 3)
    for end in (engine.scale_format.largest, *((np.inf, np.nan) if engine.scale_format.infinities else ())):
        pair = np.array([end, 1]).astype(engine.scale_format.dtype)
        yield replace(job, gemm=replace(job.gemm, scale=np.resize(pair, job.gemm.scale.shape)))
        if job.gemm.extra is not None and engine.weight_format.correction == "min":
            yield replace(job, gemm=replace(job.gemm, extra=np.resize(pair, job.gemm.extra.shape)))
    if job.norm is not None:
        yield replace(job, norm=np.full_like(job.norm, np.finfo(np.float32).max))


def _beyond(spec: RouterSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """Anything in columns beyond the last expert."""
    assert spec.cols
    if 2 * spec.left == spec.cols:
        return
    case = case_of(spec, "beyond", [random_job(spec, rng, 1, _lengths(spec)[-1])], seed=seed)
    inputs = dict(case.inputs)
    for port in spec.ports:
        if port.name not in ("wgt", "par", "chn", "norm"):
            continue
        beats, values = inputs[port.name], port.unpack(inputs[port.name])
        pass_beats = len(beats) // spec.passes
        for f in port.fields:
            part = values[f.name][-pass_beats:, 2 * spec.left :]
            part[...] = rng.integers(0, 1 << f.width, part.shape)
        inputs[port.name] = port.pack(last=beats.last, **values)
    yield replace(case, inputs=inputs)


def _resets(spec: RouterSpec, jobs: list[Tokens], short: list[Tokens], seed: int) -> Iterator[Case]:
    """A reset in mid-job, then clean jobs: places, credits and queues must be as they were."""
    end = spec.cycles(*jobs)
    first = spec.cycles(jobs[0])
    taken = first - 1 - spec.behind  # the last sums of the first job
    some = (0, 1, taken - 1, taken, taken + 1, first - 3, first - 2, end // 2, end - spec.blocks - 1, end - 2)
    for at in sorted({max(0, at) for at in some}):
        yield case_of(spec, f"reset-in-cycle-{at}", jobs, seed=seed, stall={"o": 96}, reset_at=at)
        yield case_of(spec, f"after-reset-in-cycle-{at}", [*short, jobs[0]], seed=seed)


def _malformed(spec: RouterSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """Each status bit: tlast of i and wgt in different steps; more steps than ``k_max``."""
    k = _lengths(spec)[-1]
    good = case_of(spec, "tlast", [random_job(spec, rng, spec.rows, n) for n in (k, 2, k)], seed=seed)
    last = good.inputs["wgt"].last.copy()
    last[k - 1] = False
    inputs = {**good.inputs, "wgt": Beats(good.inputs["wgt"].data, last)}
    yield replace(good, name="no-tlast-on-wgt", inputs=inputs, status={"sts_error": 1})
    if spec.k_max <= 256:
        case = case_of(spec, "too-long", [random_job(spec, rng, 1, spec.k_max)], seed=seed)
        inputs = dict(case.inputs)
        for name in ("i", "wgt", "par") if spec.group and spec.k_max % spec.group == 0 else ("i", "wgt"):
            beats = inputs[name]
            inputs[name] = Beats(np.insert(beats.data, 0, beats.data[0], axis=0), np.insert(beats.last, 0, False))
        yield replace(case, inputs=inputs, status={"sts_error": 2}, judged=False)


def real(spec: RouterSpec) -> tuple[Tokens, int]:
    """A real token and rows of real matrices, evenly spaced."""
    f = fixture.load()
    rows = np.arange(spec.experts) * (fixture.FFN // spec.experts)
    k = min(spec.k_max, fixture.WIDTH)
    gate, up = (type(m)(m.codes[:, :k], m.d[:, : k // 32], m.m[:, : k // 32]) for m in (f.gate, f.up))
    job = real_tokens(spec, f.x[: spec.rows, :k], gate, up, rows)
    return job, 2 * spec.experts * k * spec.rows
