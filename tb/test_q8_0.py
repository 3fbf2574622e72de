"""Q8_0: the gguf package as second opinion, every code, bad input."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from golden import q8_0
from golden.spec import SpecError


def test_any_bytes_stand_for_what_the_gguf_package_says() -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 256, (64, 7, 34), dtype=np.uint8)
    raw[..., :2] = rng.standard_normal((64, 7, 1)).astype("<f2").view(np.uint8)
    codes, d = q8_0.unpack(raw, 64, 7 * 32)
    assert [a.dtype.name for a in (codes, d)] == ["int8", "float16"] and len(np.unique(codes)) == 256
    w = codes * np.repeat(d.astype(np.float32), 32, axis=1)
    assert np.array_equal(w, gguf.quants.dequantize(raw.reshape(64, -1), GGMLQuantizationType.Q8_0))


def test_a_block_written_by_hand() -> None:
    block = np.float16(0.5).tobytes() + bytes(range(112, 144))  # codes 112 ... 127, -128 ... -113
    codes, d = q8_0.unpack(np.frombuffer(block, np.uint8), 1, 32)
    assert codes.tolist() == [[*range(112, 128), *range(-128, -112)]] and d.tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("size", "cols", "sentence"),
    [
        (34, 33, "Q8_0 columns must be a multiple of 32, not 33"),
        (33, 32, "Q8_0 data of 1 x 32 weights must be 34 bytes, not 33"),
    ],
)
def test_bad_input_is_refused(size: int, cols: int, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        q8_0.unpack(np.zeros(size, np.uint8), 1, cols)
    assert str(e.value) == sentence
