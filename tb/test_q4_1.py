"""Q4_1: the published check vector, the gguf package as second opinion, round trips, error bound, bad input."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.spec import SpecError

VECTOR = bytes.fromhex("222a40b5d77b8a4257d16465c789538c04e1fab2")
CODES = [7, 11, 10, 2, 7, 1, 4, 5, 7, 9, 3, 12, 4, 1, 10, 2, 13, 7, 8, 4, 5, 13, 6, 6, 12, 8, 5, 8, 0, 14, 15, 11]


def weights(seed: int, rows: int, cols: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, cols)) * 10.0 ** rng.uniform(-3, 1, (rows, 1))).astype(np.float32)


def test_check_vector_of_the_real_file() -> None:
    raw = np.frombuffer(VECTOR, dtype=np.uint8)
    codes, d, m = q4_1.unpack(raw, 1, 32)
    assert codes.tolist() == [CODES]
    assert [a.dtype.name for a in (codes, d, m)] == ["uint8", "float16", "float16"]
    assert float(d[0, 0]) == pytest.approx(0.0479126, rel=1e-6)
    assert float(m[0, 0]) == -0.328125
    w = q4_1.dequantise(codes, d, m)
    np.testing.assert_allclose(w[0, :4], [0.00726318, 0.19891357, 0.15100098, -0.23229980], rtol=1e-6)
    assert q4_1.pack(codes, d, m).tobytes() == VECTOR


def test_pack_inverts_unpack_on_any_bytes() -> None:
    raw = np.random.default_rng(1).integers(0, 256, (64, 7 * 20), dtype=np.uint8)
    assert np.array_equal(q4_1.pack(*q4_1.unpack(raw, 64, 7 * 32)), raw)


def test_every_code_in_every_place() -> None:
    codes = ((np.arange(32)[None, :] + np.arange(16)[:, None]) % 16).astype(np.uint8)
    d, m = np.full((16, 1), 0.5, np.float16), np.full((16, 1), -3, np.float16)
    raw = q4_1.pack(codes, d, m)
    for row, block in zip(codes, raw, strict=True):
        for i, code in enumerate(row):
            assert code == (int(block[4 + i % 16]) >> 4 * (i // 16)) & 15
    assert np.array_equal(q4_1.unpack(raw, 16, 32).codes, codes)


def test_dequantiser_equals_the_gguf_package_bit_for_bit() -> None:
    f = fixture.load()
    for matrix in (f.gate, f.up, f.down, q4_1.quantise(weights(2, 50, 96))):
        theirs = gguf.quants.dequantize(q4_1.pack(*matrix), GGMLQuantizationType.Q4_1)
        ours = q4_1.dequantise(*matrix)
        assert ours.dtype == np.float32
        assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_quantiser_equals_the_gguf_package_bit_for_bit() -> None:
    w = weights(3, 200, 160)
    w[0] = 0
    w[1] = 1.25
    w[2] *= 1e-6  # subnormal scales
    w[3, :32] = np.minimum(np.arange(32) / 2, 15)  # d = 1: ties
    ours = q4_1.pack(*q4_1.quantise(w))
    assert np.array_equal(ours, gguf.quants.quantize(w, GGMLQuantizationType.Q4_1))


def test_quantiser_keeps_its_error_bound() -> None:
    w = weights(4, 200, 160)
    q = q4_1.quantise(w)
    blocks = w.reshape(200, -1, 32).astype(np.float64)
    span = blocks.max(-1) - blocks.min(-1)
    bound = span / 30 + 15 * np.abs(span / 15 - q.d) + np.abs(blocks.min(-1) - q.m)
    error = np.abs(w - q4_1.dequantise(*q).astype(np.float64)).reshape(blocks.shape).max(-1)
    assert (error <= bound * (1 + 1e-5)).all()
    assert (error > 0.3 * bound).mean() > 0.9  # the bound means something


def refused(sentence: str, call: object, *args: object) -> None:
    assert callable(call)
    with pytest.raises(SpecError) as e:
        call(*args)
    assert str(e.value) == sentence


def test_bad_input_is_refused_in_one_sentence() -> None:
    raw = np.zeros(40, np.uint8)
    refused("Q4_1 columns must be a multiple of 32, not 48", q4_1.unpack, raw, 1, 48)
    refused("Q4_1 data of 2 x 64 weights must be 80 bytes, not 40", q4_1.unpack, raw, 2, 64)
    half = np.ones((1, 1), np.float16)
    refused("Q4_1 columns must be a multiple of 32, not 8", q4_1.pack, np.zeros((1, 8), np.uint8), half, half)
    codes = np.full((1, 32), 16, np.uint8)
    refused("Q4_1 codes must be integers between 0 and 15, not 16", q4_1.pack, codes, half, half)
    w = np.zeros((1, 32), np.float32)
    refused("Q4_1 columns must be a multiple of 32, not 31", q4_1.quantise, w[:, 1:])
    w[0, 3] = 40000
    refused("weights must be finite and at most 32752 in magnitude, not 40000.0", q4_1.quantise, w)
    w[0, 3] = np.nan
    refused("weights must be finite and at most 32752 in magnitude, not nan", q4_1.quantise, w)
