"""The fixture of real data: what it contains, that it is small, and that NumPy alone reads it."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import golden
from golden import fixture, q4_1
from golden.llama.forward import silu

DATA = Path(fixture.__file__).parent / "data"


def test_shapes_types_and_ranges() -> None:
    f = fixture.load()
    for matrix, rows, cols in ((f.gate, 1536, 576), (f.up, 1536, 576), (f.down, 576, 1536)):
        assert matrix.codes.shape == (rows, cols)
        assert matrix.d.shape == matrix.m.shape == (rows, cols // 32)
        assert [a.dtype.name for a in matrix] == ["uint8", "float16", "float16"]
        assert set(np.unique(matrix.codes)) == set(range(16))
        assert (matrix.d > 0).all() and (matrix.m < 0).all()
    assert f.x.shape == (418, 576)
    assert f.tokens.shape == (418,)
    assert [a.dtype.name for a in (f.x, f.tokens)] == ["float32", "int32"]
    assert f.tokens.min() >= 0
    assert f.tokens.max() < 49152
    assert f.text.startswith("The ferry left the harbour")


def test_the_matrices_are_the_stored_bytes() -> None:
    f = fixture.load()
    with np.load(DATA / fixture.ARRAYS) as npz:
        assert npz.files == ["gate", "up", "down", "x", "tokens"]
        for name in ("gate", "up", "down"):
            assert np.array_equal(q4_1.pack(*getattr(f, name)), npz[name])


def test_the_activations_are_those_of_a_living_layer() -> None:
    f = fixture.load()
    assert np.isfinite(f.x).all()
    assert np.array_equal(f.x, f.x.astype(np.float16).astype(np.float32))
    assert len(np.unique(f.x, axis=0)) > 400  # tokens differ, also where the same word comes again
    gate, up, down = (q4_1.dequantise(*w) for w in (f.gate, f.up, f.down))
    y = (silu(f.x @ gate.T) * (f.x @ up.T)) @ down.T
    assert np.isfinite(y).all() and 0.1 < np.abs(y).mean() < 10


def test_the_file_is_small_and_the_one_its_readme_describes() -> None:
    data = (DATA / fixture.ARRAYS).read_bytes()
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert len(data) < 3_000_000
    assert f"{len(data):,} bytes" in readme
    assert hashlib.sha256(data).hexdigest() in re.findall("[0-9a-f]{64}", readme)


def test_the_arrays_are_shared_and_cannot_be_changed() -> None:
    assert fixture.load() is fixture.load()
    for a in (*fixture.load().gate, fixture.load().x):
        assert not a.flags.writeable


def test_it_loads_without_optional_packages() -> None:
    program = "import sys; sys.modules.update(gguf=None, tokenizers=None); from golden import fixture; fixture.load()"
    root = Path(golden.__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
