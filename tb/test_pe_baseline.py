"""Unit ``pe_baseline``: the exported Verilog against its golden models, and those against exact arithmetic."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from golden.mixpe.baseline import MODES, BaselineSpec, Groups
from golden.spec import SpecError
from tb import products
from tb.faults import broken
from tb.pe_baseline import CORNERS, every_code, random_job, real
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import CheckFailed, case_of
from tb.units import BENCHES

# the presets play every design with one stage
SPECS = [
    BaselineSpec(design="fp16", stages=2, group=7),
    BaselineSpec(design="fp16", stages=3, group=32),
    BaselineSpec(design="fp16_dequant", stages=2, group=32),
    BaselineSpec(design="fp16_dequant", stages=3, group=1),
    BaselineSpec(design="bitfusion", stages=1, group=128, narrowest="8x8"),
    BaselineSpec(design="bitfusion", stages=2, group=1, narrowest="4x4"),
    BaselineSpec(design="bitfusion", stages=3, group=7, narrowest="4x2"),
]
FP16, DEQUANT, BITFUSION = (
    BaselineSpec(design="fp16"),
    BaselineSpec(design="fp16_dequant"),
    BaselineSpec(design="bitfusion", narrowest="2x2"),
)


def _id(spec: BaselineSpec) -> str:
    return f"{spec.design}-{spec.narrowest}-{spec.stages}-{spec.group}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: BaselineSpec) -> None:
    run_bulk(spec, BENCHES["pe_baseline"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["pe_baseline"](SPECS[0], 2) if c.name in ("one-beat", "groups-both", "singles-idle")]
    both_see_the_same(SPECS[0], cases, 2)


def test_every_code_with_every_activation() -> None:
    """One scale, whose products need both ways of rounding and one that overflows with the largest codes."""
    run_bulk(DEQUANT, [case_of(DEQUANT, "every-code", [every_code(0x72AB)])], 0)


@pytest.mark.slow
def test_every_product_of_fractions() -> None:
    x, w = (g.ravel().astype(np.uint16).view(np.float16) for g in np.meshgrid(*[np.arange(0x3C00, 0x4000)] * 2))
    run_bulk(FP16, [case_of(FP16, "every-product", [Groups(x, w, (1,) * len(x))])], 0)


@pytest.mark.parametrize("mode", range(3), ids=list(MODES)[:3])
def test_every_product_of_integers(mode: int) -> None:
    """All operands of one product, in every place of a beat, one after another; the others are nothing."""
    x, w = (g.ravel() for g in np.meshgrid(*(np.arange(-1 << bits - 1, 1 << bits - 1) for bits in _bits(mode))))
    parts, most = BITFUSION.products(mode), BITFUSION.products(4)
    place = (np.arange(len(x)) % parts)[:, None] == np.arange(most)
    job = Groups(x[:, None] * place, w[:, None] * place, (1,) * len(x), mode=np.full(len(x), mode))
    run_bulk(BITFUSION, [case_of(BITFUSION, "every-product", [job])], 0)


def _bits(mode: int) -> tuple[int, int]:
    return MODES[BITFUSION.modes[mode]]


TINY = BaselineSpec(design="bitfusion", group=16)

FAULTS: dict[str, tuple[BaselineSpec, str, str]] = {
    "ties rounded up": (FP16, " = _92 | left_1[5];", " = 1'h1;"),
    "what is shifted out forgotten": (FP16, "down_by_3[27:16] } | { 27'h0000000, _76 }", "down_by_3[27:16] }"),
    "negative difference not turned round": (FP16, "minus = _82 & total_1[29]", "minus = 1'h0"),
    "small sums lost to zero products": (FP16, "stay = distance[7] | _66", "stay = distance[7]"),
    "infinities forgotten": (FP16, "= acc[32:31] | product[31:30]", "= product[31:30]"),
    "bubbles multiplied": (FP16, "_1 ? { i__payload[15], _21 } : 17'h00000", "{ i__payload[15], _21 }"),
    "weight not rounded to even": (DEQUANT, "_7 = full[0] | full[2]", "_7 = 1'h1"),
    "code 0 hides an infinite scale": (DEQUANT, "_25 = _23 & _24", "_25 = 1'h0"),
    "halves always joined": (TINY, "w_o[8] ? { brick_1, 4'h0 }", "1'h1 ? { brick_1, 4'h0 }"),
    "low half of a weight signed": (TINY, "_20 = ~ w_o[8]", "_20 = 1'h1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str) -> None:
    spec, old, new = FAULTS[name]
    with pytest.raises(CheckFailed):
        run_bulk(spec, BENCHES["pe_baseline"](spec, 1), 1, product=broken(products.of(spec), old, new))


@pytest.mark.parametrize("spec", [FP16, DEQUANT], ids=_id)
def test_sums_round_once_per_addition(spec: BaselineSpec) -> None:
    """Against integers of any size, rounded here."""
    job = random_job(spec, np.random.default_rng(3), [1, 2, 40, 9] * 12)
    got, at = spec.compute(job), 0
    for n, y in zip(job.lengths, got, strict=True):
        x, w = job.x[at : at + n], spec.weights(job)[at : at + n]
        at += n
        if np.isfinite(x).all() and np.isfinite(w).all():
            total = Fraction(0)
            for a, b in zip(x, w, strict=True):
                total = _rounded(total + Fraction(float(a)) * Fraction(float(b)), 24)
            assert Fraction(float(y)) == total


def test_weights_are_rounded_once() -> None:
    scale = np.arange(1 << 16).astype(np.uint16).view(np.float16)
    for code in range(-8, 8):
        job = Groups(scale, np.full(1 << 16, code), (1 << 16,), scale=scale)
        with np.errstate(all="ignore"):
            expected = (scale.astype(np.float64) * code).astype(np.float16)
        assert np.array_equal(DEQUANT.weights(job), expected, equal_nan=True)
    job = Groups(scale[:1], np.array([7]), (1,), scale=np.array([1.3], np.float16))
    assert Fraction(float(DEQUANT.weights(job)[0])) == _rounded(7 * Fraction(float(np.float16(1.3))), 11)


def _rounded(value: Fraction, bits: int) -> Fraction:
    """To nearest even, ``bits`` significant ones."""
    if not value:
        return value
    size = value.numerator.bit_length() - value.denominator.bit_length()
    size += abs(value) >= Fraction(2) ** size
    return round(value / Fraction(2) ** (size - bits)) * Fraction(2) ** (size - bits)


@pytest.mark.parametrize("spec", [FP16, DEQUANT], ids=_id)
def test_the_budget_holds(spec: BaselineSpec) -> None:
    rng = np.random.default_rng(5)
    x, scale = rng.normal(size=(2, 12800)).astype(np.float16)
    job = Groups(x, scale, (128,) * 100)
    if spec is DEQUANT:
        job = Groups(x, rng.integers(-8, 8, 12800), (128,) * 100, scale=scale)
    error = np.abs(spec.compute(job) - spec.reference(job))
    assert (error <= spec.budget(job)).all()
    assert (error > spec.budget(job) / 1000).any()


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("x", "w", "bits"),
    [
        ([INF, 1], [1, 1], 0x7F800000),
        ([INF, INF], [-1, -1], 0xFF800000),
        ([INF, INF], [-1, 1], 0x7FC00000),
        ([INF], [0], 0x7FC00000),
        ([NAN, 1], [1, 1], 0x7FC00000),
        ([0], [-1], 0),
        ([-0.0, 0], [1, -1], 0),
        ([1, 1], [-1, 1], 0),
        ([2**-24], [2**-24], 0x27800000),
        ([-(2**-24)], [2**-24], 0xA7800000),
        ([65504, 2**-24], [65504, 2**-24], 0x4F7FC004),
    ],
)
def test_specials(x: list[float], w: list[float], bits: int) -> None:
    job = Groups(np.array(x, np.float16), np.array(w, np.float16), (len(x),))
    assert FP16.compute(job).view(np.uint32).tolist() == [bits]


def test_no_sum_is_ever_larger_than_seven_bits_of_exponent_hold() -> None:
    """At 2^56 the largest product is rounded away."""
    largest = np.float32(65504) * np.float32(65504)
    assert np.float32(2**56) + largest == np.float32(2**56)
    assert float(largest) == 65504**2


def test_corners_are_of_every_kind() -> None:
    values = CORNERS.view(np.float16)
    assert np.isnan(values).any() and np.isinf(values).any() and (values == 0).any()
    assert ((values > 0) & (values < 2**-14)).any()


@pytest.mark.parametrize("mode", range(5), ids=MODES)
def test_operands_of_a_beat_stand_side_by_side(mode: int) -> None:
    job = random_job(BITFUSION, np.random.default_rng(mode), [1] * 300)
    words = BITFUSION.ports[0].unpack(BITFUSION.inputs(job)["i"])
    sums = BITFUSION.compute(job)
    bits, parts = _bits(mode), BITFUSION.products(mode)
    for i in np.flatnonzero(words["mode"][:, 0] == mode):
        x, w = ([_part(int(words[n][i, 0]), b, k) for k in range(parts)] for n, b in zip("xw", bits, strict=True))
        assert sums[i] == sum(a * b for a, b in zip(x, w, strict=True))


def _part(word: int, bits: int, i: int) -> int:
    value = word >> i * bits & (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"design": "int8"}, "design must be one of fp16, fp16_dequant, bitfusion, not 'int8'"),
        ({"narrowest": "2x2"}, "narrowest must be left out with design fp16, not '2x2'"),
        (
            {"design": "bitfusion", "narrowest": "4x8"},
            "narrowest must be one of 8x8, 8x4, 4x4, 4x2, 2x2, not '4x8'",
        ),
        ({"stages": 4}, "stages must be an integer between 1 and 3, not 4"),
    ],
)
def test_refusals(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        BaselineSpec(**values)
    assert str(e.value) == sentence


@pytest.mark.parametrize("design", [{"design": "fp16"}, {"design": "fp16_dequant"}, *({"narrowest": m} for m in MODES)])
def test_real_data_are_a_job(design: dict[str, str]) -> None:
    spec = BaselineSpec.from_values({"group": 128} | ({"design": "bitfusion"} | design))
    job, products = real(spec)
    assert products == 4 * 8 * 576
    assert len(spec.compute(job)) == len(job.lengths)
