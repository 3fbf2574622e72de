"""Real layers whose experts do not all fit on chip through ``moe_resident``: what prefetch saves; it changes no bit."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gen.registry import unit
from golden import q4_1
from golden.moe import fixture as converted
from golden.moe.layer import LayerBatch
from golden.moe.pack import pack
from golden.moe.resident import MoEResidentSpec, ResidentRun, Step
from golden.spec import SpecError
from scripts.layers import Say, Settings
from scripts.moe_layer import layer_batch
from scripts.resumable import aligned

BEAT = 16
"""Bytes of a beat of far memory."""

LATENCY = 200
"""Cycles of far memory from a load to its first beat, unless said otherwise."""

Hints = Callable[[MoEResidentSpec, list[LayerBatch], int], list[int]]


@dataclass(frozen=True, kw_only=True)
class Played:
    """A run with one predictor, or none. ``stalls``: cycles in which activations waited for codes; ``recall``: of the
    routed experts of all batches but the first layer's, those that were hinted at."""

    predictor: str
    mismatches: int
    cycles: int
    stalls: int
    hits: int
    misses: int
    prefetched: int
    useless: int
    loaded_bytes: int
    recall: float


@dataclass(frozen=True, kw_only=True)
class ResidentReport:
    """What a comparison measured. ``unbound``: cycles with all experts on chip, by the formula."""

    model: str
    configuration: dict[str, Any]
    tokens: int
    batches: int
    bandwidth: int
    latency: int
    outputs: int
    unbound: int
    runs: list[Played]

    @property
    def mismatches(self) -> int:
        return sum(run.mismatches for run in self.runs)

    def text(self) -> str:
        c = self.configuration
        heads = [
            "predictor",
            "mismatches",
            "cycles",
            "stalls",
            "hits",
            "misses",
            "prefetched",
            "useless",
            "bytes",
            "recall",
        ]
        rows = [
            [
                run.predictor,
                *(f"{value:,}" for value in (run.mismatches, run.cycles, run.stalls, run.hits, run.misses)),
                *(f"{value:,}" for value in (run.prefetched, run.useless, run.loaded_bytes)),
                f"{run.recall:.1%}",
            ]
            for run in self.runs
        ]
        return "\n".join(
            [
                f"{self.model}: {self.batches} batches of {self.tokens} tokens through each of them, "
                f"{c['rows']} x {c['cols']}, places for {c['places']} experts, {c['policy']}",
                f"far memory: {self.bandwidth} bytes per cycle, latency {self.latency}",
                f"outputs compared: {self.outputs:,}",
                f"with all experts on chip, by the formula: {self.unbound:,} cycles",
                aligned([heads, *rows]),
            ]
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def _none(spec: MoEResidentSpec, batches: list[LayerBatch], at: int) -> list[int]:
    return []


def _next_router(spec: MoEResidentSpec, batches: list[LayerBatch], at: int) -> list[int]:
    """The router of the next layer on what this layer's reads: experts in the order of the tokens."""
    if (at + 1) % len(converted.LAYERS) == 0:
        return []  # the next batch begins anew: nothing is known of it
    guess = LayerBatch(
        **{name: getattr(batches[at + 1], name) for name in ("experts", "router", "k_min", "k_max", "tau")},
        x=batches[at].x,
    )
    return list(dict.fromkeys(spec.moe.choose(guess)[:, 1].tolist()))


def _oracle(spec: MoEResidentSpec, batches: list[LayerBatch], at: int) -> list[int]:
    """What the next batch will need, in the order of use."""
    if at + 1 == len(batches):
        return []
    return [queue.expert for queue in spec.moe.work(batches[at + 1]).queues]


PREDICTORS: dict[str, Hints] = {"none": _none, "next-router": _next_router, "oracle": _oracle}


def measure(
    settings: Settings,
    name: str,
    places: int,
    tokens: int,
    batches: int,
    predictors: Sequence[str],
    bandwidth: int,
    delay: int,
    say: Say,
) -> ResidentReport:
    """Golden model and RTL of the fixture's consecutive layers, for each predictor."""
    if name != converted.FINE.name:
        raise SpecError(f"moe must be {converted.FINE.name} with --cache, as the layers are kept, not {name!r}")
    layers = converted.layers()
    if not 1 <= tokens * batches <= len(layers[0].x):
        raise SpecError(f"tokens times batches must be between 1 and {len(layers[0].x)}, not {tokens * batches}")
    if bandwidth % BEAT or bandwidth < BEAT:
        raise SpecError(f"bandwidth must be a multiple of {BEAT} bytes per cycle, not {bandwidth}")
    size = converted.FINE.size(len(layers[0].dense.gate.codes))
    own = {"experts": converted.FINE.routed, "neurons": converted.FINE.shared * size, "layers": len(layers)}
    own |= {"tokens": tokens, "places": places}
    spec = unit("moe_resident").configure(layers=[own, *settings])
    assert isinstance(spec, MoEResidentSpec)
    kept = {"d": layers[0].x.shape[1], "weight": "uint4_min", "group": q4_1.GROUP}
    for field, needed in (own | kept | {"bias": False, "scaled": False, "timeout": 0}).items():
        if getattr(spec, field) != needed:
            raise SpecError(f"{field} must be {needed} for these layers, not {getattr(spec, field)}")
    assert spec.slots
    if spec.slots < converted.FINE.active:
        raise SpecError(f"slots must be at least {converted.FINE.active} for these layers, not {spec.slots}")
    packed = [pack(layer.dense, layer.conversion) for layer in layers]
    k = converted.FINE.active
    each = [
        replace(layer_batch(spec.moe, one, layer.x[n * tokens : (n + 1) * tokens], k, k), base=None)
        for n in range(batches)
        for layer, one in zip(layers, packed, strict=True)
    ]
    say("generating Verilog and building it with Verilator (some minutes for a new configuration) ...")
    runs = [_played(spec, each, predictor, bandwidth, delay, say) for predictor in predictors]
    return ResidentReport(
        model=f"SmolLM2-135M-Instruct layers {converted.LAYERS[0]} to {converted.LAYERS[-1]} as {name}",
        configuration=spec.values(),
        tokens=tokens,
        batches=batches,
        bandwidth=bandwidth,
        latency=delay,
        outputs=sum(batch.x.size for batch in each),
        unbound=spec.moe.cycles(*each),
        runs=runs,
    )


def _played(
    spec: MoEResidentSpec, batches: list[LayerBatch], predictor: str, bandwidth: int, delay: int, say: Say
) -> Played:
    from tb.far_memory import FarMemory, answered
    from tb.runner import run_bulk
    from tb.transactions import case_of

    number = len(converted.LAYERS)
    hinted = [PREDICTORS[predictor](spec, batches, at) for at in range(len(batches))]
    steps = []
    for at, (batch, hints) in enumerate(zip(batches, hinted, strict=True)):
        layer = (at + 1) % number
        steps.append(Step(batch, at % number, tuple(layer * spec.experts + e for e in hints)))
    size = -(-spec.ffn.weight_bytes(batches[0].experts[1]) // BEAT)
    keys = np.arange(number * spec.experts)
    run = ResidentRun(np.stack((keys * size, np.full_like(keys, size)), axis=1), tuple(steps))
    experts = [one for batch in batches[:number] for one in batch.experts[1:]]
    memory = FarMemory(spec, experts, [b.experts[0] for b in batches], bandwidth // BEAT, delay)
    case = answered(case_of(spec, predictor, [run]), memory)
    say(f"simulating: {predictor} ...")
    (played,) = run_bulk(spec, [case], 0).played
    golden = np.concatenate(spec.compute(run)).view(np.uint32)
    y = np.concatenate(spec.result(run, played.outputs)).view(np.uint32)
    counted = spec.port("cache").unpack(played.outputs["cache"])
    stats = spec.port("stats").unpack(played.outputs["stats"])
    needs = [[q.expert for q in spec.moe.work(batch).queues] for batch in batches]
    known = [(hints, wanted) for hints, wanted in zip(hinted, needs[1:], strict=False)]
    known = [pair for at, pair in enumerate(known) if (at + 1) % number]
    found = sum(len(set(hints) & set(wanted)) for hints, wanted in known)
    assert played.cycles
    return Played(
        predictor=predictor,
        mismatches=int((golden != y).sum()),
        cycles=played.cycles,
        stalls=int(stats["stalls"].sum()),
        hits=int(counted["hits"].sum()),
        misses=int(counted["misses"].sum()),
        prefetched=int(counted["prefetched"].sum()),
        useless=int(counted["useless"].sum()),
        loaded_bytes=len(played.outputs["dma"]) * size * BEAT,
        recall=found / max(1, sum(len(wanted) for _, wanted in known)),
    )
