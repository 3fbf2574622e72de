"""A real layer as a mixture of experts through ``moe_ffn``: routed, compared bit for bit, timed."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.registry import unit
from golden import fixture, q4_1
from golden.mixpe.layer import sqnr
from golden.moe import fixture as converted
from golden.moe import mixed
from golden.moe.convert import convert
from golden.moe.dispatch import per_token
from golden.moe.expert import ExpertBatch, expert
from golden.moe.ffn import lengths
from golden.moe.layer import LayerBatch, MoEFFNSpec, Rows
from golden.moe.mixed import Formats
from golden.moe.pack import Packed, pack
from golden.moe.precision import Weights, plain
from golden.moe.quantizers import Q4_1, named
from golden.moe.spec import ConversionSpec, preset, shape
from golden.quantize import float_codes
from golden.spec import SpecError
from scripts.layers import Say, Settings

DENSE = len(fixture.load().gate.codes)
"""Neurons of the layer as it was."""

FORETOLD = converted.LAYERS[1]
"""The layer whose experts are foretold from the input of the one before it."""

DENSE_BYTES = 3 * Q4_1.size(fixture.load().x.shape[1], DENSE)
"""Of its weights."""


@dataclass(frozen=True, kw_only=True)
class MoEReport:
    """What a run measured. ``agreement``: share of tokens with the experts that float64 scores choose; ``busy``: cycles
    in which the array takes a step; ``useful``: real multiply-accumulates / (rows * cols * cycles); ``dense_cycles``:
    of all neurons for all tokens on the same engine, by the formula. ``hidden``: routing is certain to be through
    before the shared expert; where it is not, ``formula_cycles`` are the least."""

    layer: str
    formats: str
    configuration: dict[str, Any]
    tokens: int
    tokens_per_expert: list[int]
    agreement: float
    outputs: int
    mismatches: int
    sqnr_db: float
    cycles: int
    formula_cycles: int
    hidden: bool
    busy: float
    useful: float
    fetches: int
    weight_bytes: int
    dense_cycles: int
    dense_weight_bytes: int
    build_seconds: float
    simulation_seconds: float

    def text(self) -> str:
        c = self.configuration
        return "\n".join(
            [
                f"{self.layer}: {self.tokens} tokens, {self.formats} x {c['align']} bits, {c['rows']} x {c['cols']}",
                f"tokens per expert    {', '.join(map(str, self.tokens_per_expert))}, the shared one {self.tokens}",
                f"agreement            {self.agreement:.1%} of the tokens have the experts that float64 chooses",
                f"outputs compared     {self.outputs:,}",
                f"mismatches           {self.mismatches:,}",
                f"SQNR                 {self.sqnr_db:.1f} dB against float64 of the stored weights, same experts",
                f"cycles               {self.cycles:,}; by the formula {self.formula_cycles:,}"
                + ("" if self.hidden else " at least: routing may be the longer part"),
                f"busy                 {self.busy:.2%} of the cycles take a step",
                f"useful               {self.useful:.2%} of rows * cols * cycles are real multiply-accumulates",
                f"weights              {self.fetches:,} tiles, {self.weight_bytes:,} bytes, each once",
                f"dense                {self.dense_cycles:,} cycles, {self.dense_weight_bytes:,} bytes "
                f"({self.dense_cycles / self.cycles:.2f}x the cycles)",
                f"time                 {self.build_seconds:.1f} s build, {self.simulation_seconds:.1f} s simulation",
            ]
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def layer(name: str, formats: Sequence[str] = ()) -> converted.Experts:
    """The fixture's layer: as it is kept, or, for another split, converted by its own tokens, after which cycles and
    bits can be judged, but not how well it speaks. ``formats`` are those of the experts, by turns, the shared one
    first; none: all in Q4_1."""
    dense, chosen = converted.dense(), [named(form) for form in formats]
    if name == converted.SPEC.name:
        found = converted.load()
    else:
        conversion = convert(fixture.load().x, dense.ffn(), ConversionSpec(**preset("code") | shape(name)))
        found = converted.Experts(conversion, pack(dense, conversion))
    if not chosen:
        return found
    each = [Formats(form, form) for form, _ in zip(itertools.cycle(chosen), found.packed.descriptors, strict=False)]
    return converted.Experts(found.conversion, pack(dense, found.conversion, each))


def sizes(experts: converted.Experts) -> dict[str, int]:
    """Of a configuration that holds a layer."""
    routed = len(experts.packed.descriptors) - 1
    return {"experts": routed, "neurons": max(at.neurons for at in experts.packed.descriptors)}


def measure(
    settings: Settings,
    name: str,
    tokens: int,
    say: Say,
    dynamic: bool = False,
    formats: Sequence[str] = (),
    substitute: bool = False,
) -> MoEReport:
    """Golden model, RTL and float64 of the fixture's layer, timed; ``substitute``: of the one behind it, its experts as
    its router foretells them."""
    from tb.cosim import compile

    experts = foretold_layer(name) if substitute else layer(name, formats)
    own: dict[str, Any] = {"routing": "table" if substitute else "router"} | ({"weight": "mixed"} if formats else {})
    spec = unit("moe_ffn").configure(layers=[sizes(experts) | own | {"tokens": max(tokens, 1)}, *settings])
    assert isinstance(spec, MoEFFNSpec)
    _suits(spec, experts, tokens, own["routing"])
    job = foretold_batch(spec, experts, tokens) if substitute else real_batch(spec, experts, tokens, dynamic)
    say("generating Verilog and building it with Verilator (some minutes for a new configuration) ...")
    start = time.monotonic()
    rtl = compile(spec, optimise=False)
    built = time.monotonic()
    say(f"simulating {spec.cycles(job):,} cycles ...")
    y = rtl(job, exact=spec.hidden(job))
    work, x = spec.work(job), job.x.astype(np.uint16).view(np.float16).astype(np.float64)
    golden = spec.compute(job)
    steps, macs = effort(spec, work)
    return MoEReport(
        layer=f"SmolLM2-135M-Instruct layer {FORETOLD if substitute else fixture.LAYER} as {name}"
        + ", experts foretold a layer ahead" * substitute,
        formats=", ".join(formats) or spec.weight,
        configuration=spec.values(),
        tokens=tokens,
        tokens_per_expert=spec.queues(job).counts.tolist(),
        agreement=agreement(spec, job),
        outputs=y.size,
        mismatches=int((y.view(np.uint32) != golden.view(np.uint32)).sum()),
        sqnr_db=sqnr(_real(spec, job, x), y),
        cycles=rtl.cycles,
        formula_cycles=spec.cycles(job),
        hidden=spec.hidden(job),
        busy=steps / rtl.cycles,
        useful=macs / (spec.rows * spec.cols * rtl.cycles),
        fetches=sum(p.tiles for p in spec.ffn.phases(work)),
        weight_bytes=sum(spec.ffn.weight_bytes(one) for one, _, _ in work.work()),
        dense_cycles=spec.ffn.dense_cycles(DENSE, tokens),
        dense_weight_bytes=DENSE_BYTES,
        build_seconds=built - start,
        simulation_seconds=rtl.seconds,
    )


def _suits(spec: MoEFFNSpec, experts: converted.Experts, tokens: int, routing: str) -> None:
    """``SpecError`` where a configuration cannot hold the layer as it is stored, or so many tokens."""
    exact = {"d": fixture.load().x.shape[1], "experts": sizes(experts)["experts"], "routing": routing}
    stored = all(form == Q4_1.name for at in experts.packed.descriptors for form in at.formats)
    if not (stored and spec.ffn.mixed):
        exact |= {"weight": "uint4_min" if stored else "mixed"}
    for field, needed in (exact | {"group": q4_1.GROUP, "bias": False, "scaled": False}).items():
        if getattr(spec, field) != needed:
            raise SpecError(f"{field} must be {needed} for this layer, not {getattr(spec, field)}")
    for field, least in {"neurons": sizes(experts)["neurons"], "tokens": tokens}.items():
        if getattr(spec, field) < least:
            raise SpecError(f"{field} must be at least {least} for this layer, not {getattr(spec, field)}")


def real_batch(spec: MoEFFNSpec, experts: converted.Experts, tokens: int, dynamic: bool = False) -> LayerBatch:
    """The first tokens of the fixture, with as many experts each as the conversion says, or (``dynamic``) with those
    whose score reaches its threshold."""
    f = fixture.load()
    if not 1 <= tokens <= len(f.x):
        raise SpecError(f"tokens must be an integer between 1 and {len(f.x)}, not {tokens}")
    active = experts.conversion.spec.active
    least, most = (0, spec.slots or spec.experts) if dynamic else (active, active)
    tau = int(np.float32(experts.conversion.threshold if dynamic else 0).view(np.uint32))
    return layer_batch(spec, experts.packed, f.x[:tokens], least, most, tau)


def foretold_layer(name: str) -> converted.Experts:
    """The second of the fixture's consecutive layers; ``SpecError`` for another split than it is kept in."""
    if name != converted.FINE.name:
        raise SpecError(f"moe must be {converted.FINE.name} with --substitute, as the layers are kept, not {name!r}")
    found = converted.layers()[1]
    return converted.Experts(found.conversion, pack(found.dense, found.conversion))


def foretold_batch(spec: MoEFFNSpec, experts: converted.Experts, tokens: int) -> LayerBatch:
    """Its first tokens, with the experts that its router chooses by what the layer before it reads."""
    before, here = converted.layers()[:2]
    if not 1 <= tokens <= len(here.x):
        raise SpecError(f"tokens must be an integer between 1 and {len(here.x)}, not {tokens}")
    job = layer_batch(spec, experts.packed, here.x[:tokens], converted.FINE.active, converted.FINE.active)
    return foretold(spec, job, before.x[:tokens])


def foretold(spec: MoEFFNSpec, job: LayerBatch, x: NDArray[np.float32]) -> LayerBatch:
    """With the experts that the layer's router chooses for other activations."""
    chosen = MoEFFNSpec(**spec.values() | {"routing": "router"}).choose(replace(job, x=float_codes(x, "fp16")))
    return replace(job, route=per_token(chosen, len(job.x)))


def layer_batch(
    spec: MoEFFNSpec, packed: Packed, x: NDArray[np.float32], least: int, most: int, tau: int = 0
) -> LayerBatch:
    """Tokens ``x [T, d]`` for a packed layer; ``least`` to ``most`` experts each, by threshold between them."""
    numbers = range(len(packed.descriptors))
    if spec.ffn.mixed:
        stored = tuple(mixed.expert(packed.weights(i)) for i in numbers)
    else:
        stored = tuple(expert(*packed.expert(i)) for i in numbers)
    rows = packed.router_rows()
    fields: list[list[NDArray[Any]]] = [[getattr(m, name) for m in rows] for name in q4_1.Matrix._fields]
    codes, d, m = (np.stack(both, axis=1).reshape(2 * spec.experts, -1).T for both in fields)
    norm = (1 / np.stack([lengths(q4_1.dequantise(*matrix)) for matrix in rows], axis=1)).astype(np.float32).ravel()
    router = Rows(Weights(codes, d, m), norm if spec.norms else None)
    return LayerBatch(float_codes(x, "fp16"), stored, router, least, most, tau)


def effort(spec: MoEFFNSpec, work: ExpertBatch) -> tuple[int, int]:
    """Steps of the experts' array, and real multiply-accumulates."""
    macs = sum(len(mine) * 3 * one.neurons * spec.d for one, mine, _ in work.work())
    return sum(p.tiles * p.passes * p.steps for p in spec.ffn.phases(work)), macs


def agreement(spec: MoEFFNSpec, job: LayerBatch) -> float:
    """Of the chosen sets with those by float64 scores of the stored rows, the threshold that of the job."""
    x = job.x.astype(np.uint16).view(np.float16).astype(np.float64)
    assert job.router
    w = _dequantised(job.router.weights, spec.group)
    both = x @ w * (1 if job.router.norm is None else 1 / np.sqrt(np.square(w).sum(axis=0)))
    v = both[:, ::2] / (1 + np.exp(-both[:, ::2])) * both[:, 1::2]
    v = np.abs(v) if spec.score == "abs" else v
    ranked = np.argsort(-v, axis=1, kind="stable")[:, : job.k_max]
    tau = np.uint32(job.tau).view(np.float32)
    best = [set(mine[(np.arange(len(mine)) < job.k_min) | (v[t, mine] >= tau)]) for t, mine in enumerate(ranked)]
    chosen = spec.choose(job)
    return float(np.mean([best[t] == set(chosen[chosen[:, 0] == t, 1]) for t in range(len(x))]))


def _real(spec: MoEFFNSpec, job: LayerBatch, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 of the packed weights, the same experts."""
    y = np.zeros((len(x), spec.d))
    for one, mine, weights in spec.work(job).work():
        both = x[mine] @ _dequantised(one.up, spec.group, one.codebook)
        h = both[:, ::2] / (1 + np.exp(-both[:, ::2])) * both[:, 1::2]
        y[mine] += weights[:, None].astype(np.float64) * (h @ _dequantised(one.down, spec.group, one.codebook))
    return y


def _dequantised(weights: Weights, group: int, codebook: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    w = plain(weights, codebook, group)
    assert w.extra is not None
    scale, least = (np.repeat(part.astype(np.float64), group, axis=0) for part in (w.scale, w.extra))
    return w.codes * scale + least
