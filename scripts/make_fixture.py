"""Makes ``golden/data/smollm2_l15.npz`` from the full model and ``golden/data/smollm2_text.txt``, and the partition of
the same layer into experts from ``golden/data/calibration_text.txt``.

    python -m scripts.make_fixture [layer] [--model full] [-o golden/data/smollm2_l15.npz]
    python -m scripts.make_fixture experts [--model full] [-o golden/data/smollm2_l15_experts.npz]

Makes ``golden/data/fracast_ffn.npz`` too, from ``fracast/weights/model.int8.safetensors`` of the wheel fracast 0.1.0:

    python -m scripts.make_fixture networks --model model.int8.safetensors [-o golden/data/fracast_ffn.npz]

The forward pass runs in float64 and its results are rounded to fp16, so that the same bytes come out on any machine,
whatever the order in which its linear algebra library adds.
"""

import argparse
import hashlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture, model_store
from golden.llama.forward import Llama
from golden.llama.tokenizer import Tokenizer
from golden.llama.weights import ModelFile
from golden.moe import fixture as moe_fixture
from golden.moe import store
from golden.moe.convert import convert
from golden.spec import SpecError
from scripts import experts

DATA = Path(fixture.__file__).parent / "data"


def make(model: Path, text: str) -> bytes:
    """The fixture's npz file."""
    file = ModelFile(model)
    tokens = Tokenizer.of(file).encode(text)
    weights = {name: file.raw(f"blk.{fixture.LAYER}.ffn_{name}.weight") for name in ("gate", "up", "down")}
    return _npz(weights | {"x": _inputs(file, tokens), "tokens": np.array(tokens, dtype=np.int32)})


def make_experts(model: Path) -> store.Record:
    """The layer's conversion to :data:`golden.moe.fixture.SPEC`, all other layers dense."""
    file = ModelFile(model)
    tokens = Tokenizer.of(file).encode(experts.text())[: experts.TOKENS]
    network = moe_fixture.dense().ffn()
    found = convert(_inputs(file, tokens), network, moe_fixture.SPEC)
    return store.Record(moe_fixture.SPEC, experts.origin(model, tokens, [fixture.LAYER]), {fixture.LAYER: found})


BLOCKS = {"core": "core.block.ffn", "decoder": "head.decoder_ffns.0", "future": "head.future_conv.block.ffn"}
"""Names of the three networks here and in their file."""

PARTS = {"": "weight.qweight", "_scale": "weight.scale", "_bias": "bias"}


def make_networks(model: Path) -> bytes:
    """The npz file of three small networks, as stored."""
    tensors = _safetensors(model)
    arrays: dict[str, NDArray[Any]] = {}
    for name, block in BLOCKS.items():
        for matrix in ("up", "down"):
            arrays |= {f"{name}_{matrix}{short}": tensors[f"{block}.{matrix}.{part}"] for short, part in PARTS.items()}
    return _npz(arrays)


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a safetensors file: the length of a JSON header, the header, the bytes."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    types = {"I8": "int8", "F32": "<f4"}

    def tensor(about: dict[str, Any]) -> NDArray[Any]:
        first, last = about["data_offsets"]
        return np.frombuffer(raw[end + first : end + last], types[about["dtype"]]).reshape(about["shape"])

    header: dict[str, dict[str, Any]] = json.loads(raw[8:end])
    return {name: tensor(about) for name, about in header.items() if "ffn" in name}


def _inputs(file: ModelFile, tokens: Sequence[int]) -> NDArray[np.float16]:
    """What reaches the layer's network."""
    seen: dict[int, NDArray[Any]] = {}

    def observe(name: str, layer: int, value: NDArray[Any]) -> None:
        if name == "ffn_input":
            seen[layer] = value

    weights = experts.up_to(file.weights(), fixture.LAYER)
    Llama(weights, dtype=np.float64, observe=observe).hidden(tokens)
    return seen[fixture.LAYER].astype(np.float16)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="make the fixture of real weights and activations")
    parser.add_argument("what", nargs="?", choices=("layer", "experts", "networks"), default="layer")
    parser.add_argument("--model", default="full", help="full, or the path of a GGUF file")
    parser.add_argument("-o", "--output", type=Path, help="npz file to write")
    args = parser.parse_args(argv)
    try:
        if args.what == "networks":
            output = args.output or DATA / moe_fixture.SMALL
            _write(output, make_networks(Path(args.model)))
        elif args.what == "experts":
            output = args.output or DATA / moe_fixture.ARRAYS
            store.save(output, make_experts(model_store.find(args.model)))
        else:
            output = args.output or DATA / fixture.ARRAYS
            text = (DATA / fixture.TEXT).read_text(encoding="utf-8")
            _write(output, make(model_store.find(args.model), text))
        data = output.read_bytes()
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    print(f"{output}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]  # its other keyword is no array
    return out.getvalue()


def _write(output: Path, data: bytes) -> None:
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(output)
    except OSError as e:
        raise SpecError(f"output {output} cannot be written: {e.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
