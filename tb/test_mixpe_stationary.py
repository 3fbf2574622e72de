"""Unit ``mixpe`` with stationary weights: the exported Verilog against the same golden model, and its own refusals."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from gen.export import Product
from golden import fixture, q4_1
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.layer import gemm
from golden.mixpe.stationary import WeightStationary
from golden.spec import SpecError
from tb import products
from tb.cosim import compile
from tb.faults import broken
from tb.mixpe import random_job
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import Case, CheckFailed, case_of
from tb.units import BENCHES

# What is small enough for the whole bench: groups of many passes, of one, of a whole tile; arrays of one row and of one
# column; every kind of correction, of sum over groups, of token scale.
SMALL: dict[str, dict[str, Any]] = {
    "tiny": {"rows": 2, "cols": 2, "k_max": 64, "tokens": 4},
    "odd": {
        "rows": 5,
        "cols": 3,
        "group": 20,
        "k_max": 77,
        "tokens": 3,
        "weight": "uint4_zero",
        "accumulate": "fp32",
        "core": "multiply",
        "stages": 3,
    },
    "per-channel": {
        "rows": 3,
        "cols": 4,
        "group": 0,
        "k_max": 96,
        "tokens": 5,
        "words": 1,
        "weight": "int8",
        "out": "int8",
    },
    "fp16": {"rows": 4, "cols": 4, "group": 16, "k_max": 64, "tokens": 9, "act": "fp16", "stages": 2},
    "mxfp4": {
        "rows": 1,
        "cols": 6,
        "words": 3,
        "k_max": 64,
        "tokens": 2,
        "weight": "e2m1",
        "core": "two_term",
        "scale": "e8m0",
        "out": "bf16",
    },
    "one-pass-groups": {
        "rows": 16,
        "cols": 1,
        "group": 16,
        "k_max": 90,
        "tokens": 3,
        "weight": "uint2_zero",
        "act": "int4",
        "act_scale": "pow2",
        "accumulate": "fp32",
        "core": "booth",
    },
    "e5m2": {
        "rows": 2,
        "cols": 2,
        "group": 16,
        "k_max": 40,
        "tokens": 1,
        "weight": "int3",
        "act": "e5m2",
        "scale": "e4m3",
        "accumulate": "exact",
        "out": "fp16",
    },
}


def _spec(name: str) -> WeightStationary:
    spec = MixPESpec(dataflow="weight_stationary", **SMALL[name])
    assert isinstance(spec, WeightStationary)
    return spec


@cache
def _product(name: str) -> Product:
    return products.of(_spec(name))


@cache
def _cases(name: str) -> list[Case]:
    return BENCHES["mixpe"](_spec(name), 1)


@pytest.mark.parametrize("name", SMALL)
def test_bulk(name: str) -> None:
    run_bulk(_spec(name), _cases(name), 1, product=_product(name))


def test_cocotb_sees_what_bulk_sees() -> None:
    spec = _spec("tiny")
    wanted = ("few-tokens-both", "tiles-free", "slow-scl", "a-token-too-many")
    cases = [c for c in _cases("tiny") if c.name in wanted]
    assert len(cases) == len(wanted)
    both_see_the_same(spec, cases, 1)


@pytest.mark.parametrize("name", SMALL)
def test_latency_of_one_token(name: str) -> None:
    """From a token that comes long after its weights to its first result beat, as the datasheet says."""
    spec = _spec(name)
    job = random_job(spec, np.random.default_rng(1), 1, 1, spec.cols)
    played = compile(spec, product=_product(name)).play(case_of(spec, "one-token", [job], stall={"act": 255}))
    assert played.first_out is not None and played.last_in is not None
    assert played.last_in > 2 * spec.rows
    assert played.first_out - played.last_in == spec.latency


@pytest.mark.parametrize("name", ["tiny", "odd", "per-channel", "fp16"])
def test_a_pass_in_the_time_of_its_tokens(name: str) -> None:
    """Steady state without a bubble: one more tile costs its tokens (or what a pass costs at least) once per pass."""
    spec = _spec(name)
    tokens, k = spec.slots, 8 * spec.rows
    rtl = compile(spec, product=_product(name))
    cycles = []
    for tiles in (6, 7):
        rtl(random_job(spec, np.random.default_rng(1), tokens, k, tiles * spec.cols))
        cycles.append(rtl.cycles)
    assert cycles[1] - cycles[0] == 8 * max(tokens, spec.rows, spec.recurrence)


def test_real_layer_at_full_size() -> None:
    """16 x 16, on real weights: as busy as the array whose results stay."""
    spec, f = MixPESpec(dataflow="weight_stationary", tokens=16), fixture.load()
    job = gemm(spec, f.x[:16], q4_1.Matrix(f.gate.codes[:128], f.gate.d[:128], f.gate.m[:128]))
    rtl = compile(spec)
    assert np.array_equal(rtl(job).view(np.uint32), spec.compute(job).view(np.uint32))
    assert rtl.cycles == spec.cycles(job)
    assert spec.steps(job) / rtl.cycles >= 0.98


def test_default_widths_let_single_groups_leave_in_time() -> None:
    for rows in (1, 2, 4, 8, 16, 32):
        for cols in (1, 3, 16, 64):
            spec = MixPESpec(dataflow="weight_stationary", rows=rows, cols=cols)
            assert isinstance(spec, WeightStationary)
            assert spec.passes.beats <= spec.group_passes
            assert spec.steps(random_job(spec, np.random.default_rng(1), 70, 33, cols)) == 70 * -(-33 // rows)


def test_streams_carry_results_both_ways() -> None:
    spec = _spec("odd")
    job = random_job(spec, np.random.default_rng(7), 7, 42, 2 * spec.cols + 1)
    y = spec.compute(job)
    assert np.array_equal(spec.result(job, spec.outputs(job, y)), y)
    tiles, passes = 3, 9
    assert {name: len(b) for name, b in spec.inputs(job).items()} == {
        "act": tiles * passes * 7,
        "wgt": 3 * tiles * passes * spec.rows,
        "par": 3 * tiles * 3,
        "scl": tiles * 7,
    }


def test_one_interface() -> None:
    """The dataflow is a value like any other: same class to ask, same unit, values that make the same again."""
    spec = MixPESpec(dataflow="weight_stationary")
    assert isinstance(spec, WeightStationary) and spec.unit == "mixpe"
    assert MixPESpec(**spec.values()) == spec == MixPESpec.from_toml(spec.to_toml())
    assert MixPESpec(rows=4).tokens == 4 and spec.tokens == 64
    assert spec != MixPESpec() and type(MixPESpec()) is MixPESpec


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rows": 5}, "group must be 0 or a multiple of rows = 5 for weight_stationary, not 32"),
        ({"rows": 32, "group": 16}, "group must be 0 or a multiple of rows = 32 for weight_stationary, not 16"),
        ({"act": "bf16_aligned"}, "act must not be aligned for weight_stationary, not 'bf16_aligned'"),
        (
            {"scale": "uint8", "weight": "int4"},
            "scale must be a floating-point format for weight_stationary, not 'uint8'",
        ),
        ({"core": "packed"}, "core must be of one column for weight_stationary, not 'packed'"),
        ({"lanes": 4}, "lanes must be cols = 16 for weight_stationary, not 4"),
        ({"cols": 6, "words": 4}, "words must be one of 1, 2, 3, 6 for 6 columns, not 4"),
        ({"tokens": 1025}, "tokens must be an integer between 1 and 1024, not 1025"),
        ({"dataflow": "output_stationary", "tokens": 8}, "tokens must be rows = 16 for output_stationary, not 8"),
        (
            {"dataflow": "row_stationary"},
            "dataflow must be one of output_stationary, weight_stationary, not 'row_stationary'",
        ),
    ],
)
def test_bad_values_are_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        MixPESpec(**{"dataflow": "weight_stationary", **values})
    assert str(e.value) == sentence


def test_the_class_is_its_dataflow() -> None:
    with pytest.raises(SpecError) as e:
        WeightStationary()
    assert str(e.value) == "dataflow must be weight_stationary for stationary weights, not 'output_stationary'"


# name: (configuration, module, pattern, replacement) in its Verilog
FAULTS = {
    "PE: the weight is not changed": ("tiny", "pe_ws", "if (swap_i) weight", "if (load_i) weight"),
    "PE: the chain of weights always moves": ("tiny", "pe_ws", "if (load_i) w_o", "if (!rst) w_o"),
    "PE: marks are not handed down": ("e5m2", "pe_ws", "sum_i[37:36] | { _2, _15 }", "{ _2, _15 }"),
    "row: operands of the neighbour": ("tiny", "row_ws", "{ x_i_1[7], x_i_1 }", "{ x[7], x }"),
    "skew: second row not delayed": ("tiny", "skew", "o = { stage_1, i[9:0] }", "o = i"),
    "group sum: passes are not added": ("tiny", "group_sum_1", "so_far = start ?", "so_far = 1'h1 ?"),
    "group sum: the group before is added": ("tiny", "group_sum_1", "so_far = start ?", "so_far = 1'h0 ?"),
    "group sum: of the token before": ("tiny", "group_sum", "sums[token] <= total", "sums[early] <= total"),
    "column: parameters a token early": ("tiny", "column", "o__ready_1 = _1 & slot_o[5]", "o__ready_1 = _1"),
    "column: every group starts from zero": ("tiny", "column", "first <= slot_o[3]", "first <= 1'h1"),
    "column: scale of the next token": ("tiny", "column", ".a(scl_i)", ".a(scl_o)"),
    "column: row sum of the column before": ("tiny", "column", ".s(s_i)", ".s(s_o)"),
    "feeder: weights overrun those that wait": ("tiny", "feeder_ws", "wgt__ready = _1 | swap", "wgt__ready = 1'h1"),
    "feeder: tokens before their weights": ("tiny", "feeder_ws", "_3 = _32 & _2", "_3 = _31 & _2"),
    "feeder: a group ends without parameters": ("tiny", "feeder_ws", "_3 = _32 & _2", "_3 = _32"),
    "feeder: a token again too early": ("mxfp4", "feeder_ws", "complete & _6", "complete"),
    "feeder: results without room": ("tiny", "feeder_ws", "_7 = _6 | ready", "_7 = 1'h1"),
    "feeder: rows the wrong way round": (
        "tiny",
        "feeder_ws",
        "{ act__payload[7:0], act__payload[15:8] }",
        "act__payload[15:0]",
    ),
    "feeder: unequal passes not seen": ("tiny", "feeder_ws", "_30 = _27 & _29", "_30 = 1'h0"),
    "feeder: reset leaves the group's count": (
        "tiny",
        "feeder_ws",
        "if (rst) count <= 4'h0",
        "if (rst) count <= count",
    ),
    "feeder: more tokens in the last pass not seen": ("tiny", "feeder_ws", "token != before_", "token < before_"),
    "engine: tlast of every token": ("tiny", "engine_ws", "_2 & o__payload_2[32]", "_2"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str) -> None:
    configuration, module, pattern, replacement = FAULTS[name]
    product = broken(_product(configuration), pattern, replacement, module=f"mixpe_{module}")
    with pytest.raises(CheckFailed):
        run_bulk(_spec(configuration), _cases(configuration), 1, product=product)
