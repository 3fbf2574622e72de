"""Prints a matrix product as beats: what goes into the engine, and what the golden model says must come out.

A line is ``stream bytes last``; the bytes of tdata in hexadecimal, byte 0 first.
"""

import json
import sys
from pathlib import Path

import numpy as np

from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm

manifest = json.loads(Path(sys.argv[1]).read_text())
spec = MixPESpec(**manifest["configuration"])  # what was generated, not a second copy of it
prefix = {s["name"]: s["prefix"] for s in manifest["streams"]}

M, K, N = 8, 64, 12
rng = np.random.default_rng(1)
job = Gemm(
    x=rng.integers(-128, 128, (M, K)),
    w=rng.integers(-8, 8, (K, N)),
    scale=rng.uniform(0.001, 0.01, (K // spec.group, N)).astype(np.float16),
    x_scale=rng.uniform(0.1, 1, M).astype(np.float32),
)
for name, beats in {**spec.inputs(job), **spec.outputs(job, spec.compute(job))}.items():
    for data, last in zip(beats.data, beats.last, strict=True):
        print(prefix[name], data.tobytes().hex(), int(last))
