"""Tables of functions over a codebook, made offline, and how far they are from the functions.

An index j stands for ``x = 2**e * C[j]``. A table of SiLU, GELU or exp is therefore for one codebook and one ``e``: a
token with another exponent needs another table. ReLU, and the moments, take the scale out: their tables are for all e.

Exact is that a table's entry is the function at the centroid, rounded once, to the entry's format, and that the unit
hands out that entry. Approximated is the function's argument: the centroid stands for all activations of its cell.
:func:`cell_errors` says how far the function can be from the entry in each cell.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from golden.formats import FLOATS
from golden.kmeans.codebook import Codebook
from golden.kmeans.function import VALUES
from golden.spec import SpecError

Int = NDArray[np.int64]
Real = NDArray[np.float64]


@dataclass(frozen=True)
class Function:
    """A function of real numbers, with the place where it turns from falling to rising (None: it only rises)."""

    name: str
    of: Callable[[Real], Real]
    turns: float | None = None


def _silu(x: Real) -> Real:
    return x / (1 + np.exp(-x.clip(-700)))


def _gelu(x: Real) -> Real:
    return x * (1 + np.vectorize(erf, otypes=[np.float64])(x / sqrt(2))) / 2


FUNCTIONS = {
    f.name: f
    for f in (
        Function("silu", _silu, -1.2784645427610738),
        Function("gelu", _gelu, -0.7517915246935645),
        Function("relu", lambda x: np.maximum(x, 0)),
        Function("exp", np.exp),
    )
}
"""GELU is the one with the error function. exp is that of ``x - 2**e * C[-1]``: softmax does not change by a common
factor, and no entry is above 1 (of :func:`values`; :class:`Function` is plain exp)."""


@dataclass(frozen=True, eq=False)
class Entries:
    """A table: ``codes`` are what the unit is loaded with, worth ``numbers``; of integers ``2**exponent * codes``, of
    indices ``2**exponent * C_out[codes]``."""

    codes: Int
    numbers: Real
    exponent: int


def values(function: str, book: Codebook, e: int, value: str, output: tuple[Codebook, int] | None = None) -> Entries:
    """The table of a function over ``2**e * book`` in format ``value`` of the unit.

    Integers have the smallest exponent with which the largest entry fits; FP16 is rounded to nearest, even, and too
    large is infinite; an index is that of the value in the codebook ``output``, under the exponent beside it.
    ``SpecError`` for an unknown function or format, and for an index without a codebook of its size.
    """
    exact = exact_values(function, book, e)
    if value == "fp16":
        rounded = FLOATS["fp16"].rounded(exact)
        return Entries(FLOATS["fp16"].code(rounded), rounded.astype(np.float64), 0)
    if value.startswith("index"):
        return _indices(exact, value, output)
    _known("value", value, VALUES)
    codes, exponent = fixed(exact, VALUES[value].width)
    return Entries(codes, np.ldexp(codes.astype(np.float64), exponent), exponent)


def exact_values(function: str, book: Codebook, e: int) -> Real:
    """The function at every centroid, as float64 has it."""
    _known("function", function, FUNCTIONS)
    return FUNCTIONS[function].of(_arguments(function, book, np.ldexp(book.centroids.astype(np.float64), e), e))


def _arguments(function: str, book: Codebook, x: Real, e: int) -> Real:
    """Numbers as the function sees them: of exp less the largest that there is an index for."""
    return x - np.ldexp(float(book.centroids[-1]), e) if function == "exp" else x


def fixed(numbers: Real, bits: int) -> tuple[Int, int]:
    """Integers of ``bits`` bits, rounded to nearest, even, and their exponent: the smallest with which none clips."""
    largest = np.abs(numbers).max()
    exponent = int(np.frexp(largest)[1]) - (bits - 1) if largest else 0
    top = (1 << (bits - 1)) - 1
    exponent += int(np.rint(np.ldexp(largest, -exponent)) > top)
    return np.rint(np.ldexp(numbers, -exponent)).astype(np.int64), exponent


def _indices(exact: Real, value: str, output: tuple[Codebook, int] | None) -> Entries:
    if output is None or value != f"index{output[0].bits}":
        have = "none" if output is None else f"one of {output[0].bits} bits"
        raise SpecError(f"output must be a codebook for {value}, not {have}")
    book, exponent = output
    codes = book.index(np.floor(np.ldexp(exact, 1 - exponent)).astype(np.int64))
    return Entries(codes, np.ldexp(book.centroids[codes].astype(np.float64), exponent), exponent)


def moments(book: Codebook) -> tuple[Int, Int]:
    """``first`` and ``second`` for RMSNorm and LayerNorm: centroids and their squares, for every e. Sums are worth
    ``2**e * first`` and ``2**(2*e) * second``, exactly those of ``2**e * C[i]``."""
    return book.centroids, book.centroids**2


def cell_errors(function: str, book: Codebook, e: int, numbers: Real, low: float, high: float) -> Real:
    """Largest ``|f(x) - numbers[j]|`` over all x of each cell, the outer ones cut at ``low`` and ``high``; a cell that
    is empty has 0.

    A cell is between two boundaries. Within it the function rises, or falls, or turns once: the largest difference is
    at an end or where it turns.
    """
    _known("function", function, FUNCTIONS)
    inner = np.ldexp(book.boundaries.astype(np.float64), e - 1).clip(low, high)
    ends = _arguments(function, book, np.array([low, *inner, high]), e)
    below, above, f = ends[:-1], ends[1:], FUNCTIONS[function]
    middle = below if f.turns is None else np.clip(f.turns, below, above)
    errors = np.max([np.abs(f.of(x) - numbers) for x in (below, middle, above)], axis=0)
    return np.where(below < above, errors, 0)


def _known(what: str, name: str, among: Iterable[str]) -> None:
    if name not in (known := tuple(among)):
        raise SpecError(f"{what} must be one of {', '.join(known)}, not {name!r}")
