"""The bench of unit ``mixpe``: transactions made from the specification and a seed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.formats import FLOATS, IntegerOutput, NumberFormat
from golden.mixpe import model
from golden.mixpe.formats import ACT_FLOATS, EXPONENTS
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.mixpe.stationary import WeightStationary
from golden.ports import Beats
from tb.mixpe_pe import corners, extreme, weight_codes
from tb.transactions import Case, case_of, cases_of


def bench(spec: MixPESpec, seed: int) -> list[Case]:
    """Tiles of all lengths in all mixtures of stalls, extremes of every format, resets, malformed tiles."""
    rng = np.random.default_rng(seed)
    r, c = spec.tokens or 0, spec.cols
    lengths = _lengths(spec)
    ragged = [random_job(spec, rng, r + 1, lengths[-1], c + 1)] if r * c <= 64 else []
    tiles = [random_job(spec, rng, r, k, c) for k in rng.permutation(lengths)]
    under_way = 1 + spec.passes.places // r if isinstance(spec, WeightStationary) else spec.timing.tiles
    sprint = [random_job(spec, rng, r, 1, c) for _ in range(under_way + 4)]
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
        case_of(spec, "cancellation", [_cancellation(spec, rng)], seed=seed),
    ]
    if spec.out != "fp32" and (ties := list(_ties(spec))):
        cases.append(case_of(spec, "ties", ties, seed=seed))
    if spec.scale_format.infinities:
        cases.append(case_of(spec, "infinities", list(_infinities(spec)), seed=seed))
    if spec.stream_format.floating:
        jobs = list(_special_activations(spec, rng))
        cases.append(case_of(spec, "special-activations", jobs, seed=seed))
    for port in spec.ports:
        cases.append(case_of(spec, f"slow-{port.name}", some, seed=seed, stall={port.name: 224}))
    short = [random_job(spec, rng, 1, 1, c) for _ in range(12)]
    sources = [port.name for port in spec.ports if port.direction == "in"]
    cases += [case_of(spec, f"short-{name}", short, seed=seed, stall={name: 224}) for name in sources]
    longest = random_job(spec, rng, r, lengths[-1], c)
    cases.append(case_of(spec, "short-then-long", [*short, *short, longest, longest], seed=seed))
    cases += _resets(spec, some, longest, seed)
    if isinstance(spec, WeightStationary):
        cases += cases_of(spec, "few-tokens", list(_few_tokens(spec, rng)), seed=seed)
        cases += _malformed_passes(spec, rng, seed)
    else:
        cases += _malformed(spec, rng, seed)
    if spec.act_scale == "token":
        cases.append(case_of(spec, "token-scales", list(_scales(spec, rng)), seed=seed))
    return cases


def random_job(spec: MixPESpec, rng: np.random.Generator, m: int, k: int, n: int) -> Gemm:
    """Operands uniform over their codes; scales, minima and tokens' scales over many binades, both signs."""
    f = spec.weight_format
    groups = -(-k // spec.group) if spec.group else 1
    extra: NDArray[Any] | None = None
    if f.correction == "zero":
        extra = rng.integers(f.low, f.high, (groups, n), endpoint=True)
    elif f.correction == "min":
        extra = _floats(rng, spec.scale_format, (groups, n))
    job = Gemm(
        x=_activations(spec, rng, m, k),
        w=rng.integers(f.low, f.high, (k, n), endpoint=True),
        scale=_floats(rng, spec.scale_format, (groups, n)),
        extra=extra,
        x_scale=_token_scales(spec, rng, m, groups),
        channel=_floats(rng, FLOATS["fp32"], (n,)) if spec.channel_scaled else None,
    )
    return job if spec.raw or not isinstance(spec.out_format, IntegerOutput) else _in_reach(spec, rng, job)


def _activations(spec: MixPESpec, rng: np.random.Generator, m: int, k: int) -> NDArray[Any]:
    """Uniform over the finite codes; aligned ones within as many binades of a group's largest as count, and some
    more, or hardly any but the largest would be more than zero."""
    x = spec.stream_format
    codes = rng.integers(*x.codes, (m, k), endpoint=True)
    if spec.aligned:
        assert spec.align
        top = np.repeat(rng.integers(1, x.max_shift + 1, (m, -(-k // 16)), endpoint=True), 16, axis=1)[:, :k]
        field = (top - rng.integers(0, spec.align + 4, (m, k))).clip(0)
        codes = codes & ~(((1 << x.exponent_bits) - 1) << x.fraction_bits) | field << x.fraction_bits
    return np.where(x.special(codes), 1, codes)


def _in_reach(spec: MixPESpec, rng: np.random.Generator, job: Gemm) -> Gemm:
    """Tokens' scales (or those of the groups) such that 8-bit results are neither all zero nor all clipped."""
    with np.errstate(all="ignore"):
        wanted = rng.uniform(20, 300, job.shape[0])
        if spec.act_scale == "token":
            plain = dataclasses.replace(job, x_scale=np.ones(job.shape[0], np.float32))
            most = np.abs(model.reference(spec, plain)).max(axis=1)
            return dataclasses.replace(job, x_scale=(wanted / np.where(most > 0, most, 1)).astype(np.float32))
        return job


def _token_scales(spec: MixPESpec, rng: np.random.Generator, m: int, groups: int) -> NDArray[Any] | None:
    if spec.act_scale == "none":
        return None
    if spec.act_scale == "pow2":
        return rng.integers(*EXPONENTS, (m, groups), endpoint=True)
    return _floats(rng, FLOATS["fp32"], (m,))


def _floats(rng: np.random.Generator, fmt: NumberFormat, shape: tuple[int, ...]) -> NDArray[Any]:
    if fmt.integer:
        return rng.integers(0, int(fmt.largest), shape, dtype=np.uint8, endpoint=True)
    low, high = {"fp16": (-26, 16), "e4m3": (-11, 9)}.get(fmt.name, (-40, 40))  # subnormals included
    values = rng.normal(size=shape) * 2.0 ** rng.integers(low, high, shape)
    values = values if fmt.signed else np.abs(values)
    return fmt.rounded(values.clip(-fmt.largest, fmt.largest)).astype(fmt.dtype)


def _lengths(spec: MixPESpec) -> list[int]:
    """Shortest, around one and two groups, and ragged; ascending. With stationary weights also around one pass."""
    g = spec.group or 48
    around = (spec.rows - 1, spec.rows, spec.rows + 1) if isinstance(spec, WeightStationary) else ()
    lengths = (1, 2, g - 1, g, g + 1, 2 * g, 2 * g + 5, 3 * g - 7, *around)
    return sorted({min(k, spec.k_max) for k in lengths if k})


def _filled(spec: MixPESpec, x: NDArray[Any], w: NDArray[Any], **fields: Any) -> Gemm:
    """A job of one tile with scale 1 (or as given), everywhere the same."""
    k = x.shape[1]
    groups = -(-k // spec.group) if spec.group else 1
    size = (groups, spec.cols)
    f, dtype = spec.weight_format, spec.scale_format.dtype
    extra = {"none": None, "zero": np.zeros(size, np.int64), "min": np.ones(size, dtype)}[f.correction]
    token: NDArray[Any] | None = None
    if spec.act_scale != "none":
        pow2 = spec.act_scale == "pow2"
        token = np.zeros((spec.rows, groups), np.int64) if pow2 else np.ones(spec.rows, np.float32)
    channel = np.ones(spec.cols, np.float32) if spec.channel_scaled else None
    job = Gemm(x=x, w=w, scale=np.ones(size, dtype), extra=extra, x_scale=token, channel=channel)
    return dataclasses.replace(job, **fields)


def _extremes(spec: MixPESpec) -> Iterator[Gemm]:
    """Groups of one corner of the operand ranges, and of corners that alternate in sign, under the largest scale."""
    f, x = spec.weight_format, spec.stream_format
    k = min(2 * spec.length, spec.k_max, 512)
    groups = -(-k // spec.group) if spec.group else 1
    most = np.full((groups, spec.cols), min(spec.scale_format.largest, 2.0**15), spec.scale_format.dtype)
    if spec.scale == "fp16":
        most[:] = 65504
    turns = (np.arange(k) % 2 == 0)[None, :]
    weights = weight_codes(spec.pe)
    operands = f.operand(weights)
    least_w, most_w = weights[operands.argmin()], weights[operands.argmax()]
    least_x, most_x = extreme(x, -1), extreme(x, 1)
    for a, b in [(a, b) for a in (least_x, most_x) for b in (least_w, most_w)]:
        job = _filled(spec, np.full((spec.rows, k), a), np.full((k, spec.cols), b), scale=most)
        if f.correction == "min":
            job = dataclasses.replace(job, extra=most)
        if spec.act_scale == "pow2":
            assert job.x_scale is not None
            job = dataclasses.replace(job, x_scale=np.full_like(job.x_scale, EXPONENTS[1]))
        yield job
    x_turns = np.repeat(np.where(turns, least_x, most_x), spec.rows, axis=0)
    w_turns = np.repeat(np.where(turns.T, least_w, most_w), spec.cols, axis=1)
    yield _filled(spec, x_turns, np.full((k, spec.cols), least_w), scale=most)
    yield _filled(spec, np.full((spec.rows, k), least_x), w_turns, scale=most)


def _zero_points(spec: MixPESpec, rng: np.random.Generator) -> Iterator[Gemm]:
    """Zero points at both ends and in the middle (a plain job where the format has none)."""
    job = random_job(spec, rng, spec.rows, _lengths(spec)[-1], spec.cols)
    if spec.weight_format.correction != "zero":
        yield job
        return
    for z in (0, spec.weight_format.offset, spec.weight_format.high):
        assert job.extra is not None
        yield dataclasses.replace(job, extra=np.full_like(job.extra, z))


def _specials(spec: MixPESpec, rng: np.random.Generator) -> Gemm:
    """Scales, minima, channels' and tokens' scales drawn from zeros, infinities, NaN and the ends of the format."""
    job = random_job(spec, rng, spec.rows, _lengths(spec)[-1], spec.cols)
    job.x[:, :: rng.integers(2, 5)] = 0
    job.x[0] = 0  # nothing but zeros under every special scale

    def some(a: NDArray[Any], fmt: NumberFormat) -> NDArray[Any]:
        a = np.where(rng.random(a.shape) < 0.3, rng.choice(_corner_values(fmt), a.shape), a)
        if fmt.nan and rng.random() < 0.5:
            a.flat[rng.integers(a.size)] = np.nan
        return a

    fmt = spec.scale_format
    extra = job.extra
    if spec.weight_format.correction == "min":
        assert extra is not None
        extra = some(extra, fmt)
    x_scale = job.x_scale
    if spec.act_scale == "token":
        assert x_scale is not None
        x_scale = some(x_scale, FLOATS["fp32"])
    channel = some(job.channel, FLOATS["fp32"]) if job.channel is not None else None
    return dataclasses.replace(job, scale=some(job.scale, fmt), extra=extra, x_scale=x_scale, channel=channel)


def _scales(spec: MixPESpec, rng: np.random.Generator) -> Iterator[Gemm]:
    """One step under each special scale of a token."""
    values = _corner_values(FLOATS["fp32"])
    r = spec.tokens or 0
    for first in range(0, len(values), r):
        job = random_job(spec, rng, r, 1, spec.cols)
        yield dataclasses.replace(job, x_scale=np.resize(values[first:], r).astype(np.float32))


def _corner_values(fmt: NumberFormat) -> NDArray[Any]:
    """Zeros, smallest and largest values, infinities and NaN, as far as the format has them."""
    top = fmt.bits - fmt.signed
    ends = [0, 1, (1 << fmt.fraction_bits) - 1, 1 << fmt.fraction_bits, int(fmt.code(np.array([fmt.largest]))[0])]
    specials = [((1 << fmt.exponent_bits) - 1) << fmt.fraction_bits, (1 << top) - 1]
    codes = np.array([*ends, *specials], dtype=np.int64)
    if fmt.signed:
        codes = np.concatenate([codes, codes | 1 << top])
    return fmt.value(codes).astype(fmt.dtype)


def _special_activations(spec: MixPESpec, rng: np.random.Generator) -> Iterator[Gemm]:
    """Infinities and NaN among floating-point activations: one, several that agree or clash, next to zeros."""
    k = min(3 * spec.length, spec.k_max, 300)
    fmt = spec.stream_format
    ends = corners(fmt)
    for share in (1 / k, 4 / k, 0.2):
        job = random_job(spec, rng, spec.rows, k, spec.cols)
        there = rng.random(job.x.shape) < share
        there[0] = False
        job.w[:, ::3] = spec.weight_format.offset
        yield dataclasses.replace(job, x=np.where(there, rng.choice(ends, job.x.shape), job.x))
    if not fmt.infinities:
        return
    # one infinity a row and no weight of zero: results are infinite, of both signs, but for columns with a zero scale
    nonzero = weight_codes(spec.pe)[spec.weight_format.operand(weight_codes(spec.pe)) != 0]
    infinity = ((1 << fmt.exponent_bits) - 1) << fmt.fraction_bits
    for _ in range(4):
        job = random_job(spec, rng, spec.rows, k, spec.cols)
        signs = rng.integers(0, 2, spec.rows) << (fmt.bits - 1)
        job.x[np.arange(spec.rows), rng.integers(0, k, spec.rows)] = infinity | signs
        job = dataclasses.replace(job, w=rng.choice(nonzero, job.w.shape))
        yield job
    if len(nonzero) < len(weight_codes(spec.pe)):  # infinity times zero, and nothing else in the way
        zeros = np.flatnonzero(spec.weight_format.operand(weight_codes(spec.pe)) == 0)
        none = np.full_like(job.w[:, :1], weight_codes(spec.pe)[zeros[0]])
        yield dataclasses.replace(job, w=np.concatenate([none, job.w[:, 1:]], axis=1))
    if spec.scale_format.signed:
        some = rng.random(job.scale.shape) < 0.5
        yield dataclasses.replace(job, scale=np.where(some, np.zeros_like(job.scale), job.scale))


def _ties(spec: MixPESpec) -> Iterator[Gemm]:
    """Results half way: 2049 and 2051 between two FP16 numbers, 257 and 259 between two of BF16, halves between two
    integers."""
    f, x = spec.weight_format, spec.stream_format
    one = int(ACT_FLOATS[x.name].code(np.ones(1))[0]) if x.floating else 1
    if isinstance(spec.out_format, IntegerOutput):
        yield from _halves(spec)
        return
    values = np.ldexp(f.operand(weight_codes(spec.pe)) + f.offset, f.exponent)
    for scale, factor in ((683, 3), (293, 7), (257, 1), (37, 7)):
        if spec.scale not in ("fp16", "fp32") or factor not in values:
            continue
        w = weight_codes(spec.pe)[np.flatnonzero(values == factor)[0]]
        job = _filled(spec, np.full((spec.rows, 1), one), np.full((1, spec.cols), w))
        scales = np.where(np.arange(spec.cols) % 2, -scale, scale)[None, :].astype(job.scale.dtype)
        none = None if job.extra is None else np.zeros_like(job.extra)
        yield dataclasses.replace(job, scale=scales, extra=none)


def _halves(spec: MixPESpec) -> Iterator[Gemm]:
    """Results -130.0, -129.5 ... 130.0, as far as the formats give them."""
    x, f = spec.stream_format, spec.weight_format
    steps = np.arange(-260, 261)
    wanted = steps if not x.floating else ACT_FLOATS[x.name].code(steps.astype(ACT_FLOATS[x.name].dtype))
    there = wanted[(x.codes[0] <= wanted) & (wanted <= x.codes[1])]
    one = weight_codes(spec.pe)[np.flatnonzero(f.operand(weight_codes(spec.pe)) + f.offset == 1 << -f.exponent)[0]]
    for part in np.split(there, range(spec.rows, len(there), spec.rows)):
        column = np.resize(part, (spec.rows, 1))
        job = _filled(spec, column, np.full((1, spec.cols), one))
        none = None if job.extra is None else np.zeros_like(job.extra)
        half = None if job.x_scale is None else np.full_like(job.x_scale, 0.5)
        yield dataclasses.replace(job, extra=none, x_scale=half)


def _infinities(spec: MixPESpec) -> Iterator[Gemm]:
    """Infinities that agree, that clash from group to group, and that clash inside a group with the minimum."""
    k = min(3 * spec.length, spec.k_max, 768)
    ones = np.ones((spec.rows, k), np.int64)
    w = weight_codes(spec.pe)
    job = _filled(spec, ones, np.full((k, spec.cols), w[spec.weight_format.operand(w).argmax()]))
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
    fmt = spec.scale_format
    scale = np.broadcast_to((sign if fmt.signed else 1) * min(fmt.largest, 2.0**15), job.scale.shape).astype(fmt.dtype)
    scale[-1] = fmt.value([1])[0]
    g = spec.group or k
    job.w[:] = job.w[:g][np.arange(k) % g]
    job.x[:] = job.x[:, :g][:, np.arange(k) % g]
    return dataclasses.replace(job, scale=scale)


def _resets(spec: MixPESpec, jobs: list[Gemm], long: Gemm, seed: int) -> Iterator[Case]:
    """A reset in the middle of everything, then a clean job: of one step, or of many."""
    end = spec.cycles(*jobs)
    step = dataclasses.replace(jobs[0], **_first_step(jobs[0]))
    beats = (spec.passes if isinstance(spec, WeightStationary) else spec.timing).beats
    # its words arrive in the queues just before
    drained = spec.cycles(jobs[0]) if isinstance(spec, WeightStationary) else jobs[0].shape[1] + spec.latency
    times = {0, 1, 3, spec.length, drained - 4, drained - 3, drained, end // 2, end - beats}
    for at in sorted(t for t in times if t <= end - beats):
        for order, after in (
            ("short", [step, long]),
            ("long", [long, step]),
        ):  # a tile's end clears what a reset should
            yield case_of(spec, f"reset-in-cycle-{at}-{order}", jobs, seed=seed, stall={"o": 64}, reset_at=at)
            yield case_of(spec, f"after-reset-in-cycle-{at}-{order}", after, seed=seed)


def _first_step(job: Gemm) -> dict[str, Any]:
    """The job's first step alone."""
    first: dict[str, Any] = {"x": job.x[:, :1], "w": job.w[:1], "scale": job.scale[:1]}
    first["extra"] = None if job.extra is None else job.extra[:1]
    pow2 = job.x_scale is not None and job.x_scale.ndim == 2
    first["x_scale"] = job.x_scale[:, :1] if pow2 and job.x_scale is not None else job.x_scale
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
            # without its tlast, activations of the next tile are aligned with this one's
            judged = not (spec.aligned and stream == "act")
            name = f"no-tlast-on-{stream}"
            yield dataclasses.replace(good, name=name, inputs=beats, status={"sts_error": 1}, judged=judged)
    if spec.k_max <= 256:
        job = random_job(spec, rng, spec.rows, spec.k_max, spec.cols)
        case = case_of(spec, "too-long", [job, random_job(spec, rng, spec.rows, 1, spec.cols)], seed=seed)
        long = {s: _repeat_first(b) if s in ("act", "wgt") else b for s, b in case.inputs.items()}
        if spec.group and spec.k_max % spec.group == 0:  # the extra step starts a group
            streams = ("par", "scl") if spec.act_scale == "pow2" else ("par",)
            long |= {s: _repeat_first(long[s]) for s in streams}
        yield dataclasses.replace(case, name="too-long", inputs=long, status={"sts_error": 2}, judged=False)


def _repeat_first(b: Beats, last: bool = False) -> Beats:
    return Beats(np.concatenate([b.data[:1], b.data]), np.concatenate([[last], b.last]))


def _few_tokens(spec: WeightStationary, rng: np.random.Generator) -> Iterator[Gemm]:
    """Tiles of one token, of two, of one less than fit; tiles of unequal numbers of tokens after one another."""
    t, k = spec.slots, _lengths(spec)[-1]
    for tokens in (1, 2, t - 1, t + 1, 1):
        for length in (k, 1, spec.rows + 1, spec.length):
            if tokens:
                yield random_job(spec, rng, tokens, min(length, spec.k_max), spec.cols)


def _malformed_passes(spec: WeightStationary, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """Each status bit: a token too many in one pass, tlast of wgt inside a pass, too many tokens, too many passes."""
    t, r = spec.slots, spec.rows
    tokens, long = max(1, t - 1), min(spec.k_max, 2 * r + 1)
    jobs = [random_job(spec, rng, tokens, k, spec.cols) for k in (long, r, long)]
    good = case_of(spec, "passes", jobs, seed=seed)
    if t > 1 and long > r:
        # the tokens that are in all passes come out right, and so do the tiles after them
        streams = ("act", "scl") if spec.act_scale == "pow2" and spec.group_passes == 1 else ("act",)
        inputs = {**good.inputs, **{s: _repeat_at(good.inputs[s], tokens - 1) for s in streams}}
        yield dataclasses.replace(good, name="a-token-too-many", inputs=inputs, status={"sts_error": 1}, cycles=None)
    if t > 1 and long > r:
        # in the last pass, where a token takes its scale too
        counts = {"act": -(-long // r), "scl": -(-long // (spec.group or long)) if spec.act_scale == "pow2" else 1}
        again = {s: _repeat_at(b, counts[s] * tokens - 1) if s in counts else b for s, b in good.inputs.items()}
        name = "a-token-more-in-the-last-pass"
        yield dataclasses.replace(good, name=name, inputs=again, status={"sts_error": 1}, judged=False, cycles=None)
    if r > 1:
        last = good.inputs["wgt"].last.copy()
        last[0] = True
        inputs = {**good.inputs, "wgt": Beats(good.inputs["wgt"].data, last)}
        yield dataclasses.replace(good, name="tlast-inside-a-pass", inputs=inputs, status={"sts_error": 1})
    case = case_of(spec, "too-many-tokens", [random_job(spec, rng, t, 1, spec.cols), *jobs], seed=seed)
    inputs = {s: _repeat_at(b, t - 1) if s in ("act", "scl") else b for s, b in case.inputs.items()}
    yield dataclasses.replace(case, inputs=inputs, status={"sts_error": 2}, judged=False)
    if spec.k_max <= 256:
        job = random_job(spec, rng, 1, spec.k_max, spec.cols)
        case = case_of(spec, "too-long", [job, *jobs], seed=seed)
        inputs = {**case.inputs, "act": _repeat_first(case.inputs["act"], last=True)}
        for _ in range(r):
            inputs["wgt"] = _repeat_first(inputs["wgt"])
        if spec.group_passes and spec.most_passes % spec.group_passes == 0:  # the extra pass starts a group
            streams = ("par", "scl") if spec.act_scale == "pow2" else ("par",)
            inputs |= {s: _repeat_first(inputs[s]) for s in streams}
        yield dataclasses.replace(case, inputs=inputs, status={"sts_error": 2}, judged=False)


def _repeat_at(b: Beats, n: int) -> Beats:
    """Beat ``n`` twice, the first time without tlast."""
    return Beats(np.insert(b.data, n, b.data[n], axis=0), np.insert(b.last, n, False))
