"""Unit ``moe_resident``: the exported Verilog against its golden model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gen.export import export
from golden.moe.resident import MoEResidentSpec
from golden.spec import SpecError
from hdl.layers.moe_resident import MoEResident
from hdl.moe.needs import Needs
from scripts.cli import main
from tb.cosim import compile
from tb.far_memory import FarMemory, answered
from tb.faults import later, one_in, rewritten, turns_red
from tb.moe_resident import bench, random_run
from tb.runner import both_see_the_same, run_bulk
from tb.test_stream import simulate
from tb.transactions import Case, CheckFailed, case_of

SMALL = {"d": 32, "neurons": 32, "tokens": 3, "rows": 2, "cols": 4, "group": 16}
TINY = MoEResidentSpec(**SMALL, experts=3, layers=2, places=2)
WIDE = MoEResidentSpec(
    **SMALL,
    experts=5,
    slots=4,
    layers=3,
    places=7,
    policy="fifo",
    weight="mixed",
    scaled=True,
    routing="table",
    pruning=True,
)
"""More places than a layer has experts, every expert in a format of its own; finished tokens, a table that decides."""
ONE = MoEResidentSpec(**SMALL, experts=4, slots=2, layers=1, places=1, policy="residency", outstanding=1)


def _id(spec: MoEResidentSpec) -> str:
    return f"{spec.experts}x{spec.layers}-in-{spec.places}-{spec.policy}"


@pytest.mark.parametrize("spec", [WIDE, *later(TINY, ONE)], ids=_id)
def test_bulk(spec: MoEResidentSpec) -> None:
    run_bulk(spec, bench(spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in bench(TINY, 2) if c.name in ("steps-2", "mixed-both")]
    both_see_the_same(TINY, cases, 2)


def test_hints_change_no_bit() -> None:
    """Right ones, wrong ones, none: the same results, also where memory is slow."""
    run = random_run(TINY, np.random.default_rng(4), 6)
    results = []
    for hints in (None, (), (0, 1, 2), (5, 3)):
        steps = run.steps if hints is None else tuple(replace(s, hints=hints) for s in run.steps)
        mine = replace(run, steps=steps)
        case = case_of(TINY, "hints", [mine], seed=1, stall={"fill": 250})
        played = compile(TINY).play(case)
        results.append(np.concatenate(TINY.result(mine, played.outputs)))
    assert all(np.array_equal(results[0].view(np.uint32), other.view(np.uint32)) for other in results[1:])


@pytest.mark.parametrize("rate", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_weights_are_those_of_the_places(rate: int) -> None:
    """A memory that copies experts into places and gives what stands there, slow and fast."""
    both_see_the_same(ONE, [_with_a_memory(rate)], 1)


def _with_a_memory(rate: int) -> Case:
    """Experts of layer 0 through the only place."""
    run = random_run(ONE, np.random.default_rng(6), 3)
    batches = [replace(s.batch, experts=run.steps[0].batch.experts, k_min=2, k_max=2) for s in run.steps]
    run = replace(run, steps=tuple(replace(s, batch=b) for s, b in zip(run.steps, batches, strict=True)))
    experts = run.steps[0].batch.experts
    memory = FarMemory(ONE, list(experts[1:]), [experts[0]] * len(batches), rate, 20)
    return answered(case_of(ONE, f"memory-{rate}", [run]), memory)


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        pytest.param("_fetch", "~routed | (there", "~routed | ((there | 1)", id="tiles are not held"),
        pytest.param("_done", "Cat(gone).all()", "1", id="given back with the last tile", marks=pytest.mark.slow),
    ],
)
def test_what_a_slow_memory_shows(method: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place whose expert is not there yet, or goes before its last beat has come."""
    monkeypatch.setattr(MoEResident, method, getattr(rewritten(MoEResident, old, new, method), method))
    with pytest.raises(CheckFailed, match=r"a place without one|is written while expert"):
        run_bulk(ONE, [_with_a_memory(50)], 1, product=export(ONE))


@pytest.mark.parametrize("broken", [False, True])
def test_no_need_is_lost_while_another_waits(broken: bool) -> None:
    """Counts and sink stall at random; a unit that takes a count whenever it comes loses keys."""
    counts = TINY.dispatch.port("stats")
    dut = (rewritten(Needs, "~needed | self.o.ready", "~needed | 1") if broken else Needs)(5, counts)
    rng = np.random.default_rng(7)
    batches = rng.integers(0, 2, (40, 3)) * rng.integers(1, 4, (40, 3))
    wanted = [[n for n, count in enumerate(batch) if count] for batch in batches]
    found: list[list[int]] = [[]]

    async def bench(ctx: Any) -> None:
        left = [(int(count), n == 2) for batch in batches for n, count in enumerate(batch)]
        while len(found) <= len(wanted) and rng.random() > 1e-4:
            ctx.set(dut.i.valid, bool(left) and rng.random() < 0.7)
            if left:
                ctx.set(dut.i.payload.data[0].count, left[0][0])
                ctx.set(dut.i.payload.last, left[0][1])
            ctx.set(dut.o.ready, rng.random() < 0.3)
            if ctx.get(dut.i.valid) and ctx.get(dut.i.ready):
                left.pop(0)
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                if ctx.get(dut.o.payload.valid):
                    found[-1].append(ctx.get(dut.o.payload.key))
                if ctx.get(dut.o.payload.last):
                    found.append([])
            await ctx.tick()

    simulate(dut, bench)
    assert (found[:-1] == wanted) != broken


@pytest.mark.parametrize("error", [True, False], ids=["an error", "no answer"])
def test_a_load_that_fails_stops_with_its_name(error: bool) -> None:
    """The first expert is not there, nor at a second try: its key is told, and no result comes of its batch."""
    spec = TINY if error else MoEResidentSpec(**TINY.values() | {"timeout": 500})
    most = spec.slots or spec.experts
    run = random_run(spec, np.random.default_rng(5), 2)
    run = replace(run, steps=tuple(replace(s, batch=replace(s.batch, k_min=most, k_max=most)) for s in run.steps))
    case = case_of(spec, "stopped", [run], seed=1)
    numbers = np.arange(16 * error)[:, None]
    fill = spec.port("fill").pack(number=numbers, ok=np.zeros_like(numbers))
    played = compile(spec).play(replace(case, inputs={**case.inputs, "fill": fill}, judged=False))
    wanted, bits = spec.port("dma").unpack(case.outputs["dma"])["key"][0, 0], len(spec.moe.status[0].causes)
    cause = 1 << (3 if error else 4)
    assert played.status["sts_key"] == wanted
    assert played.status["sts_error"] >> (len(spec.status[0].causes) - 1) == 1
    assert played.status["sts_error"] >> bits & 0xFF == cause
    assert len(played.outputs["o"]) == 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"places": 0}, "places must be an integer between 1 and 64, not 0"),
        ({"policy": "random"}, "policy must be one of fifo, lru, residency, not 'random'"),
        ({"timeout": 2}, "timeout must be 0 or at least 4, not 2"),
        ({"rows": 3}, "rows must be a power of two, not 3"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        MoEResidentSpec(**values)
    assert str(e.value) == sentence


def test_a_layer_that_is_none_is_refused() -> None:
    run = random_run(TINY, np.random.default_rng(1), 2)
    run = replace(run, steps=(replace(run.steps[0], layer=TINY.layers),))
    with pytest.raises(SpecError) as e:
        TINY.inputs(run)
    assert str(e.value) == f"layer must be an integer between 0 and {TINY.layers - 1}, not {TINY.layers}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--cache 0", "cache must be left out without --moe, not 0"),
        ("--formats=", "formats must be left out without --moe, not ''"),
        ("--bandwidth 32", "bandwidth must be left out without --moe, not 32"),
        ("--moe S3A3E8 --batches 2", "batches must be left out without --cache, not 2"),
        ("--moe S3A3E8 --predictor oracle", "predictor must be left out without --cache, not 'oracle'"),
        ("--moe S3A3E8 --outliers 1", "outliers must be left out with --moe, not 1.0"),
        (
            "--moe S3A3E8 --formats=",
            "format must be a name like q4_1, unsigned3x32, signed8 or lookup3x64, not ''",
        ),
        ("--moe S2A2E16 --cache 7 --dynamic", "dynamic must be left out with --cache, not True"),
        ("--moe S2A2E16 --cache 7 --formats q4_1", "formats must be left out with --cache, not 'q4_1'"),
        ("--moe S3A3E8 --cache 7", "moe must be S2A2E16 with --cache, as the layers are kept, not 'S3A3E8'"),
        ("--moe S2A2E16 --cache 0 --tokens 1", "places must be an integer between 1 and 64, not 0"),
        ("--moe S2A2E16 --cache 7 --tokens 0", "tokens times batches must be between 1 and 64, not 0"),
        ("--moe S2A2E16 --cache 7 --tokens 17", "tokens times batches must be between 1 and 64, not 68"),
        (
            "--moe S2A2E16 --cache 7 --bandwidth 17",
            "bandwidth must be a multiple of 16 bytes per cycle, not 17",
        ),
        ("--moe S2A2E16 --cache 7 --set slots=1", "slots must be at least 2 for these layers, not 1"),
        ("--moe S2A2E16 --cache 7 --set timeout=9", "timeout must be 0 for these layers, not 9"),
        ("--moe S2A2E16 --cache 7 --set places=3", "places must be 7 for these layers, not 3"),
        ("--moe S2A2E16 --cache 7 --set layers=4", "layers must be 3 for these layers, not 4"),
        ("--moe S2A2E16 --cache 7 --set routing=table", "routing must be router for these layers, not table"),
        (
            "--moe S2A2E16 --cache 7 --substitute --predictor oracle",
            "predictor must be left out with --substitute, not 'oracle'",
        ),
        ("--substitute", "substitute must be left out without --moe, not True"),
        (
            "--moe S3A3E8 --substitute",
            "moe must be S2A2E16 with --substitute, as the layers are kept, not 'S3A3E8'",
        ),
        ("--moe S2A2E16 --substitute --dynamic", "dynamic must be left out with --substitute, not True"),
        ("--moe S2A2E16 --substitute --tokens 65", "tokens must be an integer between 1 and 64, not 65"),
        ("--moe S2A2E16 --substitute --set routing=router", "routing must be table for this layer, not router"),
    ],
)
def test_refused_runs(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments.split()]) == 2
    assert capsys.readouterr().err == f"{sentence}\n"


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[MoEResidentSpec, Any, str, str, str]] = {
    "a grant serves one tile": (TINY, MoEResident, "_fetch", "taken & routed & wanted.final", "taken & routed"),
    "a grant serves for ever": (TINY, MoEResident, "_fetch", "m.d.sync += there.eq(0)", "m.d.sync += there.eq(1)"),
    "lists without keys are granted": (TINY, MoEResident, "_fetch", "there.eq(grant.valid)", "there.eq(1)"),
    "hints only": (TINY, MoEResident, "_request", "need.eq(~hints)", "need.eq(0)"),
    "needs and hints by beats": (TINY, MoEResident, "_request", "cache.i.ready & to.last", "cache.i.ready"),
    "keys of the first layer": (TINY, MoEResident, "_layer", "given.layer * spec.experts", "0"),
    "all experts are needed": (TINY, Needs, "elaborate", "count.any()", "count.any() | 1"),
    "keys go on behind the last": (TINY, Needs, "elaborate", "Mux(self.i.payload.last, 0, key + 1)", "key + 1"),
    "needs of the batch before": (TINY, Needs, "elaborate", "[ended.eq(0), some.eq(0)]", "[ended.eq(0)]"),
    "the layer below the configuration": (WIDE, MoEResident, "_layer", "Value.cast(given)", "Value.cast(given)[1:]"),
}


@pytest.mark.parametrize("name", one_in(12, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
