"""Unit ``mixpe``: the exported Verilog against its golden model, over all its variants."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from gen.export import Product
from gen.registry import unit
from golden import fixture, q4_1
from golden.mixpe.formats import ALIGNED
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.layer import gemm
from tb import mixpe, products
from tb.cosim import compile
from tb.faults import broken
from tb.runner import both_see_the_same, run_bulk, run_cocotb
from tb.test_mixpe_stationary import SMALL as STATIONARY
from tb.transactions import Case, CheckFailed, case_of
from tb.units import BENCHES

# What is small enough for the whole bench. Every value of every field stands here at least once; k_max is small, so
# that the bench also has tiles that are too long.
SMALL: dict[str, dict[str, Any]] = {
    "tiny": {"rows": 2, "cols": 2, "k_max": 64},
    "single": {"rows": 1, "cols": 1, "k_max": 100, "weight": "int4", "core": "booth", "stages": 2},
    "odd": {"rows": 7, "cols": 5, "group": 16, "k_max": 77, "weight": "uint4_zero", "core": "multiply", "stages": 3},
    "segments": {"rows": 2, "cols": 8, "lanes": 4, "group": 20, "k_max": 90, "accumulate": "fp32"},
    "pow2": {"rows": 3, "cols": 6, "lanes": 6, "group": 16, "k_max": 100, "act_scale": "pow2", "weight": "int4_sym"},
    "pow2-fp32": {
        "rows": 2,
        "cols": 3,
        "k_max": 80,
        "scale": "fp32",
        "act_scale": "pow2",
        "weight": "uint4_zero",
        "core": "booth",
    },
    "tall": {"rows": 8, "cols": 2, "lanes": 4, "group": 16, "k_max": 64, "stages": 2, "scale": "fp32"},
    "tall-exact": {"rows": 8, "cols": 2, "lanes": 4, "group": 16, "k_max": 64},
    "narrow-output": {"rows": 4, "cols": 4, "words": 1, "group": 16, "k_max": 60, "weight": "int4", "scale": "fp32"},
    "per-channel": {"rows": 3, "cols": 4, "group": 0, "lanes": 2, "k_max": 96, "weight": "int4_sym"},
    "w8a8": {"rows": 2, "cols": 2, "k_max": 64, "weight": "int8", "core": "booth"},
    "composed": {"rows": 2, "cols": 3, "k_max": 64, "weight": "uint8_zero", "core": "composed", "group": 16},
    "packed": {"rows": 3, "cols": 6, "lanes": 9, "group": 16, "k_max": 64, "core": "packed"},
    "packed-tall": {
        "rows": 8,
        "cols": 2,
        "lanes": 4,
        "group": 16,
        "k_max": 64,
        "weight": "e2m1",
        "core": "packed",
        "stages": 3,
    },
    "w2a4": {"rows": 2, "cols": 3, "k_max": 64, "weight": "int2", "act": "int4", "out": "bf16"},
    "mxfp4": {"rows": 2, "cols": 2, "k_max": 64, "weight": "e2m1", "core": "two_term", "scale": "e8m0"},
    "nvfp4": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "weight": "e2m1",
        "core": "two_term",
        "scale": "e4m3",
        "group": 16,
        "act": "int16",
    },
    "fp16": {"rows": 2, "cols": 3, "k_max": 64, "act": "fp16", "stages": 2},
    "fp16-exact": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "act": "fp16",
        "weight": "int4",
        "group": 16,
        "accumulate": "exact",
        "out": "fp16",
    },
    "e4m3": {"rows": 2, "cols": 2, "k_max": 64, "act": "e4m3", "weight": "uint8_zero", "scale": "bf16", "out": "bf16"},
    "e5m2": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "act": "e5m2",
        "act_scale": "token",
        "weight": "int3",
        "scale": "e4m3",
        "accumulate": "exact",
        "out": "fp16",
        "stages": 3,
    },
    "no-scales": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "act": "bf16_aligned",
        "weight": "uint2_zero",
        "act_scale": "none",
        "stages": 2,
    },
    "uint3": {"rows": 1, "cols": 4, "k_max": 64, "weight": "uint3_zero", "act": "int16", "scale": "e4m3"},
    "bf16-aligned": {"rows": 2, "cols": 3, "k_max": 64, "act": "bf16_aligned", "align": 12, "weight": "int4"},
    "fp16-aligned-exact": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "act": "fp16_aligned",
        "align": 8,
        "group": 16,
        "accumulate": "exact",
        "out": "fp16",
        "stages": 2,
    },
    "bf16-aligned-channel": {
        "rows": 3,
        "cols": 2,
        "group": 0,
        "lanes": 2,
        "k_max": 60,
        "act": "bf16_aligned",
        "align": 24,
        "weight": "uint8_zero",
        "act_scale": "token",
        "out": "int8",
        "rounding": "half_away",
    },
    "integer-scales": {"rows": 2, "cols": 3, "k_max": 64, "scale": "uint8", "weight": "uint4_zero", "out": "int8"},
    "integer-scales-fp32": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "scale": "uint8",
        "weight": "int3",
        "accumulate": "fp32",
        "act_scale": "pow2",
    },
    "int8": {
        "rows": 2,
        "cols": 2,
        "k_max": 64,
        "act": "fp16_aligned",
        "align": 20,
        "act_scale": "token",
        "weight": "int4",
        "out": "int8_sym",
        "rounding": "half_up",
    },
    "raw": {"rows": 2, "cols": 4, "k_max": 64, "weight": "int4", "scale": "uint8", "out": "int32"},
    "raw-per-channel": {
        "rows": 2,
        "cols": 2,
        "group": 0,
        "lanes": 1,
        "k_max": 100,
        "act": "int16",
        "weight": "uint8_zero",
        "scale": "uint8",
        "out": "int64",
    },
    "long-groups": {"rows": 2, "cols": 4, "group": 256, "k_max": 600, "act_scale": "pow2", "weight": "int8_min"},
}


def test_every_value_is_somewhere() -> None:
    """Of every field with choices, here or with stationary weights."""
    specs = [MixPESpec(**values) for values in SMALL.values()]
    specs += [MixPESpec(dataflow="weight_stationary", **values) for values in STATIONARY.values()]
    for field in MixPESpec.parameters():
        assert set(field["choices"] or ()) <= {getattr(spec, field["name"]) for spec in specs}, field["name"]
    assert {spec.align for spec in specs} == {0, *ALIGNED}


@pytest.mark.parametrize("name", SMALL)
def test_bulk(name: str) -> None:
    spec = MixPESpec(**SMALL[name])
    run_bulk(spec, BENCHES["mixpe"](spec, 1), 1)


@pytest.mark.parametrize("name", ["tiny", "odd", "pow2"])
def test_cocotb_sees_what_bulk_sees(name: str) -> None:
    spec = MixPESpec(**SMALL[name])
    cases = BENCHES["mixpe"](spec, 2)
    both_see_the_same(spec, cases, 2)


@pytest.mark.parametrize("preset", ["square", "moe", "decode"])
def test_arrays_of_real_size(preset: str) -> None:
    """A real layer at full size: 8 tiles of outputs, twice the rows and one. (``test_units`` plays its bench.)"""
    chosen = unit("mixpe").configure(preset)
    assert isinstance(chosen, MixPESpec)
    f = fixture.load()
    rtl = compile(chosen, optimise=False)
    for matrix in (f.gate, f.up):
        part = _first_outputs(matrix, 8 * chosen.cols)
        job = gemm(chosen, f.x[: 2 * chosen.rows + 1], part)
        assert np.array_equal(rtl(job).view(np.uint32), chosen.compute(job).view(np.uint32))


def _first_outputs(matrix: q4_1.Matrix, n: int) -> q4_1.Matrix:
    return q4_1.Matrix(matrix.codes[:n], matrix.d[:n], matrix.m[:n])


def test_square_under_cocotb() -> None:
    spec = MixPESpec()
    wanted = ("one-step", "tiles-both", "specials", "slow-par")
    cases = [c for c in BENCHES["mixpe"](spec, 3) if c.name in wanted]
    assert len(cases) == len(wanted)
    run_cocotb(spec, cases, 3)


def test_busy_at_least_98_percent_of_16_tiles() -> None:
    """K = 576, groups of 32, 16 x 16; fill and drain included, on real weights."""
    spec, f = MixPESpec(), fixture.load()
    job = gemm(spec, f.x[:16], _first_outputs(f.gate, 256))
    rtl = compile(spec, optimise=False)
    rtl(job)
    assert rtl.cycles == spec.cycles(job)
    assert 16 * 576 / rtl.cycles >= 0.98


@pytest.mark.parametrize("name", ["tiny", "odd", "segments", "pow2"])
def test_a_tile_every_k_cycles(name: str) -> None:
    """Steady state without a bubble: one more tile costs K cycles, in the RTL."""
    spec = MixPESpec(**SMALL[name])
    k = 2 * spec.group
    rtl = compile(spec, optimise=False)
    cycles = []
    for tiles in (6, 7):
        rtl(mixpe.random_job(spec, np.random.default_rng(1), spec.rows, k, tiles * spec.cols))
        cycles.append(rtl.cycles)
    assert cycles[1] - cycles[0] == k


@pytest.mark.parametrize("name", SMALL)
def test_latency_of_one_tile(name: str) -> None:
    """From the step that ends the tile to its first result beat, as the datasheet says."""
    spec = MixPESpec(**SMALL[name])
    played = compile(spec, optimise=False).play(
        case_of(spec, "one-tile", [mixpe.random_job(spec, np.random.default_rng(1), spec.rows, spec.length, spec.cols)])
    )
    assert played.first_out is not None and played.last_in is not None
    assert played.first_out - played.last_in == spec.latency


# configuration: name: (module, pattern, replacement) in its Verilog
FAULTS: dict[str, dict[str, tuple[str, str, str]]] = {
    "tiny": {
        "PE: sign bit of the weight counts as positive": ("pe", "_8 = _5 - _7", "_8 = _5 + _7"),
        "PE: the next group starts from the last one's sum": ("pe", "if (last_o) acc <= ", "if (rst) acc <= "),
        "PE: the group ends a step early": ("pe", "if (last_o) sum", "if (last_i) sum"),
        "PE: reset does not clear the accumulator": ("pe", "if (rst) last_o <= 1'h1", "if (rst) last_o <= 1'h0"),
        "PE: sum a bit too narrow": ("pe", "(last_o) sum <= total", "(last_o) sum <= { total[15], total[15:0] }"),
        "skew: second row not delayed": ("skew", "o = { stage_1, i[8:0] }", "o = i"),
        "skew: second column not delayed": ("skew_1", "o = { stage_1, i[3:0] }", "o = i"),
        "row: group sum of activations runs on": ("row", "if (ends) acc <= ", "if (rst) acc <= "),
        "row: read-out a register early": ("row", "if (ends) held", "if (last) held"),
        "dequantiser: offset 4 in place of 8": ("dequant_exact", "$signed(s) << 2'h3", "$signed(s) << 2'h2"),
        "dequantiser: sum of the tile before": ("dequant_exact", "first_1[3] ? 61'h0000000000000000 : ", ""),
        "dequantiser: subnormal scales one binade low": ("dequant_exact", "= scale[10] | _33", "= scale[10]"),
        "dequantiser: minus infinity becomes plus": ("dequant_exact", "? held[60] : held[57]", "? 1'h0 : held[57]"),
        "round: ties away from zero": ("round", "sticky | kept[0]", "1'h1"),
        "feeder: groups may follow before the drain": ("feeder", "_10 & par__valid", "par__valid"),
        "feeder: a tile without room for its results": ("feeder", "ready & scl__valid", "scl__valid"),
        "feeder: bubbles multiplied": ("feeder", "act__ready ? act__payload[15:0] : 16'h0000", "act__payload[15:0]"),
        "feeder: tlast of the weights not looked at": (
            "feeder",
            "act__payload[16] | wgt__payload[8]",
            "act__payload[16]",
        ),
        "feeder: a group without its parameters": ("feeder", " & par__valid", ""),
        "feeder: reset leaves the group's count": ("feeder", "if (rst) count <= 5'h00", "if (rst) count <= count"),
        "feeder: reset leaves the tile's count": ("feeder", "if (rst) steps <= 7'h00", "if (rst) steps <= steps"),
        "stream: second place of the skid buffer lost": ("skid", "full ? second : i__payload", "i__payload"),
        "stream: queue hands out a beat twice": ("fifo_1_queue", "if (_1) consume", "if (_1 & ~_8) consume"),
        "lane: token scale of the next row": (
            "lane",
            "{ o__payload_1[31:0], o__payload_1[63:32] }",
            "{ o__payload_1[63:32], o__payload_1[31:0] }",
        ),
    },
    "fp16-exact": {
        "PE: the largest shift is lost": ("pe", "up_by_4 = x_o[16] ?", "up_by_4 = 1'h0 ?"),
        "PE: infinity times zero is no NaN": ("pe", "_13 = _8 | product_now[14]", "_13 = product_now[14]"),
        "PE: marks of the group before stay": (
            "pe",
            "acc <= 50'h0000000000000",
            "acc <= { acc[49:48], 48'h000000000000 }",
        ),
        "PE: marks are of the wrong sign": ("pe", "_9 = ~ product_now[14]", "_9 = product_now[14]"),
        "operands: subnormals have a hidden one": (
            "feeder",
            "{ 1'h0, _20, act__payload[9:0] }",
            "{ 2'h1, act__payload[9:0] }",
        ),
        "operands: infinities count as numbers": ("feeder", "_17 = & act__payload[14:10]", "_17 = 1'h0"),
        "dequantiser: infinite sums keep the finite sign": (
            "dequant_exact",
            "_32 = _16 ? corrected[47] :",
            "_32 = 1'h1 ? corrected[47] :",
        ),
        "dequantiser: infinity times zero scale": ("dequant_exact", "_29 = _22 | _28", "_29 = _22"),
        "convert: ties away from zero": ("convert", "_24 = _23 | significand[14]", "_24 = 1'h1"),
        "convert: too large becomes the largest": ("convert", "? 15'h7c00 : _26[14:0]", "? 15'h7bff : _26[14:0]"),
        "convert: subnormal results shifted too little": ("convert", "down_by_3 = down[3] ?", "down_by_3 = 1'h0 ?"),
    },
    "bf16-aligned": {
        "aligner: largest of the groups before": ("align_row", "ends ? 8'h00 : largest", "largest"),
        "aligner: subnormals have a hidden one": ("align_row", ", code[6:0] }", " | 1'h1, code[6:0] }"),
        "aligner: ties away from zero": ("align_row", "down_by_3[1] & _", "down_by_3[1] | 1'h0 & _"),
        "aligner: what is far below comes back": ("align_row", ") down <= 4'hd", " & 1'h0) down <= 4'hd"),
        "aligner: NaN is a number": ("align_row", "= ~ finite", "= infinite"),
        "aligner: does not wait for the group": ("aligner", "o__valid_1 & o__valid_2", "o__valid_1"),
        "aligner: exponents of the next group": ("aligner", "o__ready_1 & o__payload_1[32]", "o__ready_1"),
        "aligner: groups a step shorter": ("aligner", "count == 5'h1f", "count == 5'h1e"),
        "aligner: reset leaves the group's count": ("aligner", "if (rst) count <= 5'h00", "if (rst) count <= count"),
    },
    "fp16-aligned-exact": {
        "aligner: does not clip": ("align_row", "rounded[7] ? 7'h7f", "1'h0 ? 7'h7f"),
        "dequantiser: exponents a binade high": ("lane", ".up(up_1)", ".up(up_1 + 5'h1)"),
    },
    "integer-scales": {
        "feeder: a tile without its channels' scales": ("feeder", " & chn__valid", ""),
        "lane: channel's scale of the next result": ("lane", "channel[319:288]", "channel[287:256]"),
        "requantise: ties away from zero": ("requantise", "magnitude[15] & _", "magnitude[15] | 1'h0 & _"),
        "requantise: clips at -127": ("requantise", "negative ? 8'h80", "negative ? 8'h81"),
        "requantise: NaN is what its bits say": ("requantise", "if (nothing)", "if (1'h0)"),
    },
    "raw": {
        "raw: unsigned": ("dequant_exact", "o = { held[24], ", "o = { 1'h0, "),
    },
}


@cache
def _product(name: str) -> Product:
    return products.of(MixPESpec(**SMALL[name]))


@cache
def _cases(name: str) -> list[Case]:
    return BENCHES["mixpe"](MixPESpec(**SMALL[name]), 1)


@pytest.mark.parametrize(("configuration", "fault"), [(c, name) for c, faults in FAULTS.items() for name in faults])
def test_fault_is_caught(configuration: str, fault: str) -> None:
    module, pattern, replacement = FAULTS[configuration][fault]
    product = broken(_product(configuration), pattern, replacement, module=f"mixpe_{module}")
    with pytest.raises(CheckFailed):
        run_bulk(MixPESpec(**SMALL[configuration]), _cases(configuration), 1, product=product)
