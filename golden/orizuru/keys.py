"""Key formats: how a bit pattern becomes an unsigned integer that sorts as its value does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True)
class KeyFormat:
    """A format of ``bits``; ``kind`` is ``float`` (sign and magnitude), ``int`` (two's complement) or ``uint``.

    Values travel as ``int64``: bit patterns of floats, integers as they are.
    """

    name: str
    bits: int
    kind: str

    @property
    def low(self) -> int:
        """Smallest value of an array of this format; the smallest pattern of floats."""
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def high(self) -> int:
        return self.low + (1 << self.bits) - 1

    def order(self, values: Int) -> Int:
        """Sortable keys, ``0 .. 2**bits - 1``.

        Floats: ``-NaN < -inf < ... < -0 < +0 < ... < +inf < +NaN``, NaNs by their payload: no two patterns are
        equal.
        """
        top = 1 << (self.bits - 1)
        if self.kind == "float":
            return np.where(values & top, ~values & (2 * top - 1), values | top)
        return values - self.low

    def magnitude(self, values: Int) -> Int:
        """Sortable keys of ``|value|``: of floats the pattern without its sign, so NaN is above infinity."""
        return values & ((1 << (self.bits - 1)) - 1) if self.kind == "float" else np.abs(values)


KEYS = {
    f.name: f
    for f in (
        KeyFormat("fp16", 16, "float"),
        KeyFormat("bf16", 16, "float"),
        KeyFormat("fp32", 32, "float"),
        KeyFormat("int8", 8, "int"),
        KeyFormat("int16", 16, "int"),
        KeyFormat("uint8", 8, "uint"),
        KeyFormat("uint16", 16, "uint"),
    )
}
