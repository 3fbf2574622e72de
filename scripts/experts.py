"""A whole language model as a mixture of experts: converted, kept layer by layer, and read a text with."""

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.registry import set_layer
from golden import q4_1
from golden.llama.forward import Array, Llama
from golden.llama.perplexity import surprises
from golden.llama.weights import Config, ModelFile, Weights
from golden.model_store import cache_folder
from golden.moe import mixed, spectral, store
from golden.moe.clusters import first
from golden.moe.convert import Conversion
from golden.moe.ffn import Real
from golden.moe.llama import Conversions, Converter, MoeLlama, Surveyor
from golden.moe.mixed import Formats
from golden.moe.pack import Stored, again_quantised
from golden.moe.spec import PRESETS, ConversionSpec, preset, shape
from golden.spec import SpecError

Say = Callable[[str], None]

TEXT = "calibration_text.txt"
TOKENS = 2048
"""So many of the text's tokens are read."""

SURVEYED = 512
"""So many of them say what formats cost."""

RANK = 16
"""Rows of each projection of a spectral score, where an expert has so many neurons."""


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """What :func:`specification` reads."""
    what = "as the authors' code has it (default), or their paper"
    fields = ", ".join(p["name"] for p in ConversionSpec.parameters())
    parser.add_argument("--variant", choices=tuple(PRESETS), help=what)
    parser.add_argument("--set", metavar="key=value", nargs="+", default=[], help=f"among {fields}")


def specification(name: str, args: argparse.Namespace) -> ConversionSpec:
    """Of a name such as S3A3E8 and what else the arguments set; :class:`~golden.spec.SpecError` for bad ones."""
    values: dict[str, Any] = preset(args.variant or "code") | shape(name)
    for setting in args.set:
        values |= set_layer(setting)
    return ConversionSpec.from_values(values)


def text() -> str:
    """What conversions are calibrated with; perplexity is measured on another one."""
    return (files("golden") / "data" / TEXT).read_text(encoding="utf-8")


def origin(model: Path, tokens: Sequence[int], layers: Sequence[int]) -> str:
    """What a conversion depends on but its specification, in a line."""
    with model.open("rb") as f:
        weights = hashlib.file_digest(f, "sha256").hexdigest()
    read = hashlib.sha256(np.array(tokens, np.int64).tobytes()).hexdigest()
    return f"model {weights[:16]}, {len(tokens)} tokens {read[:16]}, layers {' '.join(map(str, layers))}"


def place(spec: ConversionSpec, made_from: str) -> Path:
    """Where a conversion is kept in the cache folder."""
    digest = hashlib.sha256(f"{spec.to_toml()}\0{made_from}".encode()).hexdigest()
    return cache_folder() / "moe" / f"{spec.name}-{digest[:16]}.npz"


def converted(
    file: ModelFile,
    spec: ConversionSpec,
    tokens: Sequence[int],
    layers: Sequence[int],
    output: Path | None,
    say: Say,
) -> tuple[Path, Conversions]:
    """The layers' conversions, and the file where they are: in the cache folder unless ``output`` says another one.

    Layers that the file has are taken from it; each other one is written as soon as it is found, so that what was
    interrupted goes on where it was. :class:`~golden.spec.SpecError` for a file of another conversion, which stays as
    it is.
    """
    made_from = origin(file.path, tokens, layers)
    path = output or place(spec, made_from)
    record = _there(path, spec, made_from)

    def found(layer: int) -> None:
        store.save(path, record)
        warning = record.conversions[layer].warning
        say(f"{spec.name}: layer {layer}" + (f": {warning}" if warning else ""))

    if set(layers) - set(record.conversions):
        Converter(up_to(file.weights(), max(layers)), spec, record.conversions, layers, found).hidden(tokens)
    return path, record.conversions


def up_to(weights: Weights, layer: int) -> Weights:
    """The model without what comes after a layer."""
    return replace(weights, config=replace(weights.config, layers=layer + 1))


def blocks(file: ModelFile, layer: int) -> Stored:
    """A layer's network as stored."""
    return Stored(*(file.matrix(layer, name) for name in Stored._fields))


def surveyed(
    file: ModelFile, conversions: Conversions, tokens: Sequence[int], say: Say
) -> Mapping[int, Sequence[mixed.Errors]]:
    """What every format costs, by :data:`SURVEYED` of the calibration tokens at most."""
    weights = up_to(file.weights(), max(conversions))
    survey = Surveyor(weights, conversions, partial(blocks, file), lambda i: say(f"layer {i}: errors of all formats"))
    survey.hidden(tokens[:SURVEYED])
    return survey.errors


def chosen(errors: Mapping[int, Sequence[mixed.Errors]], width: int, budget: int) -> dict[int, list[Formats]]:
    """Formats of all layers' experts, in so many bytes with the router's rows."""
    fixed = sum(mixed.router_bytes(len(layer) - 1, width) for layer in errors.values())
    every = [one for layer in errors.values() for one in layer]
    found = iter(mixed.choose(every, width, budget - fixed)[0])
    return {i: [next(found) for _ in layer] for i, layer in errors.items()}


def sizes(spec: ConversionSpec, neurons: int) -> list[int]:
    """Neurons of the shared block and of each routed expert."""
    size = spec.size(neurons)
    return [spec.shared * size, *[size] * spec.routed]


def check_size(spec: ConversionSpec, neurons: int) -> None:
    """:class:`~golden.spec.SpecError` for experts that are no whole blocks."""
    size = spec.size(neurons)
    if size % q4_1.GROUP:
        raise SpecError(f"neurons of an expert must be a multiple of {q4_1.GROUP} for Q4_1, not {size}")


def check_budget(file: ModelFile, spec: ConversionSpec, layers: Sequence[int], budget: int) -> None:
    """:class:`~golden.spec.SpecError` for a budget that no formats fit, and for layers that cannot be packed."""
    check_size(spec, file.config.ffn)
    for layer in layers:
        blocks(file, layer)
    least = len(layers) * mixed.least_bytes(sizes(spec, file.config.ffn), file.config.width)
    if budget < least:
        raise SpecError(f"budget-bytes must be at least {least}, all experts in their smallest formats, not {budget}")


def budgeted(
    file: ModelFile,
    spec: ConversionSpec,
    tokens: Sequence[int],
    layers: Sequence[int],
    budget: int,
    output: Path | None,
    say: Say,
) -> tuple[Path, store.Record]:
    """As :func:`converted`, and the best formats of the experts within so many bytes for all layers together.

    The conversion itself is kept in the cache too, where another budget finds it.
    """
    check_budget(file, spec, layers, budget)
    made_from = f"{origin(file.path, tokens, layers)}, at most {budget} bytes"
    path = output or place(spec, made_from)
    record = _there(path, spec, made_from)
    if not record.formats:
        record = record._replace(conversions=converted(file, spec, tokens, layers, None, say)[1])
        store.save(path, record)  # now: a place that cannot be written is told before the long part
        errors = surveyed(file, record.conversions, tokens, say)
        record = record._replace(formats=chosen(errors, file.config.width, budget))
        store.save(path, record)
    return path, record


def summary(record: store.Record, config: Config) -> dict[str, object]:
    """Bytes of the experts and of the router's rows, per weight, over those in float32; and how many experts have each
    format, of gate and up, and of down."""
    neurons = sizes(record.spec, config.ffn)
    size = sum(mixed.image_bytes(formats, neurons, config.width) for formats in record.formats.values())
    count = 3 * config.ffn * config.width * len(record.formats)
    every = [one for formats in record.formats.values() for one in formats]
    return {
        "bytes": size,
        "bits per weight": round(8 * size / count, 3),
        "of float32": round(size / count / 4, 4),
        **{
            name: dict(sorted(Counter(form.name for form in column).items()))
            for name, column in zip(Formats._fields, zip(*every, strict=True), strict=True)
        },
    }


def _there(path: Path, spec: ConversionSpec, made_from: str) -> store.Record:
    """What the file has of that conversion; :class:`~golden.spec.SpecError` if it is of another one."""
    if not path.exists():
        return store.Record(spec, made_from, {})
    record = store.load(path)
    if record[:2] != (spec, made_from):
        raise SpecError(f"output {path} must be of the same conversion or not there, not of {record.spec.name}")
    return record


class Counting(MoeLlama):
    """Chooses by the router, and counts."""

    tokens = used = 0

    def select(self, layer: int, x: Array, hidden: Array) -> Real:
        weights = self.pick(layer, x, hidden)
        self.tokens += len(weights)
        self.used += int(np.count_nonzero(weights))
        return weights

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        """What :meth:`select` is to have selected."""
        return super().select(layer, x, hidden)

    @property
    def mean(self) -> float:
        """Routed experts of a token and layer, on average."""
        return self.used / max(1, self.tokens)


class Oracle(Counting):
    """The experts whose hidden values are largest, magnitudes added: no router can know them beforehand."""

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        return best(mass(hidden, self.conversions[layer]), self.conversions[layer])


class Random(Counting):
    """Any."""

    def __init__(self, weights: Weights, conversions: Conversions) -> None:
        super().__init__(weights, conversions)
        self._rng = np.random.default_rng(1)

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        conversion = self.conversions[layer]
        return best(self._rng.random((len(x), conversion.spec.routed)), conversion)


class Learner(Counting):
    """Learns from the tokens of its last call: each expert's mean mass, and projections of that rank."""

    def __init__(self, weights: Weights, conversions: Conversions, rank: int) -> None:
        super().__init__(weights, conversions)
        self._rank = rank
        self.masses: dict[int, Real] = {}
        self.projections: dict[int, spectral.Projections] = {}

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        conversion = self.conversions[layer]
        self.masses[layer] = mass(hidden, conversion).mean(axis=0)
        self.projections[layer] = spectral.learn(x, self.network(layer), conversion, self._rank)
        return super().pick(layer, x, hidden)


class Static(Counting):
    """The same experts for all tokens: those of the largest mass when the calibration tokens were read."""

    def __init__(self, weights: Weights, conversions: Conversions, masses: Mapping[int, Real]) -> None:
        super().__init__(weights, conversions)
        self._masses = masses

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        return best(np.tile(self._masses[layer], (len(x), 1)), self.conversions[layer])


class Spectral(Counting):
    """By scores of several combined rows in place of the representative's."""

    def __init__(
        self, weights: Weights, conversions: Conversions, projections: Mapping[int, spectral.Projections]
    ) -> None:
        super().__init__(weights, conversions)
        self._projections = projections

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        return best(spectral.scores(x, self._projections[layer]), self.conversions[layer])


def mass(hidden: Array, conversion: Conversion) -> Real:
    """``[T, routed]``: magnitudes of hidden values ``[T, dh]``, added over each routed expert."""
    total: Real = np.abs(hidden)[:, conversion.experts].sum(axis=2)
    return total


def best(keys: Real, conversion: Conversion) -> Real:
    """1 for the ``active`` largest keys of each row, else 0."""
    weights = np.zeros_like(keys)
    np.put_along_axis(weights, first(-keys, conversion.spec.active), 1, axis=1)
    return weights


def packed(weights: Weights, conversions: Conversions) -> Weights:
    """The model with the down matrices that packed experts have."""

    def layer(i: int) -> Any:
        old = weights.layers[i]
        return replace(old, down=again_quantised(old.down, conversions[i])) if i in conversions else old

    return replace(weights, layers=[layer(i) for i in range(len(weights.layers))])


def models(
    weights: Weights, conversions: Conversions, tokens: Sequence[int], rank: int | None
) -> Iterator[tuple[str, Counting]]:
    """Ways to choose among the same experts; ``tokens`` are those of the calibration."""
    yield "router", Counting(weights, conversions)
    if all(c.size % q4_1.GROUP == 0 for c in conversions.values()):
        yield "packed", Counting(packed(weights, conversions), conversions)
    limits = {i: c.with_router(selection="threshold") for i, c in conversions.items()}
    yield "threshold", Counting(weights, limits)
    yield "random", Random(weights, conversions)
    narrowest = min(c.size for c in conversions.values())
    learner = Learner(weights, conversions, min(RANK, narrowest) if rank is None else rank)
    learner.hidden(tokens)
    yield "static", Static(weights, conversions, learner.masses)
    yield "spectral", Spectral(weights, conversions, learner.projections)
    yield "oracle", Oracle(weights, conversions)


def read(
    weights: Weights,
    conversions: Mapping[str, Conversions],
    calibration: Sequence[int],
    tokens: Sequence[int],
    window: int,
    rank: int | None,
    say: Say,
) -> Iterator[tuple[str, NDArray[np.float64], float]]:
    """Surprise at each of ``tokens``, and routed experts per token and layer: of the dense model, and of every way to
    choose among every conversion's experts."""

    def nats(name: str, model: Llama) -> NDArray[np.float64]:
        return surprises(model, tokens, window, partial(_progress, say, name))

    yield "dense", nats("dense", Llama(weights)), 0.0
    for which, found in conversions.items():
        for how, model in models(weights, found, calibration, rank):
            name = f"{which} {how}"
            yield name, nats(name, model), model.mean


def _progress(say: Say, name: str, tokens: int) -> None:
    say(f"{name}: {tokens} tokens")
