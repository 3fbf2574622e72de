"""Experts as memory has them: 4-bit weights (Q4_1), each expert in one piece, and a descriptor of each."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import q4_1
from golden.mixpe.layer import sqnr
from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Int
from golden.spec import SpecError


class Stored(NamedTuple):
    """The matrices of a network, or of an expert, in Q4_1."""

    gate: q4_1.Matrix
    """``[neurons, d]``"""
    up: q4_1.Matrix
    """``[neurons, d]``"""
    down: q4_1.Matrix
    """``[d, neurons]``"""

    def ffn(self) -> Ffn:
        """The numbers that they stand for, float32."""
        return Ffn(*(q4_1.dequantise(*matrix) for matrix in self))


class Descriptor(NamedTuple):
    """Where an expert is: neurons count in the packed order, offsets are bytes from the beginning of the image."""

    first: int
    """its first neuron"""
    neurons: int
    gate: int
    """offset of its rows of gate: ``neurons`` rows of ``d / 32`` blocks"""
    up: int
    """likewise of up"""
    down: int
    """offset of its columns of down: ``d`` rows of ``neurons / 32`` blocks"""
    formats: tuple[str, str, str] = ("q4_1", "q4_1", "q4_1")
    """of gate, up and down"""


@dataclass(frozen=True, eq=False)
class Packed:
    """A converted network's weights."""

    image: NDArray[np.uint8]
    """shared block, then expert after expert; of each gate, up, down, in blocks of 20 bytes (:mod:`golden.q4_1`)"""
    descriptors: tuple[Descriptor, ...]
    """of the shared block, then of each routed expert"""
    order: Int
    """``[dh]``: the dense network's neuron at each packed place; a routed expert's first is its representative"""
    width: int
    """d"""
    down_sqnr: float
    """dB: down's weights as stored before against those packed, which were quantised once more"""

    def expert(self, index: int) -> Stored:
        """The shared block (0) or routed expert ``index - 1``, read from the image."""
        at = self.descriptors[index]
        shapes = {"gate": (at.neurons, self.width), "up": (at.neurons, self.width), "down": (self.width, at.neurons)}
        return Stored(*(self._matrix(getattr(at, name), *shape) for name, shape in shapes.items()))

    def router(self) -> Ffn:
        """The representatives' network, one neuron per routed expert: neuron 0 of each; its down matrix is no part of
        the router."""
        parts = [self.expert(i).ffn() for i in range(1, len(self.descriptors))]
        gate, up = (np.stack([getattr(part, name)[0] for part in parts]) for name in ("gate", "up"))
        return Ffn(gate, up, np.stack([part.down[:, 0] for part in parts], axis=1))

    def _matrix(self, offset: int, rows: int, cols: int) -> q4_1.Matrix:
        end = offset + rows * cols // q4_1.GROUP * q4_1.BYTES
        return q4_1.unpack(self.image[offset:end], rows, cols)


def pack(dense: Stored, conversion: Conversion) -> Packed:
    """``dense`` cut into the experts of ``conversion``.

    Rows of gate and up keep their blocks, bit for bit: those run along the inputs. Blocks of down run along the
    neurons, so its weights are gathered in the new order and quantised again (:func:`golden.q4_1.quantise`), which adds
    the error that ``down_sqnr`` states.

    Raises :class:`~golden.spec.SpecError` where an expert's width is no multiple of 32, a block's length, or the
    conversion is that of another width.
    """
    if conversion.size % q4_1.GROUP:
        raise SpecError(f"neurons of an expert must be a multiple of {q4_1.GROUP} for Q4_1, not {conversion.size}")
    if len(dense.gate.codes) != conversion.neurons:
        raise SpecError(f"neurons must be {conversion.neurons}, as in the conversion, not {len(dense.gate.codes)}")
    order = packed_order(conversion)
    stored = q4_1.dequantise(*dense.down)
    whole = Stored(_rows(dense.gate, order), _rows(dense.up, order), q4_1.quantise(stored[:, order]))
    pieces: list[NDArray[np.uint8]] = []
    descriptors: list[Descriptor] = []
    first = end = 0
    for neurons in (len(conversion.shared), *map(len, conversion.experts)):
        part = [q4_1.pack(*matrix).ravel() for matrix in _between(whole, first, first + neurons)]
        gate, up, down, end = itertools.accumulate(map(len, part), initial=end)
        descriptors.append(Descriptor(first, neurons, gate, up, down))
        pieces += part
        first += neurons
    noise = sqnr(stored[:, order], q4_1.dequantise(*whole.down))
    return Packed(np.concatenate(pieces), tuple(descriptors), order, len(stored), noise)


def again_quantised(down: NDArray[np.float32], conversion: Conversion) -> NDArray[np.float32]:
    """Weights ``down [d, dh]`` as packed experts have them, in the dense network's order."""
    order = packed_order(conversion)
    again = np.empty_like(down)
    again[:, order] = q4_1.dequantise(*q4_1.quantise(down[:, order]))
    return again


def packed_order(conversion: Conversion) -> Int:
    """``[dh]``: the shared block, then each expert, its representative before the others."""
    experts = [
        np.concatenate([[representative], neurons[neurons != representative]])
        for neurons, representative in zip(conversion.experts, conversion.representatives, strict=True)
    ]
    return np.concatenate([conversion.shared, *experts])


def _rows(matrix: q4_1.Matrix, which: Int | slice) -> q4_1.Matrix:
    return q4_1.Matrix(matrix.codes[which], matrix.d[which], matrix.m[which])


def _between(whole: Stored, first: int, end: int) -> Stored:
    """The neurons from ``first`` to ``end``, multiples of a block's length."""
    rows, blocks = slice(first, end), slice(first // q4_1.GROUP, end // q4_1.GROUP)
    down = q4_1.Matrix(whole.down.codes[:, rows], whole.down.d[:, blocks], whole.down.m[:, blocks])
    return Stored(_rows(whole.gate, rows), _rows(whole.up, rows), down)
