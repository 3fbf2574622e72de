"""Quantisers of experts against second definitions, number by number; packing, exhaustively; corners; bad input."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from golden import fixture, q4_1, quantize
from golden.moe import codes
from golden.moe.compensate import compensated
from golden.moe.precision import BITS
from golden.moe.quantizers import (
    FP4,
    GROUP,
    NF4,
    PRESETS,
    Q4_1,
    WHOLE,
    Format,
    Quantised,
    adaptive,
    asymmetric,
    codebook,
    corrected,
    elephants,
    from_q4_1,
    lookup,
    named,
    quantise,
    symmetric,
    unpack,
)
from golden.spec import SpecError

F32 = NDArray[np.float32]
SHARES = (0, 1, 2, WHOLE)
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def samples(seed: int = 1, rows: int = 96, cols: int = 12) -> F32:
    """Columns of very different magnitudes, with zeros, tiny values, one-sided columns and ties."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, cols)) * 2.0 ** rng.integers(-20, 9, cols)
    a[:, 0] = 0
    a[:, 1] = np.abs(a[:, 1])
    a[:, 2] = -np.abs(a[:, 2])
    a[:, 3] = rng.integers(-16, 17, rows) / 2  # scale 1 of 4 bits: every code, ties
    a[0, 3] = 8
    a[:, 4] = 1e-9 * rng.standard_normal(rows)  # scales that are 0 in FP16
    a[:32, 5] = 0
    a[:, 6] = 1e-6 * rng.standard_normal(rows)  # subnormal scales
    a[:, 7] = 3.25  # all alike
    return a.astype(np.float32)


def groups(k: int, share: int) -> list[slice]:
    size = k if share == WHOLE else GROUP << share
    return [slice(i, min(i + size, k)) for i in range(0, k, size)]


# --- as published ---


@pytest.mark.parametrize("bits", [4, 8])
def test_the_published_quantiser_bit_for_bit(bits: int) -> None:
    w, half = samples(), 1 << (bits - 1)
    q = elephants(w, bits)
    assert q.format == Format(bits, "signed", WHOLE) and q.minimum is None
    for n in range(w.shape[1]):
        s = np.float32(max(abs(float(v)) for v in w[:, n]) / half)
        stored = np.float16(s)
        assert q.scale[0, n] == (stored or 1)
        for k in range(len(w)):
            ratio = Fraction(float(np.float32(w[k, n] / s))) if stored else Fraction(0)
            away = math.floor(abs(ratio) + Fraction(1, 2)) * (-1 if ratio < 0 else 1)
            assert q.codes[k, n] == max(-half, min(half - 1, away))


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_wrong_with_it(bits: int) -> None:
    """The largest positive weight saturates, the negative one does not; the correction loses neither."""
    half = 1 << (bits - 1)
    w = np.array([[1.0, -1.0], [-0.25, 0.25]])
    assert elephants(w, bits).codes[0].tolist() == [half - 1, -half]
    assert elephants(w, bits).values()[0].tolist() == [(half - 1) / half, -1]
    good = corrected(w, bits)
    assert good.codes[0].tolist() == [half - 1, 1 - half]
    assert np.abs(good.values() - w).max() <= float(good.scale[0, 0]) * 0.51
    assert elephants(np.array([[0.5, 8.0], [-8, 0]]), 4).codes.tolist() == [[1, 7], [-8, 0]]  # half a step: away
    assert corrected(np.array([[0.5, 7.0], [-7, 0]]), 4).codes.tolist() == [[0, 7], [-7, 0]]  # to even


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("bits", [4, 8])
def test_zero_and_tiny_channels(preset: str, bits: int) -> None:
    w = np.zeros((4, 3), np.float32)
    w[:, 1], w[:, 2] = 1e-9, 1e-45
    q = PRESETS[preset](w, bits)
    assert not q.codes.any() and (q.scale == 1).all() and not q.values().any()


# --- groups ---


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("bits", BITS)
def test_groups_number_by_number(bits: int, share: int) -> None:
    w = samples(2)
    both = symmetric(w, bits, share), asymmetric(w, bits, share)
    values = [q.values() for q in both]
    high = (1 << (bits - 1)) - 1
    low = -128 if bits == 8 else 0
    for n in range(w.shape[1]):
        for j, rows in enumerate(groups(len(w), share)):
            part = [Fraction(float(v)) for v in w[rows, n]]
            scale = np.float16(float(max(map(abs, part)) / high))
            assert both[0].scale[j, n] == (scale or 1)
            least = min(part)
            step = np.float16(float((max(part) - least) / ((1 << bits) - 1)))
            base = np.float16(float(least - low * Fraction(float(step))))
            assert both[1].scale[j, n] == step and both[1].minimum is not None and both[1].minimum[j, n] == base
            for k, v in zip(range(rows.start, rows.stop), part, strict=True):
                code = round(v / Fraction(float(scale))) if scale else 0
                assert both[0].codes[k, n] == max(-high - 1, min(high, code))
                code = round((v - Fraction(float(base))) / Fraction(float(step))) if step else 0
                assert both[1].codes[k, n] == max(low, min(low + (1 << bits) - 1, code))
                assert values[0][k, n] == float(both[0].scale[j, n]) * both[0].codes[k, n]
                assert values[1][k, n] == float(step) * both[1].codes[k, n] + float(base)


def test_symmetric_four_bits_are_those_of_mixpe() -> None:
    w = samples(3)
    for share, group in ((0, 32), (1, 64), (WHOLE, 0)):
        mine, other = symmetric(w, 4, share), quantize.quantise_weights(w, "int4_sym", group)
        assert np.array_equal(mine.codes, other.codes) and np.array_equal(mine.scale, other.scale)


def test_smaller_groups_and_more_bits_are_nearer() -> None:
    w = np.random.default_rng(4).standard_normal((256, 64))
    for make in (symmetric, asymmetric):
        errors = [[np.square(make(w, b, s).values() - w).sum() for s in (WHOLE, 1, 0)] for b in BITS]
        assert all(row == sorted(row, reverse=True) for row in errors)
        assert all(column == sorted(column, reverse=True) for column in map(list, zip(*errors, strict=True)))


def test_stored_blocks_are_taken_as_they_are() -> None:
    gate = fixture.load().gate
    q = from_q4_1(gate)
    assert q.format == Q4_1 and np.array_equal(q.values().T, q4_1.dequantise(*gate).astype(np.float64))
    assert q.bytes == q4_1.pack(*gate).size == Q4_1.size(576, 1536)


# --- codebooks ---


def test_nf4_and_fp4() -> None:
    assert NF4.tolist() == [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127]
    assert FP4.tolist() == [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("book", [NF4, FP4, np.array([-9, 3, 40, 1], np.int8)], ids=["nf4", "fp4", "any"])
def test_indices_are_of_the_nearest_number(book: Any, share: int) -> None:
    w = samples(5).astype(np.float64)
    q = lookup(w, book, share)
    assert q.codebook is not None and np.array_equal(q.codebook, book)
    assert q.format == Format(len(book).bit_length() - 1, "lookup", share)
    values = q.values()
    for j, rows in enumerate(groups(len(w), share)):
        scales = q.scale[j].astype(np.float64)
        every = np.abs(book[None, None, :] * scales[None, :, None] - w[rows, :, None])
        np.testing.assert_allclose(np.abs(values[rows] - w[rows]), every.min(axis=2), atol=1e-12)
        first = np.abs(w[rows]).max(axis=0) / np.abs(book.astype(float)).max()
        chosen = np.abs(book[None, None, :] * first[None, :, None] - w[rows, :, None]).argmin(axis=2)
        entries = book[chosen].astype(np.float64)
        length = np.square(entries).sum(axis=0)
        fitted = np.divide((entries * w[rows]).sum(axis=0), length, out=first, where=length > 0).astype(np.float16)
        np.testing.assert_allclose(scales, fitted.astype(np.float64), rtol=1e-3)
    assert not values[:, 0].any() and not q.codes[:, 0].any()


def test_a_learned_codebook_is_better_than_even_steps() -> None:
    w = np.random.default_rng(6).standard_normal((512, 64))
    for bits in (2, 3, 4):
        book = codebook([w[:256], w[256:]], bits)
        assert len(book) == 1 << bits and (np.diff(book) > 0).all() and np.abs(book.astype(int)).max() == 127
        found, even = lookup(w, book, 1), asymmetric(w, bits, 1)
        assert np.square(found.values() - w).sum() < np.square(even.values() - w).sum()
        assert found.bytes < even.bytes
    assert np.array_equal(codebook([w], 3), codebook([w], 3))
    zero = quantise(np.zeros((64, 2)), named("lookup3x64"), book[:8])
    assert not zero.values().any()


# --- bytes ---


@quick
@given(SEEDS, st.sampled_from(BITS), st.booleans(), st.integers(1, 6), st.integers(1, 9))
def test_codes_to_bytes_and_back(seed: int, bits: int, signed: bool, eights: int, n: int) -> None:
    low = -(1 << (bits - 1)) if signed else 0
    made = np.random.default_rng(seed).integers(low, low + (1 << bits), (8 * eights, n))
    raw = codes.to_bytes(made, bits)
    assert raw.shape == (n, eights * bits)
    assert np.array_equal(codes.from_bytes(raw, bits, 8 * eights, n, signed), made)
    word = int.from_bytes(raw[-1].tobytes(), "little")
    assert [(word >> bits * k) % (1 << bits) for k in range(8 * eights)] == [int(c) % (1 << bits) for c in made[:, -1]]


FORMATS = [*(f"unsigned{b}x64" for b in (2, 3, 4)), *(f"signed{b}" for b in BITS), "q4_1", "lookup3x32", "lookup4x128"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_matrix_to_bytes_and_back(name: str) -> None:
    w, form = samples(7), named(name)
    rows, cols = w.shape
    book = codebook([w], form.bits) if form.kind == "lookup" else None
    q = quantise(w, form, book)
    raw = q.pack()
    assert raw.size == q.bytes == form.size(rows, cols)
    back = unpack(raw, form, rows, cols, book)
    assert np.array_equal(back.values(), q.values()) and np.array_equal(back.codes, q.codes)
    sentence = f"{form.name} data of 96 x 12 weights must be {q.bytes} bytes, not {q.bytes - 1}"
    assert refusal(lambda: unpack(raw[1:], form, rows, cols)) == sentence


def test_names() -> None:
    for bits in BITS:
        for kind in ("unsigned", "signed", "lookup"):
            for share in range(WHOLE + 1):
                form = Format(bits, kind, share)
                if bits < 8 or kind == "signed":
                    assert named(form.name) == form
    assert (Q4_1.name, named("unsigned4x32"), named("signed8").name) == ("q4_1", Q4_1, "signed8")
    for bad in ("", "signed5", "unsigned8", "lookup8x32", "signed4x", "signed4x48", "signed4x4096", "Signed4", "q4_0"):
        sentence = f"format must be a name like q4_1, unsigned3x32, signed8 or lookup3x64, not {bad!r}"
        assert refusal(partial(named, bad)) == sentence


def test_sizes_of_images() -> None:
    """Of a real layer's matrices, against float32; asked for: four bits per channel or groups of 64 and more, at most
    0.14."""
    ratio = {name: named(name).size(576, 1536) / (4 * 576 * 1536) for name in ("signed4", "signed4x64", "signed4x512")}
    assert all(r <= 0.14 for r in ratio.values())
    assert Q4_1.size(576, 1536) / (4 * 576 * 1536) == 0.15625
    assert elephants(np.ones((576, 8)), 4).bytes / (4 * 576 * 8) <= 0.14


def test_all_codes_in_all_lanes_become_numbers() -> None:
    """16 codes in each of 8 lanes, with every other code beside; likewise 256 codes in 4 lanes."""
    for bits, lanes in ((4, 8), (8, 4)):
        half = 1 << (bits - 1)
        every = np.arange(-half, half)
        lane, code, other = np.meshgrid(np.arange(lanes), every, every if bits == 4 else every[::17], indexing="ij")
        made = np.where(np.arange(lanes) == lane[..., None], code[..., None], other[..., None])
        assert np.array_equal(codes.to_fp16(codes.to_words(made, bits), bits), made)


def test_the_words_are_as_published() -> None:
    four = codes.to_words(np.array([-8, -7, -6, -5, -4, -3, -2, -1]), 4)
    assert int(four) == 0x75316420  # nibbles, the lowest first: codes 0, 2, 4, 6, 1, 3, 5, 7 of the row
    assert int(codes.to_words(np.array([-128, -127, -126, -125]), 8)) == 0x03010200
    assert np.uint16(0x6400 | 9).view(np.float16) == 1024 + 9


def test_the_constant_of_an_earlier_revision_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """-64.5 in place of -72 is 7.5 too much in the lanes that stay in the upper half of a byte."""
    made = np.broadcast_to(np.arange(-8, 8)[:, None], (16, 8))
    monkeypatch.setattr(codes, "HIGH", -64.5)
    off = codes.to_fp16(codes.to_words(made, 4), 4) - made
    assert (off == np.array([0, 0, 7.5, 7.5, 0, 0, 7.5, 7.5])).all()


@quick
@given(SEEDS, st.integers(1, 9), st.integers(1, 9))
def test_pairs_of_outputs(seed: int, k: int, pairs: int) -> None:
    made = np.random.default_rng(seed).integers(-8, 8, (k, 2 * pairs))
    raw = codes.to_pairs(made)
    assert raw.shape == (k, pairs) and np.array_equal(codes.from_pairs(raw), made)
    assert raw[0, 0] & 15 == made[0, 0] % 16 and raw[0, 0] >> 4 == made[0, 1] % 16  # the even output is low


# --- choices per matrix ---


def test_groups_as_large_as_the_error_allows() -> None:
    rng = np.random.default_rng(8)
    calm, wild = rng.uniform(-1, 1, (512, 8)), rng.standard_t(2, (512, 8))

    def chosen(w: Any, limit: float) -> int:
        error = {s: np.square(symmetric(w, 4, s).values() - w).sum() for s in range(WHOLE + 1)}
        found = adaptive(lambda s: symmetric(w, 4, s), lambda q: float(np.square(q.values() - w).sum()), limit)
        right = max((s for s in error if error[s] <= limit * error[0]), default=0)
        assert found.format.share == right
        return right

    assert chosen(wild, 1) == 0 and chosen(calm, 1e9) == WHOLE
    assert chosen(wild, 1.5) < chosen(calm, 1.5) <= chosen(calm, 3)
    assert refusal(lambda: chosen(calm, 0.5)) == "limit must be at least 1, not 0.5"


def test_a_compensator_is_the_nearest_of_its_rank() -> None:
    w = np.random.default_rng(9).standard_normal((64, 48))
    base = asymmetric(w, 2, 0)
    singular = np.linalg.svd(w - base.values(), compute_uv=False)
    assert compensated(w, base, 0).bytes == base.bytes and np.array_equal(
        compensated(w, base, 0).values(), base.values()
    )
    for rank in (1, 5, 48):
        c = compensated(w, base, rank)
        left = np.square(singular[rank:]).sum()
        assert np.square(w - c.values()).sum() == pytest.approx(left, rel=1e-3, abs=1e-4)
        assert c.bytes == base.bytes + 2 * rank * (64 + 48)
    assert refusal(lambda: compensated(w, base, 49)) == "rank must be an integer between 0 and 48, not 49"


# --- bad input ---


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as e:
        call()
    return str(e.value)


EIGHT = np.ones((8, 2))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: elephants(EIGHT, 3), "bits must be one of 4, 8, not 3"),
        (lambda: corrected(EIGHT, 2), "bits must be one of 4, 8, not 2"),
        (lambda: symmetric(EIGHT, 5, 0), "bits must be one of 2, 3, 4, 8, not 5"),
        (lambda: asymmetric(EIGHT, 4, 8), "share must be an integer between 0 and 7, not 8"),
        (lambda: codebook([EIGHT], 8), "bits must be one of 2, 3, 4, not 8"),
        (lambda: lookup(EIGHT, FP4[:3], 0), "codebook must have 4, 8 or 16 numbers, not all 0, not [0, 1, 2]"),
        (lambda: quantise(EIGHT, named("lookup3x64")), "codebook must be given for lookup3x64"),
        (lambda: quantise(EIGHT, named("lookup3x64"), NF4), "codebook must have 8 numbers for lookup3x64, not 16"),
        (lambda: unpack(np.zeros(12, np.uint8), named("lookup4"), 8, 2), "codebook must be given for lookup4"),
        (lambda: unpack(np.zeros(12, np.uint8), named("signed4"), 8, 2, NF4), "codebook must be None for signed4"),
        (lambda: symmetric(EIGHT[:0], 4, 0), "weights must be a non-empty matrix, not of shape (0, 2)"),
        (lambda: symmetric(EIGHT[0], 4, 0), "weights must be a non-empty matrix, not of shape (2,)"),
        (
            lambda: elephants(EIGHT * np.nan, 4),
            "weights must be finite and at most 32752 in magnitude, not nan",
        ),
        (
            lambda: asymmetric(EIGHT * 40000, 4, 0),
            "weights must be finite and at most 32752 in magnitude, not 40000.0",
        ),
        (lambda: codes.to_bytes(EIGHT[:3], 3), "inputs must fill whole bytes with 3 bits each, not 3"),
        (lambda: codes.to_pairs(EIGHT[:, :1]), "outputs must be an even number, not 1"),
    ],
)
def test_bad_input_is_one_sentence(call: Callable[[], Quantised], sentence: str) -> None:
    assert refusal(call) == sentence
