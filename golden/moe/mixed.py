"""Experts whose matrices have formats of their own: how they are quantised, what each format costs, and which ones are
best within a number of bytes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import q4_1
from golden.moe import knapsack
from golden.moe.ffn import Ffn, Real
from golden.moe.knapsack import Candidate
from golden.moe.precision import ENTRIES, Expert, Precision
from golden.moe.precision import Weights as Operands
from golden.moe.quantizers import Q4_1, Format, Int8, Quantised, codebook, from_q4_1, named, quantise
from golden.spec import SpecError


class Formats(NamedTuple):
    """Of an expert."""

    up: Format
    """of gate and of up"""
    down: Format

    @property
    def names(self) -> tuple[str, str, str]:
        """Of gate, up and down."""
        return self.up.name, self.up.name, self.down.name

    def size(self, neurons: int, width: int) -> int:
        """Bytes of an expert."""
        return 2 * self.up.size(width, neurons) + self.down.size(neurons, width)

    @property
    def lookup_bits(self) -> int:
        """Of an index into the expert's codebook; 0: it has none. An expert has one codebook at most:
        :class:`~golden.spec.SpecError` where its matrices have indices of different widths."""
        widths = {form.bits for form in self if form.kind == "lookup"}
        if len(widths) > 1:
            raise SpecError(f"formats must have one codebook per expert, not those of {self.up.name}, {self.down.name}")
        return max(widths, default=0)


class Part(NamedTuple):
    """An expert before it is given formats."""

    stored: tuple[q4_1.Matrix, q4_1.Matrix, q4_1.Matrix]
    """gate, up and down in Q4_1: the first two as they were, the last quantised again"""
    exact: Ffn
    """the weights as they were, float32"""


class Weights(NamedTuple):
    """An expert as it is stored, inputs first: gate and up ``[d, m]``, down ``[m, d]``."""

    gate: Quantised
    up: Quantised
    down: Quantised

    def ffn(self) -> Ffn:
        """The numbers that they stand for, float32."""
        return Ffn(*(matrix.values().T.astype(np.float32) for matrix in self))


def expert(weights: Weights) -> Expert:
    """As ``expert_ffn`` takes it with ``weight=mixed``; :class:`~golden.spec.SpecError` where gate and up have not one
    format, or the matrices not one codebook."""
    if weights.gate.format != weights.up.format:
        raise SpecError(f"up must be in the format of gate, {weights.gate.format.name}, not {weights.up.format.name}")
    gate, up, down = map(_operands, weights)
    assert gate.extra is not None and up.extra is not None

    def interleaved(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return np.stack((a, b), axis=2).reshape(len(a), -1)

    codes, scale = interleaved(gate.codes, up.codes), interleaved(gate.scale, up.scale)
    both = Operands(codes, scale, interleaved(gate.extra, up.extra), gate.precision)
    books = [matrix.codebook for matrix in weights if matrix.codebook is not None]
    if any(not np.array_equal(book, books[0]) for book in books):
        raise SpecError("codebook must be the same for all matrices of an expert")
    return Expert(both, down, np.pad(books[0].astype(np.int64), (0, ENTRIES - len(books[0]))) if books else None)


def _operands(matrix: Quantised) -> Operands:
    least = np.zeros_like(matrix.scale) if matrix.minimum is None else matrix.minimum
    return Operands(matrix.codes.astype(np.int64), matrix.scale, least, Precision(*matrix.format))


CANDIDATES = tuple(
    map(
        named,
        (
            *("lookup2x128", "lookup2x64", "lookup2x32", "unsigned2x32"),
            *("lookup3x128", "lookup3x64", "lookup3x32", "unsigned3x32"),
            *("signed4", "signed4x64", "lookup4x128", "lookup4x64", "q4_1"),
            "signed8",
        ),
    )
)
"""What a choice is made from. In Q4_1 gate and up are as they were."""


def pairs(candidates: Sequence[Format] = CANDIDATES) -> Iterator[Formats]:
    """All formats of an expert that need one codebook at most."""
    for up in candidates:
        for down in candidates:
            if up.kind != "lookup" or down.kind != "lookup" or up.bits == down.bits:
                yield Formats(up, down)


def image_bytes(formats: Sequence[Formats], neurons: Sequence[int], width: int) -> int:
    """Of a layer: the shared block and routed experts of so many neurons, and the router's rows in Q4_1."""
    experts = sum(one.size(m, width) for one, m in zip(formats, neurons, strict=True))
    return experts + router_bytes(len(neurons) - 1, width)


def router_bytes(routed: int, width: int) -> int:
    """Of the router's rows of a layer."""
    return Q4_1.size(width, 2 * routed)


def least_bytes(neurons: Sequence[int], width: int) -> int:
    """The smallest that a layer can be."""
    return image_bytes([min(pairs(), key=lambda f: f.size(m, width)) for m in neurons], neurons, width)


def learned(part: Part, bits: int) -> Int8:
    """An expert's codebook, of all three matrices."""
    return codebook([matrix.T for matrix in (part.exact.gate, part.exact.up, part.exact.down)], bits)


def weights(part: Part, formats: Formats) -> Weights:
    """The expert in those formats."""
    book = learned(part, formats.lookup_bits) if formats.lookup_bits else None
    gate, up = (_matrix(part, which, formats.up, book) for which in (0, 1))
    return Weights(gate, up, _matrix(part, 2, formats.down, book))


def _matrix(part: Part, which: int, form: Format, book: Int8 | None) -> Quantised:
    if form == Q4_1:
        return from_q4_1(part.stored[which])
    exact = (part.exact.gate, part.exact.up, part.exact.down)[which]
    return quantise(exact.T, form, book if form.kind == "lookup" else None)


class Errors(NamedTuple):
    """What each format of an expert's matrices costs, the other ones exact."""

    neurons: int
    up: Mapping[Format, float]
    down: Mapping[Format, float]

    def candidates(self, width: int) -> dict[Formats, Candidate]:
        """Both together: taken as independent, errors add up."""
        return {f: Candidate(f.size(self.neurons, width), self.up[f.up] + self.down[f.down]) for f in pairs(CANDIDATES)}


def errors(part: Part, x: Real, weight: Real) -> Errors:
    """``sum over tokens of weight * |change of the expert's result|^2`` for every candidate; ``x [T, d]`` are the
    expert's own tokens, ``weight [T]`` theirs."""
    exact = part.exact
    hidden = exact.hidden(x)
    books = {bits: learned(part, bits) for bits in {f.bits for f in CANDIDATES if f.kind == "lookup"}}

    def matrix(which: int, form: Format) -> NDArray[np.float32]:
        values = _matrix(part, which, form, books.get(form.bits)).values()
        return values.T.astype(np.float32, order="C")  # as the exact ones: the same products are then the same bits

    def cost(change: Real) -> float:
        return float((np.square(change, dtype=np.float64).sum(axis=1) * weight).sum())

    def up(form: Format) -> float:
        changed = replace(exact, gate=matrix(0, form), up=matrix(1, form))
        return cost((changed.hidden(x) - hidden) @ exact.down.T)

    def down(form: Format) -> float:
        return cost(hidden @ (matrix(2, form) - exact.down).T)

    return Errors(len(hidden.T), {f: up(f) for f in CANDIDATES}, {f: down(f) for f in CANDIDATES})


def choose(experts: Sequence[Errors], width: int, budget: int) -> tuple[list[Formats], knapsack.Choice]:
    """The formats of all experts that together cost least in ``budget`` bytes (:func:`golden.moe.knapsack.choose`)."""
    tables = [one.candidates(width) for one in experts]
    choice = knapsack.choose([list(table.values()) for table in tables], budget)
    return [list(table)[pick] for table, pick in zip(tables, choice.picks, strict=True)], choice
