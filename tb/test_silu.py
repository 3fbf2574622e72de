"""SiLU and SwiGLU: the golden model against float64, the blocks against the golden model, bit for bit."""

from typing import Any

import numpy as np
import pytest

from golden.moe.swiglu import SiluSpec, swiglu
from golden.numerics import NAN32
from golden.spec import SpecError
from hdl.arith.silu import Sigmoid, Silu, SwiGLU
from tb.faults import one_in, rewritten
from tb.test_floats import CORNERS, U32, _play, _random

SPECS = [SiluSpec(), SiluSpec(reach=1, segments=3, bits=8), SiluSpec(reach=5, segments=4, bits=23)]
ALL_FP16 = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _id(spec: SiluSpec) -> str:
    return f"{spec.reach}-{spec.segments}-{spec.bits}"


def _exact(z: Any) -> Any:
    z = z.astype(np.float64)
    return z / (1 + np.exp(-z))


def _operands(rng: np.random.Generator, spec: SiluSpec, n: int) -> U32:
    """All kinds of numbers, around both ends of the table's reach and of its lines, and corners."""
    ends = rng.integers(0, 1 << (spec.reach + spec.segments), n, endpoint=True) / (1 << spec.segments)
    code = ends.astype(np.float32).view(np.uint32).astype(np.int64) + rng.integers(-1, 2, n)
    near = code.clip(0).astype(np.uint32) | (rng.integers(0, 2, n) << 31).astype(np.uint32)
    inside = (rng.normal(size=n) * 2.0 ** rng.integers(-6, spec.reach + 1, n)).astype(np.float32).view(np.uint32)
    return np.concatenate([near, inside, _random(rng, n), CORNERS, CORNERS | 0x80000000])


@np.errstate(all="ignore")
@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_golden_against_float64(spec: SiluSpec) -> None:
    """Every FP16 number and random FP32 ones: absolutely, and relative near zero."""
    z = np.concatenate([ALL_FP16, _random(np.random.default_rng(1), 100_000).view(np.float32)])
    z = z[np.isfinite(z)]
    got, exact = spec.compute(z).astype(np.float64), _exact(z)
    error = np.abs(got - exact)
    rounding = 1.001 * np.maximum(2.0**-24 * np.abs(exact), 2.0**-150)
    assert (error <= np.minimum(np.abs(z), 2.0**spec.reach) * spec.max_error + rounding).all()
    near = (np.abs(z) < 2.0**-spec.segments) & (np.abs(z) >= 2.0**-100)
    assert (error[near] <= 2.1 * spec.max_error * np.abs(exact[near])).all()


def test_stated_accuracy() -> None:
    """Of the defaults; and it is not stated much too large."""
    assert SiluSpec().max_error < 1.3e-5
    z = np.linspace(-20, 20, 1_000_001, dtype=np.float32)
    sigmoid = 1 / (1 + np.exp(-z.astype(np.float64)))
    for spec in SPECS:
        error = np.abs(np.ldexp(spec.sigmoid(z).astype(np.float64), -spec.bits) - sigmoid)
        assert 0.5 * spec.max_error < error.max() <= spec.max_error * (1 + 1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_specials(spec: SiluSpec) -> None:
    bits = [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001, 0, 0x80000000, 0xC2C80000, 0x42C80000]
    got = spec.compute(np.array(bits, np.uint32).view(np.float32)).view(np.uint32)
    assert got.tolist() == [0x7F800000, 0x80000000, *[int(NAN32)] * 3, 0, 0x80000000, 0x80000000, 0x42C80000]


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_rises_and_mirrors(spec: SiluSpec) -> None:
    """The sigmoid never falls, and sigmoid(z) + sigmoid(-z) is exactly 1."""
    z = np.sort(np.random.default_rng(2).normal(size=100_000).astype(np.float32) * 2 ** (spec.reach - 1))
    value = spec.sigmoid(z)
    assert (np.diff(value) >= 0).all() and (value + spec.sigmoid(-z) == 1 << spec.bits).all()


@np.errstate(all="ignore")
@pytest.mark.parametrize("saturate", [True, False])
def test_swiglu_rounds_once_per_operation(saturate: bool) -> None:
    spec = SiluSpec(saturate=saturate)
    g = np.array([3, -3, 300, 300, np.inf, -np.inf, 0, np.nan, 1e-30], np.float32)
    u = np.array([2, 1, 1000, -1000, 1, np.inf, np.inf, 1, 1e-30], np.float32)
    wide = swiglu(g, u, spec, "fp32")
    assert wide.dtype == np.float32 and np.array_equal(wide, spec.compute(g) * u, equal_nan=True)
    narrow = swiglu(g, u, spec)
    beyond = 65504 if saturate else np.inf
    least = np.float16(-0.1423)
    assert narrow.dtype == np.float16
    assert narrow.tolist()[:5] == [np.float16(5.715), least, beyond, -beyond, beyond]
    assert np.isnan(narrow[5:8]).all() and narrow[8] == 0


def _silu_is_right(unit: Any, spec: SiluSpec, n: int = 300) -> None:
    z = _operands(np.random.default_rng(3), spec, n)
    assert (_play(unit, {"z": z}) == spec.compute(z.view(np.float32)).view(np.uint32)).all()


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_silu(spec: SiluSpec) -> None:
    _silu_is_right(Silu(spec), spec)


@pytest.mark.parametrize(("saturate", "fmt"), [(True, "fp16"), (False, "fp16"), (True, "fp32")])
def test_swiglu(saturate: bool, fmt: str) -> None:
    spec = SiluSpec(saturate=saturate)
    rng = np.random.default_rng(4)
    g, u = _operands(rng, spec, 250), _operands(rng, spec, 250)
    rng.shuffle(u)
    expected = swiglu(g.view(np.float32), u.view(np.float32), spec, fmt)
    assert (_play(SwiGLU(spec, fmt), {"g": g, "u": u}) == expected.view(f"u{expected.itemsize}")).all()


def test_all_of_fp16() -> None:
    """One number in 61: every binade, and all kinds of fractions."""
    spec = SiluSpec()
    z = ALL_FP16[5::61]
    assert (_play(Silu(spec), {"z": z.view(np.uint32)}) == spec.compute(z).view(np.uint32)).all()


# what is wrong: class, method, what stands there, what stands there instead
FAULTS = {
    "minus infinity stays": (Silu, "elaborate", "Mux(z.kind == NAN, C(NAN, 2), C(FINITE, 2))", "z.kind"),
    "NaN is a number": (Silu, "elaborate", "z.kind == NAN", "0"),
    "negative as positive": (Sigmoid, "elaborate", 'delay(m, z.negative, 3, "negative")', "0"),
    "not rounded": (Sigmoid, "elaborate", "C(1 << (spec.place_bits - 1), spec.place_bits)", "C(0, spec.place_bits)"),
    "the sigmoid ends too early": (Sigmoid, "elaborate", "127 + spec.reach", "126 + spec.reach"),
    "never one": (Sigmoid, "elaborate", "127 + spec.reach", "128 + spec.reach"),
    "one place off": (Sigmoid, "_fixed", "126 + self.spec.reach", "125 + self.spec.reach"),
    "small ones wrap": (Sigmoid, "_fixed", "Mux(distance > width, width, distance)", "distance"),
}


@pytest.mark.parametrize("name", one_in(4, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, method, old, new = FAULTS[name]
    monkeypatch.setattr(unit, method, getattr(rewritten(unit, old, new, method), method))
    with pytest.raises(AssertionError):
        _silu_is_right(Silu(SiluSpec()), SiluSpec(), 200)


@pytest.mark.slow
def test_infinities_without_saturation(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = rewritten(SwiGLU, "0x7BFF", "0x7C00")
    monkeypatch.setattr(SwiGLU, "elaborate", wrong.elaborate)
    with pytest.raises(AssertionError):
        test_swiglu(True, "fp16")


def test_bad_values_are_refused() -> None:
    with pytest.raises(SpecError, match=r"^segments must be at most bits - 2 = 6, not 7$"):
        SiluSpec(segments=7, bits=8)
    for refused in (lambda: SiluSpec().swiglu_latency("bf16"), lambda: swiglu(ALL_FP16, ALL_FP16, SiluSpec(), "bf16")):
        with pytest.raises(SpecError, match=r"^fmt must be one of fp16, fp32, not 'bf16'$"):
            refused()
