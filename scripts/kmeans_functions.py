"""How far tables of functions over K-Means indices are from the functions: ``python -m scripts.kmeans_functions``.

Data: what the fixture's gate matrix gives for its text, ``[tokens, 1536]``, the argument of SiLU in the real model; the
other functions have the same. One K-Means codebook for all tokens, a table per exponent. Moments are those of the
fixture's inputs, ``[tokens, 576]``, which follow the layer's RMSNorm.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.kmeans.function import Group, KMeansFunctionSpec, Table, Vector
from golden.kmeans.layer import Calibration, calibrate
from golden.kmeans.tables import FUNCTIONS, Entries, cell_errors, exact_values, moments, values

Real = NDArray[np.float64]

FORMATS = ("int8", "int16", "fp16")


def main() -> None:
    head = ("function", "bits", "entries", "rounding", "bound", "largest", "SQNR dB", "input dB")
    print("{:>9}{:>5}{:>8}{:>10}{:>10}{:>10}{:>9}{:>9}".format(*head))
    for bits in (3, 4):
        for function in FUNCTIONS:
            for entries in FORMATS:
                figures = errors(function, bits, entries)
                print(f"{function:>9}{bits:5}{entries:>8}" + "{:10.5f}{:10.5f}{:10.5f}{:9.2f}{:9.2f}".format(*figures))
    print("\nroot of the mean square of a token, from the histogram, relative to that of its activations")
    for bits in (3, 4):
        off = rms(bits) - 1
        print(f"bits {bits}: mean {off.mean():+.4f}, {off.min():+.4f} to {off.max():+.4f}")


@cache
def gate() -> NDArray[np.float32]:
    """The argument of SiLU, in FP16."""
    data = fixture.load()
    return (data.x @ q4_1.dequantise(*data.gate).astype(np.float32).T).astype(np.float16).astype(np.float32)


def errors(function: str, bits: int, entries: str) -> tuple[float, ...]:
    """Largest rounding of an entry, largest bound of a cell, largest error that came; SQNR of the function's values and
    of its argument. Of exp the argument is less the largest centroid."""
    x = gate()
    parts = list(_tokens(function, x, calibrate(x, bits), entries))
    rounding, bound, largest = (max(part[i] for part in parts) for i in range(3))
    noise, power, noise_in, power_in = np.sum([part[3:] for part in parts], axis=0)
    return float(rounding), float(bound), float(largest), _db(power / noise), _db(power_in / noise_in)


def _tokens(function: str, x: NDArray[np.float32], learned: Calibration, entries: str) -> Iterator[tuple[float, ...]]:
    f, book, made = FUNCTIONS[function], learned.book, dict[int, Entries]()
    for row, index, e in zip(x.astype(np.float64), *learned.indices(x), strict=True):
        table = made.setdefault(int(e), values(function, book, int(e), entries))
        bound = cell_errors(function, book, int(e), table.numbers, row.min(), row.max())
        centroids = np.ldexp(book.centroids.astype(np.float64), e)
        want = f.of(row - centroids[-1] if function == "exp" else row)
        off, off_in = table.numbers[index] - want, centroids[index] - row
        yield (
            np.abs(table.numbers - exact_values(function, book, int(e))).max(),
            bound[index].max(),
            np.abs(off).max(),
            *(float(np.square(a).sum()) for a in (off, want, off_in, row)),
        )


def rms(bits: int) -> Real:
    """Of every token, by the unit's model: ``2**e * sqrt(second / count)``, over that of the activations."""
    x = fixture.load().x
    learned = calibrate(x, bits)
    spec = KMeansFunctionSpec(bits=bits)
    table = Table(np.zeros(spec.entries, np.int64), *moments(learned.book))
    index, e = learned.indices(x)
    stats = spec.compute(Group(table, tuple(map(Vector, index)))).stats
    got = np.ldexp(np.sqrt(stats[:, 2] / stats[:, 0]), e)
    return got / np.sqrt(np.square(x.astype(np.float64)).mean(axis=1))


def _db(ratio: float) -> float:
    return float(10 * np.log10(ratio))


if __name__ == "__main__":
    main()
