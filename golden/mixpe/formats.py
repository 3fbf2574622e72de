"""Operand formats of MixPE: what a weight code means, and the signed operand that the processing element sees."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class WeightFormat:
    """A weight code ``q`` of ``bits`` bits with values ``low..high``.

    The processing element multiplies the signed operand ``q - offset``; ``correction`` says what else the format adds
    per group and column: nothing, an integer zero point ``z`` (``w = s*(q - z)``), or a float minimum ``m``
    (``w = s*q + m``).
    """

    name: str
    bits: int
    low: int
    high: int
    offset: int
    correction: str

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def code_format(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"

    @property
    def operands(self) -> tuple[int, int]:
        """Smallest and largest operand of the processing element."""
        return self.low - self.offset, self.high - self.offset


WEIGHTS = {
    f.name: f
    for f in (
        WeightFormat("int4", 4, -8, 7, 0, "none"),
        WeightFormat("int4_sym", 4, -7, 7, 0, "none"),
        # q - 8 is the code with its top bit flipped, so unsigned codes run on the signed two-term core, which 11 and 13
        # would otherwise not fit (three signed digits).
        WeightFormat("uint4_zero", 4, 0, 15, 8, "zero"),
        WeightFormat("uint4_min", 4, 0, 15, 8, "min"),
    )
}


@dataclass(frozen=True)
class ActFormat:
    """An activation code of ``bits`` bits with integer values ``low..high``."""

    name: str
    bits: int
    low: int
    high: int


ACTS = {f.name: f for f in (ActFormat("int8", 8, -128, 127),)}


FLOATS: dict[str, type[np.floating[Any]]] = {"fp16": np.float16, "fp32": np.float32}
"""Formats of weight scales and minima."""

EXPONENTS = (-16, 15)
"""Range of the exponent of a power-of-two activation scale."""


def signed_bits(low: int, high: int) -> int:
    """Bits of the smallest two's complement word that holds ``low..high``."""
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0)


def sum_range(a: tuple[int, int], b: tuple[int, int], terms: int) -> tuple[int, int]:
    """Smallest and largest sum of ``terms`` products of one operand of ``a`` and one of ``b``."""
    corners = [x * y for x in a for y in b]
    return terms * min(0, *corners), terms * max(0, *corners)
