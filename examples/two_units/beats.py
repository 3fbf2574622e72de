"""Writes what the test bench plays: beats in and beats that must come out, a beat a line, tlast above tdata."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from golden.kmeans.function import Group, KMeansFunctionSpec, Table, Vector
from golden.kmeans.layer import calibrate, fp16_codes
from golden.kmeans.quantizer import QuantizerSpec, Token
from golden.kmeans.tables import values
from golden.ports import Beats


def configuration(unit: str) -> Any:
    """What was generated, from the manifest."""
    return json.loads((Path(sys.argv[1]) / f"{unit}.json").read_text())["configuration"]


quantizer = QuantizerSpec(**configuration("kmeans_quantizer"))
function = KMeansFunctionSpec(**configuration("kmeans_function"))

x = np.random.default_rng(1).normal(size=(40, quantizer.k_max))
learned = calibrate(x[:32], bits=quantizer.bits)  # a codebook, from other tokens
table = values("relu", learned.book, 0, function.value).codes
tokens = [Token(fp16_codes(row[: 5 * i + 1]), learned.book, learned.shift) for i, row in enumerate(x[32:])]
indices = [quantizer.compute(token) for token in tokens]
looked = Group(Table(table), tuple(Vector(i.index) for i in indices))

streams = {
    "act": [quantizer.inputs(t)["i"] for t in tokens],
    "cfg": [quantizer.inputs(t)["cfg"] for t in tokens],
    "exp": [quantizer.outputs(t, i)["exp"] for t, i in zip(tokens, indices, strict=True)],
    "table": [function.inputs(looked)["table"]],
    "out": [function.outputs(looked, function.compute(looked))["o"]],
}
sizes = []
for name, parts in streams.items():
    beats = Beats.concatenate(parts)
    lines = [f"{int(last)}{data.tobytes()[::-1].hex()}\n" for data, last in zip(beats.data, beats.last, strict=True)]
    Path(f"{name}.hex").write_text("".join(lines))
    sizes.append(f"localparam {name.upper()} = {len(beats)};\n")
Path("sizes.vh").write_text("".join(sizes))
