"""The floating-point blocks against NumPy's float32, bit for bit, in Amaranth's simulator."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from amaranth.sim import Simulator
from numpy.typing import NDArray

from golden.formats import ROUNDINGS, IntegerOutput
from golden.numerics import canonical
from hdl.arith.bits import leading_one, normalize, shift_right_jam
from hdl.arith.floats import INFINITE, NAN, Add, Convert, Multiply, Requantise, Round

U32 = NDArray[np.uint32]
CORNERS = np.array(
    [0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x00FFFFFF, 0x3F800000, 0x3F7FFFFF, 0x7F7FFFFF, 0x7F800000, 0x7FC00000],
    np.uint32,
)
N = 3000


def _random(rng: np.random.Generator, n: int) -> U32:
    """Bit patterns of all kinds: uniform, moderate exponents, subnormals, corners, both signs."""
    bits = rng.integers(0, 1 << 32, n, dtype=np.uint64).astype(np.uint32)
    kind = rng.integers(0, 8, n)
    moderate = bits & 0x807FFFFF | rng.integers(110, 145, n).astype(np.uint32) << 23
    bits = np.where(kind < 3, moderate, bits)
    bits = np.where(kind == 3, bits & 0x807FFFFF, bits)
    return np.where(kind == 4, rng.choice(CORNERS, n) | bits & 0x80000000, bits).astype(np.uint32)


def _play(dut: Any, inputs: dict[str, Any]) -> U32:
    """One operation per cycle; the results ``dut.latency`` cycles later."""
    n = len(next(iter(inputs.values())))
    out = []

    async def bench(ctx: Any) -> None:
        for i in range(n + dut.latency):
            for name, values in inputs.items():
                ctx.set(getattr(dut, name), int(values[min(i, n - 1)]))
            if i >= dut.latency:
                out.append(ctx.get(dut.o))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(out, np.uint32)


def _equal(got: U32, expected: NDArray[np.float32]) -> None:
    wrong = np.flatnonzero(got != canonical(expected).view(np.uint32))
    assert not len(wrong), f"{len(wrong)} of {len(got)} differ, first {wrong[0]}: {got[wrong[0]]:#010x}"


@np.errstate(all="ignore")
def test_add() -> None:
    rng = np.random.default_rng(1)
    a, b = _random(rng, N), _random(rng, N)
    near = ((a ^ 0x80000000) + rng.integers(-3, 4, N)).astype(np.uint32)  # cancels all but a few bits
    b = np.where(rng.random(N) < 0.3, near, b)
    _equal(_play(Add(), {"a": a, "b": b}), a.view(np.float32) + b.view(np.float32))


@np.errstate(all="ignore")
def test_add_of_all_corners() -> None:
    signed = np.concatenate([CORNERS, CORNERS | 0x80000000])
    a, b = (g.ravel() for g in np.meshgrid(signed, signed))
    _equal(_play(Add(), {"a": a, "b": b}), a.view(np.float32) + b.view(np.float32))


@np.errstate(all="ignore")
def test_multiply() -> None:
    rng = np.random.default_rng(2)
    a, b = _random(rng, N), _random(rng, N)
    _equal(_play(Multiply("fp32"), {"a": a, "b": b}), a.view(np.float32) * b.view(np.float32))


@np.errstate(all="ignore")
def test_multiply_of_all_corners() -> None:
    signed = np.concatenate([CORNERS, CORNERS | 0x80000000])
    a, b = (g.ravel() for g in np.meshgrid(signed, signed))
    _equal(_play(Multiply("fp32"), {"a": a, "b": b}), a.view(np.float32) * b.view(np.float32))


@np.errstate(all="ignore")
def test_multiply_by_fp16() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 1 << 16, N).astype(np.uint16), _random(rng, N)
    _equal(_play(Multiply("fp16"), {"a": a, "b": b}), a.view(np.float16).astype(np.float32) * b.view(np.float32))


@np.errstate(all="ignore")
@pytest.mark.parametrize(("fmt", "oracle"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_convert(fmt: str, oracle: Any) -> None:
    rng = np.random.default_rng(4)
    near = rng.integers(0, 1 << 16, N).astype(np.uint16).view(oracle).astype(np.float32).view(np.uint32)
    ties = near + rng.integers(-1, 2, N).astype(np.uint32) + (rng.integers(0, 2, N) << (12 if fmt == "fp16" else 15))
    i = np.concatenate([_random(rng, N), ties.astype(np.uint32), CORNERS, CORNERS | 0x80000000])
    i = np.concatenate([i, rng.integers(0x33000000, 0x39000000, N).astype(np.uint32)])  # subnormal as FP16
    expected = i.view(np.float32).astype(oracle)
    got = np.array(_play(Convert(fmt), {"i": i}), dtype=np.uint16)
    nan = np.isnan(i.view(np.float32))
    assert (got[~nan] == expected.view(np.uint16)[~nan]).all()
    assert (got[nan] == {"fp16": 0x7E00, "bf16": 0x7FC0}[fmt]).all()


@np.errstate(all="ignore")
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("low", [-128, -127])
def test_requantise(low: int, rounding: str) -> None:
    rng = np.random.default_rng(6)
    halves = (np.arange(-300, 301) / 2).astype(np.float32).view(np.uint32)
    x = np.concatenate([_random(rng, 1000), halves, halves + 1, halves - 1, CORNERS, CORNERS | 0x80000000])
    got = np.array(_play(Requantise(low, rounding), {"i": x}), np.uint8).view(np.int8)
    expected = IntegerOutput("int8", 8, low=low).rounded(x.view(np.float32), rounding)
    assert got.tolist() == expected.tolist()


@np.errstate(all="ignore")
def test_multiply_by_bytes() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 256, N), _random(rng, N)
    _equal(_play(Multiply("uint8"), {"a": a, "b": b}), a.astype(np.float32) * b.view(np.float32))


@np.errstate(all="ignore")
@pytest.mark.parametrize(
    ("fmt", "oracle"),
    [("bf16", ml_dtypes.bfloat16), ("e4m3", ml_dtypes.float8_e4m3fn), ("e8m0", ml_dtypes.float8_e8m0fnu)],
)
def test_multiply_by_other_formats(fmt: str, oracle: Any) -> None:
    rng = np.random.default_rng(5)
    bits = np.dtype(oracle).itemsize * 8
    a, b = rng.integers(0, 1 << bits, N).astype(f"u{bits // 8}"), _random(rng, N)
    _equal(_play(Multiply(fmt), {"a": a, "b": b}), a.view(oracle).astype(np.float32) * b.view(np.float32))


@pytest.mark.parametrize("width", [1, 17, 26, 64])
def test_round_of_integers(width: int) -> None:
    """uint64 to float32 is one rounding in NumPy."""
    rng = np.random.default_rng(width)
    magnitude = rng.integers(0, 1 << 63, 800, dtype=np.uint64) * 2 + 1 >> rng.integers(0, 64, 800).astype(np.uint64)
    magnitude &= np.uint64((1 << width) - 1)
    sign = rng.integers(0, 2, 800)
    inputs = {"magnitude": magnitude, "negative": sign, "exponent": np.full(800, -24), "special": np.zeros(800)}
    expected = np.ldexp(magnitude.astype(np.float32), -24)
    _equal(_play(Round(width, -24, -24), inputs), np.where(sign, -expected, expected))


def test_round_passes_specials() -> None:
    inputs = {"magnitude": [3] * 3, "negative": [0, 1, 1], "exponent": [0] * 3, "special": [INFINITE, INFINITE, NAN]}
    _equal(_play(Round(8, 0, 0), inputs), np.array([np.inf, -np.inf, np.nan], np.float32))


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9])
def test_leading_one_of_all_words(width: int) -> None:
    from amaranth.hdl import Module, Signal

    m, value, position = Module(), Signal(width), Signal(4)
    m.d.comb += position.eq(leading_one(value))
    seen = {}

    async def bench(ctx: Any) -> None:
        for v in range(1, 1 << width):
            ctx.set(value, v)
            seen[v] = ctx.get(position)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == {v: v.bit_length() - 1 for v in range(1, 1 << width)}


def test_jamming_shift_of_all_words() -> None:
    from amaranth.hdl import Module, Signal

    m, value, amount, out = Module(), Signal(7), Signal(4), Signal(7)
    m.d.comb += out.eq(shift_right_jam(m, value, amount, "down_by"))

    async def bench(ctx: Any) -> None:
        for v in range(128):
            for n in range(16):
                ctx.set(value, v)
                ctx.set(amount, n)
                assert ctx.get(out) == (v >> n | bool(v & (1 << n) - 1)), (v, n)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("width", [2, 5, 8, 10])
@pytest.mark.parametrize("fill", [0, 1])
def test_normalizing_of_all_words(width: int, fill: int) -> None:
    from amaranth.hdl import C, Module, Signal

    m, value, out, by = Module(), Signal(width), Signal(width), Signal(4)
    shifted, amount = normalize(m, value, "n", C(fill, 1))
    m.d.comb += [out.eq(shifted), by.eq(amount)]

    async def bench(ctx: Any) -> None:
        for v in range(1, 1 << width):
            ctx.set(value, v)
            n = width - v.bit_length()
            assert (ctx.get(out), ctx.get(by)) == (v << n | fill * ((1 << n) - 1), n)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
