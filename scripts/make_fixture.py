"""Makes ``golden/data/smollm2_l15.npz`` from the full model and ``golden/data/smollm2_text.txt``.

    python -m scripts.make_fixture [--model full] [-o golden/data/smollm2_l15.npz]

The forward pass runs in float64 and its results are rounded to fp16, so that the same bytes come out on any machine,
whatever the order in which its linear algebra library adds.
"""

import argparse
import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture, model_store
from golden.llama.forward import Llama
from golden.llama.tokenizer import Tokenizer
from golden.llama.weights import ModelFile
from golden.spec import SpecError

DATA = Path(fixture.__file__).parent / "data"


def make(model: Path, text: str) -> bytes:
    """The fixture's npz file."""
    file = ModelFile(model)
    tokens = Tokenizer.of(file).encode(text)
    seen: dict[int, NDArray[Any]] = {}

    def observe(name: str, layer: int, value: NDArray[Any]) -> None:
        if name == "ffn_input":
            seen[layer] = value

    Llama(file.weights(), dtype=np.float64, observe=observe).hidden(tokens)
    out = io.BytesIO()
    np.savez(
        out,
        gate=file.raw(f"blk.{fixture.LAYER}.ffn_gate.weight"),
        up=file.raw(f"blk.{fixture.LAYER}.ffn_up.weight"),
        down=file.raw(f"blk.{fixture.LAYER}.ffn_down.weight"),
        x=seen[fixture.LAYER].astype(np.float16),
        tokens=np.array(tokens, dtype=np.int32),
    )
    return out.getvalue()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="make the fixture of real weights and activations")
    parser.add_argument("--model", default="full", help="full, or the path of a GGUF file")
    parser.add_argument("-o", "--output", type=Path, default=DATA / fixture.ARRAYS, help="npz file to write")
    args = parser.parse_args(argv)
    try:
        data = make(model_store.find(args.model), (DATA / fixture.TEXT).read_text(encoding="utf-8"))
        part = args.output.with_name(f"{args.output.name}.{os.getpid()}.part")
        try:
            part.write_bytes(data)
            part.replace(args.output)
        except OSError as e:
            raise SpecError(f"output {args.output} cannot be written: {e.strerror}") from None
        finally:
            part.unlink(missing_ok=True)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    print(f"{args.output}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
