"""Real data without a download: one layer's FFN of SmolLM2-135M-Instruct, and what reaches it when it reads a text.

The files are in ``golden/data``; its README says how they were made, and under which licence they stand.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

from golden import q4_1

LAYER = 15
"""The layer, of 0..29."""

WIDTH, FFN = 576, 1536
"""d and dh of the model."""

ARRAYS, TEXT = "smollm2_l15.npz", "smollm2_text.txt"


@dataclass(frozen=True)
class Fixture:
    """``ffn(x) = W_down (silu(W_gate x) * (W_up x))`` of the layer, weights as stored in 4 bits, and its inputs."""

    gate: q4_1.Matrix
    """codes ``[1536, 576]``, d and m ``[1536, 18]``"""
    up: q4_1.Matrix
    """as ``gate``"""
    down: q4_1.Matrix
    """codes ``[576, 1536]``, d and m ``[576, 48]``"""
    x: NDArray[np.float32]
    """``[tokens, 576]``: the FFN's inputs (outputs of the RMS norm before it); values are exact in fp16"""
    tokens: NDArray[np.int32]
    """``[tokens]``: the model's numbers of the text's tokens"""
    text: str


@cache
def load() -> Fixture:
    """The fixture; the arrays are read-only, since every caller gets the same ones."""
    data = files("golden") / "data"
    with as_file(data / ARRAYS) as path, np.load(path) as npz:
        raw = {name: npz[name] for name in npz.files}
    gate, up = (q4_1.unpack(raw[name], FFN, WIDTH) for name in ("gate", "up"))
    down = q4_1.unpack(raw["down"], WIDTH, FFN)
    x, tokens = raw["x"].astype(np.float32), raw["tokens"]
    for a in (*gate, *up, *down, x, tokens):
        a.flags.writeable = False
    return Fixture(gate, up, down, x, tokens, (data / TEXT).read_text(encoding="utf-8"))
