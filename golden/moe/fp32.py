"""FP32 arithmetic on bit patterns: every operation rounded once, every NaN the same."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.formats import FLOATS
from golden.numerics import canonical

Int = NDArray[np.int64]

FP32 = FLOATS["fp32"]
ONE = 0x3F800000
"""1.0."""


def add(a: Any, b: Any) -> Int:
    with np.errstate(all="ignore"):
        return _code(FP32.value(a) + FP32.value(b))


def multiply(a: Any, b: Any) -> Int:
    with np.errstate(all="ignore"):
        return _code(FP32.value(a) * FP32.value(b))


def _code(values: Any) -> Int:
    return FP32.code(canonical(values))
