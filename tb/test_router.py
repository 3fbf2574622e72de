"""Unit ``router``: the exported Verilog against its golden model, and that against plain arithmetic."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden import fixture, q4_1
from golden.moe import router
from golden.moe.ffn import Ffn
from golden.moe.scoring import RouterSpec, Tokens, real_tokens
from golden.moe.spec import ConversionSpec
from golden.spec import SpecError
from hdl.layers.router import Router, Score, Scores
from scripts.router_agreement import FORMATS, agreement, converted, main
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.router import random_job
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = RouterSpec(experts=3, cols=4, k_max=64, align=8)
ROWS = RouterSpec(experts=3, rows=3, k_max=48, act="int4", weight="int4", group=16, score="signed", words=4)
ONE = RouterSpec(experts=1, k_max=40, act="int8", score="signed")
RAW = RouterSpec(experts=5, cols=16, k_max=50, norms=False, act="fp16", words=8, reach=3, segments=4, sigmoid_bits=16)
MANY = RouterSpec(experts=64, k_max=48, act="bf16_aligned")
CHANNELS = RouterSpec(rows=4, k_max=40, group=0, act="int8", weight="int8", scale="uint8")
SPECS = [ROWS]
FIVE = RouterSpec(k_max=40, act="int8", segments=6)
MORE = [ONE, RAW, MANY, CHANNELS, FIVE]
LAYER = np.array([3, 141, 592, 653, 1535])
"""Neurons of the fixture."""


def _id(spec: RouterSpec) -> str:
    return f"{spec.experts}-{spec.rows}x{spec.cols}-{spec.weight}-{spec.act}-{spec.words}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: RouterSpec) -> None:
    run_bulk(spec, BENCHES["router"](spec, 1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("spec", MORE, ids=_id)
def test_bulk_of_more(spec: RouterSpec) -> None:
    run_bulk(spec, BENCHES["router"](spec, 1), 1)


@pytest.mark.slow
def test_cocotb_sees_what_bulk_sees() -> None:
    both_see_the_same(TINY, [c for c in BENCHES["router"](TINY, 2) if c.name in ("one-33", "mixed-both")], 2)


@pytest.mark.parametrize("spec", [TINY, pytest.param(ROWS, marks=pytest.mark.slow)], ids=_id)
def test_latency(spec: RouterSpec) -> None:
    """From the step that ends the first pass, a full group, to its first scores."""
    job = random_job(spec, np.random.default_rng(0), 1, spec.group)
    played = compile(spec).play(case_of(spec, "one", [job]))
    assert played.first_out is not None and played.first_out - (spec.group - 1) == spec.latency


def test_a_token_takes_as_many_cycles_as_it_has_values() -> None:
    """Per pass: scores do not hold up anything."""
    rng = np.random.default_rng(1)
    for spec in (TINY, RouterSpec()):
        job = random_job(spec, rng, 1, spec.k_max)
        eight, nine = (spec.cycles(*[job] * n) for n in (8, 9))
        assert nine - eight == spec.passes * spec.k_max
    assert RouterSpec().figures() == {"latency": 82, "passes": 1, "cycles_per_tile_k576": 576}


def test_sizes_that_are_derived() -> None:
    assert [(s.cols, s.passes, s.lanes, s.words) for s in (RouterSpec(), MANY, RouterSpec(experts=33))] == [
        (10, 1, 1, 2),
        (64, 2, 2, 2),
        (36, 2, 2, 2),
    ]
    assert CHANNELS.lanes == 1 and RouterSpec(rows=8, experts=32).words == 16


def _real(spec: RouterSpec, tokens: int = 64) -> tuple[np.ndarray, np.ndarray, ConversionSpec]:
    """Scores of real tokens by the unit, and in float64."""
    f = fixture.load()
    x = f.x[:tokens]
    ffn = Ffn(*(q4_1.dequantise(*m).astype(np.float64) for m in (f.gate, f.up, f.down)))
    of = ConversionSpec(score=spec.score, rows="unit" if spec.norms else "raw")
    got = spec.compute(real_tokens(spec, x, f.gate, f.up, LAYER))
    return got.astype(np.float64), router.scores(x.astype(np.float64), ffn.part(LAYER), of), of


@pytest.mark.parametrize("score", ["abs", "signed"])
@pytest.mark.parametrize("norms", [True, False])
def test_raw_rows_with_norms_are_the_router_of_unit_rows(score: str, norms: bool) -> None:
    """Against float64, whose rows are made to be of length 1 beforehand: only rounding is left."""
    got, true, _ = _real(RouterSpec(score=score, norms=norms, act="fp16"))
    assert np.allclose(got, true, rtol=1e-4, atol=0) and (score == "abs") == (true >= 0).all()


def test_tokens_do_not_know_one_another() -> None:
    """One at a time or four, alone or together: the same bits."""
    f = fixture.load()
    one, four = (RouterSpec(rows=rows) for rows in (1, 4))
    whole = one.compute(real_tokens(one, f.x[:9], f.gate, f.up, LAYER))
    for spec, which in ((four, slice(0, 9)), (one, slice(5, 6))):
        job = real_tokens(spec, f.x[which], f.gate, f.up, LAYER)
        result = spec.compute(job)
        assert np.array_equal(whole[which], result)
        assert np.array_equal(spec.result(job, spec.outputs(job, result)), result)


@pytest.mark.slow
def test_real_tokens_through_the_hardware() -> None:
    """Rows as stored, eight tokens after one another."""
    spec, f = RouterSpec(), fixture.load()
    run_bulk(spec, [case_of(spec, "real", [real_tokens(spec, f.x[:8], f.gate, f.up, LAYER)])], 0)


def test_agreement_on_real_tokens() -> None:
    """Sets of 3 of 5 experts against float64."""
    conversion = converted("S3A3E8")
    default, eight = (agreement(conversion, FORMATS[f"fp16 aligned to {bits} bits x q4_1"]) for bits in (16, 8))
    assert default.same >= 0.99 and default.worst < 1e-3
    assert eight.same < default.same and eight.median > 100 * default.median


def test_agreement_refuses_what_cannot_be_split(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--moe", "S3A6E8"]) == 2
    assert capsys.readouterr().err == "active must be at most experts - shared (5), not 6\n"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cols": 7}, "cols must be even, not 7"),
        ({"rows": 2, "cols": 8}, "rows must be 1 where 5 experts need 2 passes, not 2"),
        ({"words": 4}, "words must be one of 2, 10 for 10 columns and 1 lanes, not 4"),
        ({"lanes": 3}, "lanes must be one of 1, 2, 5, 10 for a 1 x 10 array, not 3"),
        ({"sigmoid_bits": 8, "segments": 7}, "segments must be at most bits - 2 = 6, not 7"),
        ({"act": "int8", "align": 8}, "align must not be given where act is int8, not 8"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        RouterSpec(**values)
    assert str(e.value) == sentence


def test_bad_jobs_are_refused() -> None:
    job = random_job(TINY, np.random.default_rng(2), 1, 4)
    assert job.norm is not None
    for wrong, sentence in (
        (Tokens(job.gemm, None), "norm must be given where norms is True"),
        (Tokens(job.gemm, job.norm[:4]), "norm must be 6 numbers of type float32, not [4] of float32"),
        (Tokens(replace(job.gemm, w=job.gemm.w[:, :4]), job.norm), "w must have two columns for each of 3 experts"),
    ):
        with pytest.raises(SpecError) as e:
            TINY.compute(wrong)
        assert str(e.value).startswith(sentence)
    with pytest.raises(SpecError, match=r"^norm must be None where norms is False$"):
        RAW.compute(Tokens(random_job(RAW, np.random.default_rng(3), 1, 4).gemm, np.ones(10, np.float32)))


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[RouterSpec, Any, str, str, str]] = {
    "norms of the other row": (TINY, Score, "elaborate", "norms.word_select(i, 32)", "norms.word_select(1 - i, 32)"),
    "the sign stays": (TINY, Score, "elaborate", '0 if self.spec.score == "abs" else swiglu.o[31]', "swiglu.o[31]"),
    "the sign is lost": (ROWS, Score, "elaborate", 'if self.spec.score == "abs" else swiglu.o[31]', ""),
    "gate for up": (TINY, Score, "elaborate", "(swiglu.g, swiglu.u)", "(swiglu.u, swiglu.g)"),
    "the first norms for all": (TINY, Scores, "elaborate", "len(norms), block)", "len(norms), block & 0)"),
    "norms of a token's first pass": (
        TINY,
        Scores,
        "elaborate",
        "take & self.i.payload.last)",
        "take & self.i.payload.last & last_pass)",
    ),
    "norms are not waited for": (TINY, Scores, "elaborate", "(self.norm.valid if spec.norms else 1)", "1"),
    "results without room": (TINY, Scores, "elaborate", "self.i.valid & credit.ready &", "self.i.valid &"),
    "experts that are not": (TINY, Scores, "elaborate", "out.valid.eq(valid)", "out.valid.eq(1)"),
    "scores beyond the last": (TINY, Scores, "elaborate", "Mux(valid, score.o, 0)", "score.o"),
    "a token ends with every pass": (TINY, Scores, "elaborate", "last_pass & (block ==", "(block =="),
    "every pass is full": (TINY, Scores, "elaborate", "~last_pass | (block < end)", "1 | (block < end)"),
    "tlast too late": (TINY, Scores, "elaborate", 'ended, under_way, "last"', 'ended, under_way + 1, "last"'),
    "passes are not counted": (TINY, Scores, "_place", "number + 1", "number"),
    "blocks do not start again": (FIVE, Scores, "_place", "Mux(block == spec.blocks - 1, 0, block + 1)", "block + 1"),
    "a place is not taken back by reset": (
        TINY,
        Scores,
        "_place",
        "range(spec.blocks))",
        "range(spec.blocks), reset_less=True)",
    ),
    "status is not passed on": (TINY, Router, "elaborate", "eq(engine.sts_error)", "eq(0)"),
}


@pytest.mark.parametrize("name", one_in(len(FAULTS), FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
