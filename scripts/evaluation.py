"""What quantisation costs in accuracy: perplexity of a whole model, and signal to noise of the fixture's layer.

A *row* says what becomes of weights and of activations. Products of the two are float32: what the engines sum exactly
is rounded on the way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1, quantize
from golden.kmeans import layer as kmeans
from golden.llama.approximate import READERS, Approximate, Approximation, Place, Recorder
from golden.llama.forward import silu
from golden.llama.perplexity import check, surprises
from golden.llama.weights import Layer, Weights
from golden.mixpe.layer import sqnr
from golden.spec import SpecError

Array = NDArray[np.floating[Any]]
Say = Callable[[str], None]

TEXT = "evaluation_text.txt"


class Row(Protocol):
    """What becomes of a linear layer."""

    def matrix(self, w: Array, x: Array) -> Array:
        """The weights that stand for ``w[N, K]``, whose inputs are like ``x[M, K]``."""
        ...

    def inputs(self, x: Array, matrices: Sequence[Array]) -> Approximation:
        """What stands for activations; ``x[M, K]`` are examples, ``matrices`` what reads them."""
        ...

    @property
    def weights(self) -> object:
        """Rows of equal ``weights`` have the same matrices."""
        ...


@dataclass(frozen=True)
class Stored:
    """Weights as stored (Q4_1); activations float32, or integers with a scale per token."""

    act: str = ""
    """integer format, none: float32"""

    weights: object = None

    def matrix(self, w: Array, x: Array) -> Array:
        return w

    def inputs(self, x: Array, matrices: Sequence[Array]) -> Approximation:
        return self._integers if self.act else lambda x: x

    def _integers(self, x: Array) -> Array:
        q = quantize.quantise_tokens(x, self.act)
        return q.codes * q.scale[:, None]


@dataclass
class Indexed:
    """Activations as indices, outliers as they are; counts them."""

    calibration: kmeans.Calibration
    static: bool
    outliers: int = 0
    values: int = 0

    def __call__(self, x: Array) -> Array:
        codes = kmeans.fp16_codes(x)
        keep = self.calibration.outliers(codes, self.static)
        self.outliers += int(keep.sum())
        self.values += keep.size
        return self.calibration.approximate(codes, keep)


def outlier_percent(inputs: Iterable[Approximation]) -> float:
    """Of all activations that were approximated by indices so far."""
    indexed = [one for one in inputs if isinstance(one, Indexed)]
    return 100 * sum(one.outliers for one in indexed) / max(1, sum(one.values for one in indexed))


@dataclass(frozen=True)
class KMeans:
    """K-Means indices on both sides."""

    weight_bits: int
    act_bits: int
    """16: FP16 as they are"""
    percent: float = 0
    """of the activations of a token are outliers"""
    static: bool = False
    """Outliers by thresholds found beforehand, not by rank."""
    weighting: str = "sensitivity"

    @property
    def name(self) -> str:
        share = f"-{self.percent:g}%" if self.percent else ""
        return f"kmeans-w{self.weight_bits}a{self.act_bits}{share}{'-static' * self.static}"

    @property
    def weights(self) -> object:
        return self.weight_bits, self.weighting

    def matrix(self, w: Array, x: Array) -> Array:
        return kmeans.quantise_matrix(w, self.weight_bits, self.weighting, np.square(x).mean(axis=0)).values

    def inputs(self, x: Array, matrices: Sequence[Array]) -> Approximation:
        if self.act_bits == 16:
            return lambda x: kmeans.values(kmeans.fp16_codes(x))
        k = kmeans.outliers_per_side(self.percent / 100, x.shape[1])
        felt = sum(np.square(w, dtype=np.float64).sum(axis=0) for w in matrices)
        found = kmeans.calibrate(x, self.act_bits, k, self.weighting, np.asarray(felt), self.static)
        return Indexed(found, self.static)


def _kmeans() -> Iterator[KMeans]:
    for w, acts in ((4, (16, 4, 3)), (3, (16, 4))):
        for a in acts:
            yield KMeans(w, a)
            if a < 16:
                yield from (KMeans(w, a, percent) for percent in (0.5, 1, 2))
                yield KMeans(w, a, 1, static=True)


REFERENCE = "float32"

ROWS: dict[str, Row] = {
    REFERENCE: Stored(),
    "mixpe-w4a8": Stored("int8"),
    "mixpe-w4a4": Stored("int4"),
    **{row.name: row for row in _kmeans()},
}
"""By name. ``mixpe-...``: weights as stored, activations as :func:`golden.mixpe.layer.real_gemm` has them."""


def chosen(names: str | None, weighting: str) -> dict[str, Row]:
    """The rows of those names, commas between them; :class:`~golden.spec.SpecError` for an unknown one."""
    wanted = names.split(",") if names else list(ROWS)
    for name in wanted:
        if name not in ROWS:
            raise SpecError(f"rows must be among {', '.join(ROWS)}, not {name!r}")
    rows = {name: ROWS[name] for name in wanted}
    return {name: replace(r, weighting=weighting) if isinstance(r, KMeans) else r for name, r in rows.items()}


def text() -> str:
    """The text that perplexity is measured on."""
    return (files("golden") / "data" / TEXT).read_text(encoding="utf-8")


def foretold(
    weights: Weights, calibration: Sequence[int], tokens: Sequence[int], window: int, rows: Mapping[str, Row], say: Say
) -> Iterator[tuple[str, NDArray[np.float64], float]]:
    """Surprise at each of ``tokens``, and the percentage of outliers, for each row; ``calibration`` is read with
    float32 first, and is all that codebooks, scales and thresholds are learned from."""
    check(tokens, window)
    recorder = Recorder(weights)
    recorder.hidden(calibration)
    made: tuple[object, Weights] = (None, weights)
    for name, row in rows.items():
        if row.weights != made[0]:
            say(f"{name}: weights")
            made = row.weights, _replaced(weights, row, recorder.seen) if row.weights else weights
        say(f"{name}: activations")
        inputs = {place: row.inputs(x, _readers(weights, place)) for place, x in recorder.seen.items()}
        model = Approximate(made[1], inputs)
        nats = surprises(model, tokens, window, partial(_progress, say, name))
        yield name, nats, outlier_percent(inputs.values())


def _progress(say: Say, name: str, tokens: int) -> None:
    say(f"{name}: {tokens} tokens")


def _readers(weights: Weights, place: Place) -> list[Array]:
    layer, group = place
    return [getattr(weights.layers[layer], name) for name in READERS[group]]


def _replaced(weights: Weights, row: Row, seen: Mapping[Place, Array]) -> Weights:
    """The same model with the row's matrices."""

    def layer(i: int, old: Layer) -> Layer:
        new = {n: row.matrix(getattr(old, n), seen[i, group]) for group, names in READERS.items() for n in names}
        return replace(old, **{name: matrix.astype(np.float32, copy=False) for name, matrix in new.items()})

    return replace(weights, layers=[layer(i, weights.layers[i]) for i in range(len(weights.layers))])


def layer_sqnr(rows: Mapping[str, Row]) -> Iterator[tuple[str, dict[str, float]]]:
    """Of the fixture's three matrices, in dB against float32 of the stored weights: learned from the first half of its
    tokens, measured on the second."""
    f = fixture.load()
    gate, up, down = (q4_1.dequantise(*m) for m in (f.gate, f.up, f.down))
    hidden = silu(f.x @ gate.T) * (f.x @ up.T)
    half = len(f.x) // 2
    groups: list[tuple[Array, dict[str, Array]]] = [(f.x, {"gate": gate, "up": up}), (hidden, {"down": down})]
    made: tuple[object, dict[str, Array]] = (None, {})
    for name, row in rows.items():
        if row.weights != made[0] or not made[1]:
            made = row.weights, {n: row.matrix(w, x[:half]) for x, group in groups for n, w in group.items()}
        found: dict[str, float] = {}
        inputs = []
        for x, group in groups:
            inputs.append(row.inputs(x[:half], list(group.values())))
            seen = inputs[-1](x[half:])
            found |= {f"{n} dB": sqnr(x[half:] @ w.T, seen @ made[1][n].T) for n, w in group.items()}
        yield name, found | {"outliers %": outlier_percent(inputs)}
