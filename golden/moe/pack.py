"""Experts as memory has them: 4-bit weights (Q4_1) or formats of their own, each expert in one piece, and a descriptor
of each."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import q4_1
from golden.mixpe.layer import sqnr
from golden.moe import mixed
from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Int
from golden.moe.mixed import Formats, Part
from golden.moe.quantizers import Q4_1, Int8, Quantised, from_q4_1, named, unpack
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
    """offset of its rows of gate: in Q4_1 ``neurons`` rows of ``d / 32`` blocks, else
    :meth:`golden.moe.quantizers.Quantised.pack`"""
    up: int
    """likewise of up"""
    down: int
    """offset of its columns of down: in Q4_1 ``d`` rows of ``neurons / 32`` blocks"""
    formats: tuple[str, str, str] = (Q4_1.name,) * 3
    """of gate, up and down: :func:`golden.moe.quantizers.named`"""
    codebook: tuple[int, ...] = ()
    """the operands of formats ``lookup``"""


@dataclass(frozen=True, eq=False)
class Packed:
    """A converted network's weights."""

    image: NDArray[np.uint8]
    """shared block, then expert after expert; of each gate, up, down, in the descriptor's formats; Q4_1 in blocks of 20
    bytes (:mod:`golden.q4_1`)"""
    descriptors: tuple[Descriptor, ...]
    """of the shared block, then of each routed expert"""
    order: Int
    """``[dh]``: the dense network's neuron at each packed place; a routed expert's first is its representative"""
    width: int
    """d"""
    down_sqnr: float
    """dB: down's weights as stored before against those packed, which were quantised once more"""
    rows: int | None = None
    """offset of the router's rows in Q4_1, as they were: gate of every representative, then up; ``None``: no other ones
    than each routed expert's neuron 0"""

    def expert(self, index: int) -> Stored:
        """The shared block (0) or routed expert ``index - 1``, read from the image; it must be in Q4_1."""
        at = self.descriptors[index]
        if at.formats != Descriptor._field_defaults["formats"]:
            raise SpecError(f"formats must be {Q4_1.name} for blocks of Q4_1, not {', '.join(at.formats)}")
        shapes = {"gate": (at.neurons, self.width), "up": (at.neurons, self.width), "down": (self.width, at.neurons)}
        return Stored(*(self._matrix(getattr(at, name), *shape) for name, shape in shapes.items()))

    def weights(self, index: int) -> mixed.Weights:
        """The same in whatever formats."""
        at = self.descriptors[index]
        book = np.array(at.codebook, np.int8) if at.codebook else None
        shapes = ((self.width, at.neurons), (self.width, at.neurons), (at.neurons, self.width))
        places = zip((at.gate, at.up, at.down), at.formats, shapes, strict=True)
        return mixed.Weights(*(self._quantised(offset, name, k, n, book) for offset, name, (k, n) in places))

    def router(self) -> Ffn:
        """The representatives' network, one neuron per routed expert; its down matrix is no part of the router, and 0
        where the router has rows of its own."""
        if self.rows is not None:
            gate, up = (q4_1.dequantise(*matrix) for matrix in self.router_rows())
            return Ffn(gate, up, np.zeros(gate.T.shape, np.float32))
        parts = [self.expert(i).ffn() for i in range(1, len(self.descriptors))]
        gate, up = (np.stack([getattr(part, name)[0] for part in parts]) for name in ("gate", "up"))
        return Ffn(gate, up, np.stack([part.down[:, 0] for part in parts], axis=1))

    def router_rows(self) -> tuple[q4_1.Matrix, q4_1.Matrix]:
        """Gate and up of every representative, as stored."""
        routed = len(self.descriptors) - 1
        if self.rows is not None:
            both = self._matrix(self.rows, 2 * routed, self.width)
            return _rows(both, slice(routed)), _rows(both, slice(routed, None))
        parts = [self.expert(i) for i in range(1, routed + 1)]
        gate, up = (
            q4_1.Matrix(*(np.concatenate([field[:1] for field in each]) for each in zip(*matrices, strict=True)))
            for matrices in zip(*(part[:2] for part in parts), strict=True)
        )
        return gate, up

    def _matrix(self, offset: int, rows: int, cols: int) -> q4_1.Matrix:
        end = offset + rows * cols // q4_1.GROUP * q4_1.BYTES
        return q4_1.unpack(self.image[offset:end], rows, cols)

    def _quantised(self, offset: int, name: str, k: int, n: int, book: Int8 | None) -> Quantised:
        form = named(name)
        if form == Q4_1:
            return from_q4_1(self._matrix(offset, n, k))
        raw = self.image[offset : offset + form.size(k, n)]
        return unpack(raw, form, k, n, book if form.kind == "lookup" else None)


def pack(dense: Stored, conversion: Conversion, formats: Sequence[Formats] | None = None) -> Packed:
    """``dense`` cut into the experts of ``conversion``: all in Q4_1, or each in its ``formats``, the shared block's
    first.

    In Q4_1 rows of gate and up keep their blocks, bit for bit: those run along the inputs. Blocks of down run along the
    neurons, so its weights are gathered in the new order and quantised again (:func:`golden.q4_1.quantise`), which adds
    the error that ``down_sqnr`` states. With ``formats`` the router's rows follow at the end, in Q4_1: it chooses as it
    did before.

    Raises :class:`~golden.spec.SpecError` where an expert's width is no multiple of 32, a block's length, the
    conversion is that of another width, or there are not as many formats as experts.
    """
    parts = list(cut(dense, conversion))
    if formats is not None and len(formats) != len(parts):
        raise SpecError(f"formats must be one per expert ({len(parts)}), not {len(formats)}")
    made = [mixed.weights(*both) for both in zip(parts, formats or [Formats(Q4_1, Q4_1)] * len(parts), strict=True)]
    pieces, descriptors = _laid_out(made, parts)
    end = sum(map(len, pieces))
    if formats is not None:
        rows = (_rows(matrix, conversion.representatives) for matrix in (dense.gate, dense.up))
        pieces += [q4_1.pack(*both).ravel() for both in rows]
    down = np.concatenate([part.exact.down for part in parts], axis=1)
    noise = sqnr(down, np.concatenate([one.ffn().down for one in made], axis=1))
    order, rows_at = packed_order(conversion), None if formats is None else end
    return Packed(np.concatenate(pieces), tuple(descriptors), order, len(down), noise, rows_at)


def _laid_out(made: Sequence[mixed.Weights], parts: Sequence[Part]) -> tuple[list[NDArray[np.uint8]], list[Descriptor]]:
    """Experts one behind the other."""
    pieces: list[NDArray[np.uint8]] = []
    descriptors: list[Descriptor] = []
    first = end = 0
    for one, part in zip(made, parts, strict=True):
        each = [_bytes(*both) for both in zip(one, part.stored, strict=True)]
        gate, up, down, end = itertools.accumulate(map(len, each), initial=end)
        names = [matrix.format.name for matrix in one]
        books = [matrix.codebook for matrix in one if matrix.codebook is not None]
        book = tuple(books[0].tolist()) if books else ()
        neurons = part.exact.neurons
        descriptors.append(Descriptor(first, neurons, gate, up, down, (names[0], names[1], names[2]), book))
        pieces += each
        first += neurons
    return pieces, descriptors


def _bytes(matrix: Quantised, stored: q4_1.Matrix) -> NDArray[np.uint8]:
    return q4_1.pack(*stored).ravel() if matrix.format == Q4_1 else matrix.pack()


def cut(dense: Stored, conversion: Conversion) -> Iterator[Part]:
    """The shared block, then each expert, neurons in the packed order; raises as :func:`pack`."""
    if conversion.size % q4_1.GROUP:
        raise SpecError(f"neurons of an expert must be a multiple of {q4_1.GROUP} for Q4_1, not {conversion.size}")
    if len(dense.gate.codes) != conversion.neurons:
        raise SpecError(f"neurons must be {conversion.neurons}, as in the conversion, not {len(dense.gate.codes)}")
    order = packed_order(conversion)
    exact = dense.ffn().part(order)
    whole = Stored(_rows(dense.gate, order), _rows(dense.up, order), q4_1.quantise(exact.down))
    first = 0
    for neurons in (len(conversion.shared), *map(len, conversion.experts)):
        end = first + neurons
        yield Part(_between(whole, first, end), exact.part(np.arange(first, end)))
        first = end


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
