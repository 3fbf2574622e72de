"""Weights of experts: numbers of one format for all, or of one per expert and matrix, and how memory holds those.

An engine for all formats has INT8 operands with a minimum (``int8_min``): every code becomes such an operand on its way
in, so that a narrow code costs memory and bandwidth of its own width, and the same multiplications.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

Int = NDArray[np.int64]

BITS = (2, 3, 4, 8)
"""Of a code."""

KINDS = ("unsigned", "signed", "lookup")
"""What a code is: a number, or an index into its expert's codebook, K-Means centroids for example."""

SHARES = 8
"""Sizes of groups: that of the engine times a power of two below this, or the whole column if that is shorter."""

ENTRIES = 16
"""Of a codebook, INT8 each."""

ANY = "int8_min"
"""The engine's format that all others become."""


@dataclass(frozen=True)
class Precision:
    """Of a matrix: ``bits`` of a code, their ``kind``, and ``2**share`` groups of the engine under one scale and
    minimum. A weight is ``scale * operand + min``; codes of 8 bits are signed, those of a codebook have 4 at most.

    ``SpecError`` for any other.
    """

    bits: int = 4
    kind: str = "unsigned"
    share: int = 0

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise SpecError(f"bits must be one of {', '.join(map(str, BITS))}, not {self.bits}")
        if self.kind not in KINDS:
            raise SpecError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.bits == 8 and self.kind != "signed":
            raise SpecError(f"kind must be signed with 8 bits, not {self.kind!r}")
        if not 0 <= self.share < SHARES:
            raise SpecError(f"share must be an integer between 0 and {SHARES - 1}, not {self.share}")

    @property
    def codes(self) -> tuple[int, int]:
        """The least and the largest."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.kind == "signed" else (0, 2 * half - 1)

    def fields(self) -> dict[str, int]:
        """As a descriptor has them."""
        return {"bits": BITS.index(self.bits), "kind": KINDS.index(self.kind), "share": self.share}

    def beats(self, steps: int) -> int:
        """Of codes, a byte per column each."""
        return steps * self.bits // 8

    def parameters(self, groups: int) -> int:
        """Beats of parameters of a tile."""
        return -(-groups >> self.share)


class Weights(NamedTuple):
    """Of a GEMM, inputs first: codes ``[K, N]``, scales and minima or zero points ``[groups, N]``; with ``precision``
    one row of these per ``2**share`` groups."""

    codes: NDArray[Any]
    scale: NDArray[Any]
    extra: NDArray[Any] | None = None
    precision: Precision | None = None


class Expert(NamedTuple):
    """``up``: ``[d, 2m]``, gate and up of neuron j in columns 2j and 2j + 1; ``down``: ``[m, d]``; ``codebook``:
    :data:`ENTRIES` INT8 numbers that indices of both stand for."""

    up: Weights
    down: Weights
    codebook: Int | None = None

    @property
    def neurons(self) -> int:
        return len(self.down.codes)

    @property
    def matrices(self) -> tuple[Weights, Weights]:
        return self.up, self.down


def plain(weights: Weights, codebook: Int | None, group: int) -> Weights:
    """As the engine computes with them: operands, parameters of each of its groups of ``group`` inputs.

    :class:`~golden.spec.SpecError` for codes or parameters that are not those of the precision, and for indices without
    codebook.
    """
    precision = weights.precision
    if precision is None:
        return weights
    codes = np.asarray(weights.codes, np.int64)
    _check(weights, precision, len(codes) // group)
    if precision.kind == "lookup":
        if codebook is None:
            raise SpecError("codebook must be given where kind is lookup")
        if np.shape(codebook) != (ENTRIES,):
            raise SpecError(f"codebook must have {ENTRIES} numbers, not shape {list(np.shape(codebook))}")
        codes = codebook[codes]
    scale, extra = (_each(part, 1 << precision.share, len(codes) // group) for part in (weights.scale, weights.extra))
    assert scale is not None
    return Weights(codes, scale, extra)


def _check(weights: Weights, precision: Precision, groups: int) -> None:
    low, high = precision.codes
    codes = weights.codes
    if codes.size and not low <= codes.min() <= codes.max() <= high:
        raise SpecError(f"codes must lie between {low} and {high}, not {codes.min()}..{codes.max()}")
    shape = (precision.parameters(groups), codes.shape[1])
    for name, part in (("scale", weights.scale), ("extra", weights.extra)):
        if part is None or part.shape != shape:
            found = "None" if part is None else list(part.shape)
            raise SpecError(f"{name} must have shape {list(shape)}, not {found}")


def _each(part: NDArray[Any] | None, share: int, groups: int) -> NDArray[Any] | None:
    return None if part is None else np.repeat(part, share, axis=0)[:groups]


def dense(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Of a tile ``[steps, cols]`` the bytes ``[beats, cols]``: each column's codes one behind the other, the first in
    the low bits of its first byte; ``steps`` are a multiple of 8."""
    each = (np.asarray(codes, np.int64).T[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8).reshape(len(each), -1), axis=1, bitorder="little").T
