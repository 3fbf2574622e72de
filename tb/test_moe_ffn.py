"""Unit ``moe_ffn``: the exported Verilog against its golden model, and that against the real-valued one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden.moe import fixture as converted
from golden.moe.forward import moe_forward
from golden.moe.layer import MoEFFNSpec
from golden.spec import SpecError
from hdl.layers.moe_ffn import MoEFFN
from hdl.stream.replay import Replay
from scripts import moe_layer
from tb.faults import later, one_in, turns_red
from tb.moe_ffn import bench, random_batch
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of

TINY = MoEFFNSpec(d=32, neurons=32, experts=3, tokens=5, rows=2, cols=4, group=16)
WEIGHTED = MoEFFNSpec(
    d=64,
    neurons=64,
    experts=5,
    tokens=6,
    slots=4,
    rows=4,
    cols=16,
    scaled=True,
    softmax=True,
    bias=True,
    score="signed",
)
LIMITED = MoEFFNSpec(
    d=48, neurons=16, experts=6, tokens=3, rows=1, cols=16, group=16, weight="uint4_zero", norms=False, capacity=2
)


def _id(spec: MoEFFNSpec) -> str:
    return f"{spec.weight}-{spec.rows}x{spec.cols}-{spec.experts}"


@pytest.mark.parametrize("spec", [WEIGHTED, *later(TINY, LIMITED)], ids=_id)
def test_bulk(spec: MoEFFNSpec) -> None:
    run_bulk(spec, bench(spec, 1), 1)


@pytest.mark.slow
def test_any_number_of_tokens() -> None:
    """Batches of 1 to 64 tokens, one after the other."""
    spec = MoEFFNSpec(d=32, neurons=32, experts=3, tokens=64, rows=2, cols=4, group=16, slots=2)
    rng = np.random.default_rng(9)
    jobs = [random_batch(spec, rng, n) for n in (1, 2, 7, 33, 63, 64)]
    run_bulk(spec, [case_of(spec, "any", jobs)], 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in bench(TINY, 2) if c.name in ("tokens-2", "mixed-both")]
    both_see_the_same(TINY, cases, 2)


@pytest.mark.parametrize("spec", [TINY, WEIGHTED], ids=_id)
def test_a_token_does_not_depend_on_its_batch(spec: MoEFFNSpec) -> None:
    """Alone it gives the same bits."""
    job = random_batch(spec, np.random.default_rng(5), spec.tokens)
    together = spec.compute(job)
    for t in range(spec.tokens):
        alone = spec.compute(replace(job, x=job.x[t : t + 1]))
        assert np.array_equal(alone[0].view(np.uint32), together[t].view(np.uint32))


def test_fixed_number_and_threshold_are_one_mode() -> None:
    """A threshold that every score reaches, and one that none does."""
    job = random_batch(TINY, np.random.default_rng(6), TINY.tokens)
    infinity = int(np.float32(np.inf).view(np.uint32))
    for least, most, tau, same in ((0, 2, 0, 2), (1, 3, infinity, 1), (0, 3, infinity, 0)):
        chosen = TINY.choose(replace(job, k_min=least, k_max=most, tau=tau))
        fixed = TINY.choose(replace(job, k_min=same, k_max=same))
        assert np.array_equal(chosen, fixed)


def test_the_real_layer_against_float64() -> None:
    """Of the stored weights with the experts that float64 chooses: 8-bit activations, and down quantised again."""
    spec = MoEFFNSpec()
    job = moe_layer.real_batch(spec, converted.load(), 16)
    x = job.x.astype(np.uint16).view(np.float16).astype(np.float64)
    real, routing = moe_forward(x, converted.dense().ffn(), converted.load().conversion)
    chosen = np.zeros_like(routing.chosen)
    tokens, experts, _ = spec.choose(job).T
    chosen[tokens, experts] = True
    assert np.array_equal(chosen, routing.chosen)
    noise = np.square(spec.compute(job) - real).sum() / np.square(real).sum()
    assert 10 * np.log10(1 / noise) > 20


def test_agreement_with_float64() -> None:
    """All tokens of the fixture: the default finds the same experts for 99 in 100."""
    spec = MoEFFNSpec(tokens=418)
    assert moe_layer.agreement(spec, moe_layer.real_batch(spec, converted.load(), 418)) >= 0.99


def test_formula_of_the_real_layer() -> None:
    """A batch of 16 real tokens: cycles in which the array takes a step, and real multiplications."""
    for rows, cols, busy, useful in ((16, 16, 0.97, 0.7), (4, 64, 0.96, 0.92)):
        spec = MoEFFNSpec(rows=rows, cols=cols)
        job = moe_layer.real_batch(spec, converted.load(), 16)
        work, cycles = spec.work(job), spec.cycles(job)
        steps = sum(p.tiles * p.passes * p.steps for p in spec.ffn.phases(work))
        macs = sum(len(mine) * 3 * one.neurons * spec.d for one, mine, _ in work.work())
        assert spec.hidden(job) and steps / cycles > busy and macs / (rows * cols * cycles) > useful


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [(4, 64), (16, 16)])
def test_the_real_layer_through_the_rtl(rows: int, cols: int) -> None:
    report = moe_layer.measure([{"rows": rows, "cols": cols}], "S3A3E8", 16, print)
    assert report.mismatches == 0 and report.cycles == report.formula_cycles


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"slots": 6}, "slots must be at most experts = 5, not 6"),
        ({"capacity": 17}, "capacity must be at most tokens = 16, not 17"),
        ({"experts": 33}, "experts must be an integer between 1 and 32, not 33"),
        ({"router_align": 9}, "router_align must be one of 8, 12, 16, 20, 24, not 9"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        MoEFFNSpec(**values)
    assert str(e.value) == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"d": 640}, "d must be 576 for this layer, not 640"),
        ({"experts": 6}, "experts must be 5 for this layer, not 6"),
        ({"weight": "int4"}, "weight must be uint4_min for this layer, not int4"),
        ({"group": 16}, "group must be 32 for this layer, not 16"),
        ({"scaled": True}, "scaled must be False for this layer, not True"),
        ({"neurons": 512}, "neurons must be at least 576 for this layer, not 512"),
        ({"tokens": 2}, "tokens must be at least 3 for this layer, not 2"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        moe_layer.measure([values], "S3A3E8", 3, print)
    assert str(e.value) == sentence


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[MoEFFNSpec, Any, str, str, str]] = {
    "rows are handed out once": (TINY, Replay, "elaborate", "(take & ends)", "take"),
    "rows that have not come": (TINY, Replay, "elaborate", "left.any() & ~coming & go", "left.any() & go"),
    "old rows": (TINY, Replay, "elaborate", "coming.eq(1)", "coming.eq(0)"),
    "a batch into the one before": (TINY, MoEFFN, "_batch", "active.eq(1), coming.eq(1)", "coming.eq(1)"),
    "all tokens are one": (TINY, MoEFFN, "_tokens", "(word == words - 1) | self.i.payload.last", "self.i.payload.last"),
    "every token ends the batch": (TINY, MoEFFN, "_select", "to.final.eq(final.o.payload)", "to.final.eq(1)"),
    "an end for every expert": (TINY, MoEFFN, "_select", "gate.o.valid & chosen.last", "gate.o.valid"),
    "the table comes with every token": (WEIGHTED, MoEFFN, "_select", "cfg.load & first", "cfg.load"),
    "tokens beyond a batch are routed": (LIMITED, MoEFFN, "_tokens", "take & ends_token & ~full", "take & ends_token"),
    "the last that fits does not end it": (
        LIMITED,
        MoEFFN,
        "_tokens",
        "self.i.payload.last | (number == spec.tokens - 1)",
        "self.i.payload.last",
    ),
    "the next batch before the counters leave": (
        TINY,
        MoEFFN,
        "_batch",
        "self.stats.valid & self.stats.ready",
        "self.stats.valid",
    ),
    "experts beyond the slots are not told": (WEIGHTED, MoEFFN, "elaborate", "dispatch.sts_error[1]", "0"),
}


@pytest.mark.parametrize("name", one_in(12, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
