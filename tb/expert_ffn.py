"""The bench of unit ``expert_ffn``: transactions made from the specification and a seed."""

from dataclasses import replace

import numpy as np

from golden.moe.expert import ADDRESS_BITS, ExpertBatch, ExpertFFNSpec, Queue
from golden.moe.precision import BITS, ENTRIES, KINDS, SHARES, Expert, Precision, Weights
from golden.quantize import float_codes
from tb.transactions import Case, case_of, cases_of

PAUSES = {
    "weights-far": {"fetch": 250, "par": 240, "wgt": 200},
    "parameters-far": {"fetch": 200, "par": 250},
    "results-blocked": {"o": 250, "stats": 254},
}
"""Long ones: a slow memory; a batch that leaves late, while the next one waits."""

QUEUES = ("job", "entry")


def bench(spec: ExpertFFNSpec, seed: int) -> list[Case]:
    """Batches of every length, queues of every kind, tables kept and changed, all stalls, resets, status."""
    rng = np.random.default_rng(seed)
    mixed = chain(spec, rng, 4)
    cases = [
        *(case_of(spec, f"tokens-{t}", [random_batch(spec, rng, t)], seed=seed) for t in lengths(spec)),
        case_of(spec, "no-queues", [replace(random_batch(spec, rng, 2), queues=())], seed=seed),
        case_of(spec, "all-to-one", [_all_to_one(spec, rng)], seed=seed),
        case_of(spec, "everyone", [_everyone(spec, rng)], seed=seed),
        case_of(spec, "extremes", [_extremes(spec, rng)], seed=seed),
        case_of(spec, "specials", [_specials(spec, np.random.default_rng(seed))], seed=seed),
        *cases_of(spec, "mixed", mixed, seed=seed),
        *(case_of(spec, f"{p.name}-late", mixed[:2], seed=seed, stall={p.name: 240}) for p in spec.ports),
        *(case_of(spec, name, mixed[:3], seed=seed, stall=stall) for name, stall in PAUSES.items()),
        *(case_of(spec, f"{name}-far", _some_and_none(spec, rng), seed=seed, stall={name: 255}) for name in QUEUES),
        _too_long(spec, rng, seed),
    ]
    span = spec.cycles(mixed[0])
    for at in (0, 1, 3, span // 4, span // 2, 3 * span // 4, span - 2, span + 3):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed[:2], seed=seed, reset_at=at)
        cases += [cut, case_of(spec, f"after-{cut.name}", [mixed[0]], seed=seed)]
    return cases


def lengths(spec: ExpertFFNSpec) -> list[int]:
    """Of batches."""
    return sorted({1, 2, spec.rows, min(spec.rows + 1, spec.tokens), spec.tokens} & set(range(spec.tokens + 1)))


def chain(spec: ExpertFFNSpec, rng: np.random.Generator, number: int) -> list[ExpertBatch]:
    """Batches; every other one uses the table that is there."""
    jobs: list[ExpertBatch] = []
    for n in range(number):
        job = random_batch(spec, rng, int(rng.integers(1, spec.tokens, endpoint=True)))
        if n % 2:
            job = replace(job, experts=jobs[-1].experts, base=jobs[-1].base, load=False)
        jobs.append(job)
    return jobs


def random_batch(spec: ExpertFFNSpec, rng: np.random.Generator, tokens: int) -> ExpertBatch:
    """Each token has up to ``slots`` experts; the queues of experts without tokens are left out. Experts are anywhere,
    the largest is the shared one, or the last."""
    chosen = [set(rng.permutation(spec.experts)[: rng.integers(0, spec.slots, endpoint=True)]) for _ in range(tokens)]
    queues = []
    for e in range(spec.experts):
        mine = np.array([t for t in range(tokens) if e in chosen[t]], np.int64)
        if len(mine):
            queues.append(Queue(e, mine, random_weights(spec, rng, len(mine))))
    x = float_codes(rng.normal(0, 1, (tokens, spec.d)), "fp16")
    experts = random_experts(spec, rng)
    turned = int(rng.integers(2))
    base = int(rng.integers(1 << ADDRESS_BITS - 1))
    return ExpertBatch(x, experts[turned:] + experts[:turned], tuple(queues), base=base)


def random_weights(spec: ExpertFFNSpec, rng: np.random.Generator, number: int) -> np.ndarray:
    return rng.normal(1, 0.2, number).astype(np.float32) if spec.scaled else np.ones(number, np.float32)


def random_experts(spec: ExpertFFNSpec, rng: np.random.Generator) -> tuple[Expert, ...]:
    """The shared expert is the largest."""
    grain = int(np.lcm.reduce(spec.grain))
    sizes = [spec.neurons, *(grain * rng.integers(1, spec.neurons // grain, endpoint=True, size=spec.experts))]
    return tuple(
        Expert(
            random_matrix(spec, rng, spec.d, 2 * m),
            random_matrix(spec, rng, m, spec.d),
            rng.integers(-128, 127, ENTRIES, endpoint=True) if spec.mixed else None,
        )
        for m in map(int, sizes)
    )


def random_matrix(spec: ExpertFFNSpec, rng: np.random.Generator, k: int, n: int) -> Weights:
    if not spec.mixed:
        return plain_matrix(spec, rng, k, n)
    precision = random_precision(rng)
    low, high = precision.codes
    codes = rng.integers(low, high, (k, n), endpoint=True)
    groups = precision.parameters(k // spec.group), n
    scale, least = (rng.normal(0, deviation, groups).astype(np.float16) for deviation in (0.02, 0.1))
    return Weights(codes, scale, least, precision)


def plain_matrix(spec: ExpertFFNSpec, rng: np.random.Generator, k: int, n: int) -> Weights:
    """In the engine's format."""
    engine = spec.engine
    low, high = engine.weight_format.low, engine.weight_format.high
    codes = rng.integers(low, high, (k, n), endpoint=True)
    groups = k // spec.group, n
    scale = rng.normal(0, 0.02, groups).astype(np.float16)
    correction = engine.weight_format.correction
    if correction == "none":
        return Weights(codes, scale)
    if correction == "zero":
        return Weights(codes, scale, rng.integers(low, high, groups, endpoint=True))
    return Weights(codes, scale, rng.normal(0, 0.1, groups).astype(np.float16))


def random_precision(rng: np.random.Generator) -> Precision:
    """Whole columns are as frequent as the sizes below them."""
    kind = str(rng.choice(KINDS))
    bits = int(rng.choice(BITS if kind == "signed" else [b for b in BITS if b < 8]))
    return Precision(bits, kind, int(rng.choice([*range(3), SHARES - 1])))


def _all_to_one(spec: ExpertFFNSpec, rng: np.random.Generator) -> ExpertBatch:
    job = random_batch(spec, rng, spec.tokens)
    everyone = np.arange(spec.tokens)
    return replace(job, queues=(Queue(spec.experts - 1, everyone, random_weights(spec, rng, spec.tokens)),))


def _everyone(spec: ExpertFFNSpec, rng: np.random.Generator) -> ExpertBatch:
    """The first ``slots`` experts have all tokens."""
    job = random_batch(spec, rng, spec.tokens)
    everyone = np.arange(spec.tokens)
    queues = tuple(Queue(e, everyone, random_weights(spec, rng, spec.tokens)) for e in range(spec.slots))
    return replace(job, queues=queues)


def _some_and_none(spec: ExpertFFNSpec, rng: np.random.Generator) -> list[ExpertBatch]:
    """Full queues and none by turns."""
    jobs = [_everyone(spec, rng) for _ in range(6)]
    return [replace(job, queues=()) if n % 2 else job for n, job in enumerate(jobs)]


def _extremes(spec: ExpertFFNSpec, rng: np.random.Generator) -> ExpertBatch:
    """Activations of all bit patterns, zeros and NaN among them."""
    job = _everyone(spec, rng)
    x = rng.integers(0, 1 << 16, job.x.shape)
    x[0] = 0
    x[-1, :] = 0x7BFF
    return replace(job, x=x)


def _specials(spec: ExpertFFNSpec, rng: np.random.Generator) -> ExpertBatch:
    """Scales and minima that are zeros, infinite, NaN or the largest, a column each; activations likewise."""
    job = _everyone(spec, rng)
    ends = np.array([0, -0.0, np.finfo(np.float16).max, np.inf, np.nan], np.float16)
    for matrix in (job.experts[0].up, job.experts[-1].down):
        matrix.scale[0, : len(ends)] = ends
        if matrix.extra is not None and matrix.extra.dtype == ends.dtype:
            matrix.extra[0, len(ends) : 2 * len(ends)] = ends
    x = job.x.copy()
    x[-1, :3] = 0x8000, 0x7C00, 0x7BFF
    return replace(job, x=x)


def _too_long(spec: ExpertFFNSpec, rng: np.random.Generator, seed: int) -> Case:
    """One token more than fits is lost."""
    job = _all_to_one(spec, rng)
    case = case_of(spec, "too-long", [job], seed=seed, status={"sts_error": 1})
    x = np.concatenate([job.x, np.roll(job.x[:1], 1, axis=1)])
    more = spec.inputs(replace(job, x=x))["i"]
    return replace(case, inputs={**case.inputs, "i": more}, cycles=None)
