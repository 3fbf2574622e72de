"""The Verilog of a GEMM engine as a function on NumPy arrays: a matrix is quantised, multiplied, compared."""

import numpy as np

from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.quantize import quantise_tokens, quantise_weights
from tb.cosim import compile

rng = np.random.default_rng(1)
x, w = rng.normal(size=(4, 128)), rng.normal(size=(128, 8))  # 4 tokens of 128 numbers, 8 output channels

spec = MixPESpec(rows=4, cols=4, weight="int4", group=32)
tokens = quantise_tokens(x)  # INT8, a scale per token
weights = quantise_weights(w, spec.weight, spec.group)  # INT4, a scale per 32 weights
job = Gemm(x=tokens.codes, w=weights.codes, scale=weights.scale, x_scale=tokens.scale)

rtl = compile(spec)  # generates the Verilog and builds it with Verilator; kept in the cache for the next time
y = rtl(job)  # simulates it

assert np.array_equal(y, spec.compute(job)), "the RTL is the golden model, bit for bit"
assert rtl.cycles == spec.cycles(job), "and takes as many cycles as the formula says"
exact = x @ w
noise = 10 * np.log10((exact**2).sum() / ((exact - y) ** 2).sum())
print(f"{y.size} results in {rtl.cycles} cycles, {noise:.1f} dB above the noise of quantising")
