"""Makes ``golden/data/smollm2_l15.npz`` from the full model and ``golden/data/smollm2_text.txt``, and the partition of
the same layer into experts from ``golden/data/calibration_text.txt``.

    python -m scripts.make_fixture [layer] [--model full] [-o golden/data/smollm2_l15.npz]
    python -m scripts.make_fixture experts [--model full] [-o golden/data/smollm2_l15_experts.npz]

The layers after it, and the partition of all three into more and smaller experts:

    python -m scripts.make_fixture layers [--model full] [-o golden/data/smollm2_l16_l17.npz]
    python -m scripts.make_fixture layers-experts [--model full] [-o golden/data/smollm2_l15_l17_experts.npz]

Makes ``golden/data/fracast_ffn.npz`` too, from ``fracast/weights/model.int8.safetensors`` of the wheel fracast 0.1.0:

    python -m scripts.make_fixture networks --model model.int8.safetensors [-o golden/data/fracast_ffn.npz]

The forward pass runs in float64 and its results are rounded to fp16, so that the same bytes come out on any machine,
whatever the order in which its linear algebra library adds.
"""

import argparse
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture, model_store, safetensors
from golden.files import write
from golden.llama.forward import Llama
from golden.llama.tokenizer import Tokenizer
from golden.llama.weights import ModelFile
from golden.moe import fixture as moe_fixture
from golden.moe import store
from golden.moe.convert import convert
from golden.moe.spec import ConversionSpec
from golden.spec import SpecError
from scripts import experts

DATA = Path(fixture.__file__).parent / "data"


def make(model: Path, text: str) -> bytes:
    """The fixture's npz file."""
    file = ModelFile(model)
    tokens = Tokenizer.of(file).encode(text)
    weights = {name: file.raw(f"blk.{fixture.LAYER}.ffn_{name}.weight") for name in ("gate", "up", "down")}
    (x,) = _inputs(file, tokens, [fixture.LAYER])
    return _npz(weights | {"x": x, "tokens": np.array(tokens, dtype=np.int32)})


KEPT = 64
"""Tokens whose inputs of further layers are kept."""


def make_layers(model: Path, text: str) -> bytes:
    """The npz file of the layers after the fixture's."""
    file, numbers = ModelFile(model), moe_fixture.LAYERS[1:]
    arrays: dict[str, NDArray[Any]] = {}
    for number, x in zip(numbers, _inputs(file, Tokenizer.of(file).encode(text), numbers), strict=True):
        arrays |= {f"{name}_{number}": file.raw(f"blk.{number}.ffn_{name}.weight") for name in ("gate", "up", "down")}
        arrays[f"x_{number}"] = x[:KEPT]
    return _npz(arrays)


def make_experts(model: Path, spec: ConversionSpec, layers: Sequence[int]) -> store.Record:
    """The layers' conversions, each with all other layers dense."""
    file = ModelFile(model)
    tokens = Tokenizer.of(file).encode(experts.text())[: experts.TOKENS]
    inputs = zip(layers, _inputs(file, tokens, layers), strict=True)
    found = {layer: convert(x, experts.blocks(file, layer).ffn(), spec) for layer, x in inputs}
    return store.Record(spec, experts.origin(model, tokens, layers), found)


BLOCKS = {"core": "core.block.ffn", "decoder": "head.decoder_ffns.0", "future": "head.future_conv.block.ffn"}
"""Names of the three networks here and in their file."""

PARTS = {"": "weight.qweight", "_scale": "weight.scale", "_bias": "bias"}


def make_networks(model: Path) -> bytes:
    """The npz file of three small networks, as stored."""
    names = {
        f"{name}_{matrix}{short}": f"{block}.{matrix}.{part}"
        for name, block in BLOCKS.items()
        for matrix in ("up", "down")
        for short, part in PARTS.items()
    }
    found = safetensors.read(model, names.values())
    return _npz({ours: found[theirs] for ours, theirs in names.items()})


def _inputs(file: ModelFile, tokens: Sequence[int], layers: Sequence[int]) -> list[NDArray[np.float16]]:
    """What reaches the layers' networks."""
    seen: dict[int, NDArray[Any]] = {}

    def observe(name: str, layer: int, value: NDArray[Any]) -> None:
        if name == "ffn_input":
            seen[layer] = value

    weights = experts.up_to(file.weights(), max(layers))
    Llama(weights, dtype=np.float64, observe=observe).hidden(tokens)
    return [seen[layer].astype(np.float16) for layer in layers]


KINDS = ("layer", "experts", "layers", "layers-experts", "networks")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="make the fixture of real weights and activations")
    parser.add_argument("what", nargs="?", choices=KINDS, default=KINDS[0])
    parser.add_argument("--model", default="full", help="full, or the path of a GGUF file")
    parser.add_argument("-o", "--output", type=Path, help="npz file to write")
    args = parser.parse_args(argv)
    try:
        if args.what == "networks":
            output = args.output or DATA / moe_fixture.SMALL
            write(output, make_networks(Path(args.model)))
        elif args.what in ("experts", "layers-experts"):
            one = args.what == "experts"
            output = args.output or DATA / (moe_fixture.ARRAYS if one else moe_fixture.MORE_EXPERTS)
            spec, layers = (moe_fixture.SPEC, (fixture.LAYER,)) if one else (moe_fixture.FINE, moe_fixture.LAYERS)
            store.save(output, make_experts(model_store.find(args.model), spec, layers))
        else:
            one = args.what == "layer"
            output = args.output or DATA / (fixture.ARRAYS if one else moe_fixture.MORE)
            text = (DATA / fixture.TEXT).read_text(encoding="utf-8")
            write(output, (make if one else make_layers)(model_store.find(args.model), text))
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


if __name__ == "__main__":
    sys.exit(main())
