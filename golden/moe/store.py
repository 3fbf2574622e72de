"""Conversions in a file: one NumPy ``npz`` of indices and names of formats, no weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from golden import npz
from golden.moe.convert import Conversion
from golden.moe.llama import Conversions
from golden.moe.mixed import Formats
from golden.moe.quantizers import named
from golden.moe.spec import MOST_NEURONS, ConversionSpec
from golden.spec import SpecError, told

ARRAYS = ("shared", "experts", "representatives", "threshold", "unmarked")


class Record(NamedTuple):
    """What a file holds."""

    spec: ConversionSpec
    origin: str
    """what was converted, by what text"""
    conversions: Conversions
    formats: Mapping[int, Sequence[Formats]] = {}
    """of each layer's shared block and routed experts; none: all in Q4_1, as are files without formats"""


def save(path: Path, record: Record) -> None:
    """Written beside the file and then renamed: whoever reads it, or is interrupted, has the old file or the new."""
    layers = sorted(record.conversions)
    arrays: dict[str, Any] = {name: np.array([getattr(record.conversions[i], name) for i in layers]) for name in ARRAYS}
    for name in ("shared", "experts", "representatives"):
        arrays[name] = arrays[name].astype(np.uint32)
    if record.formats:
        arrays["formats"] = np.array([[[f.name for f in one] for one in record.formats[i]] for i in layers])
    about = {"spec": np.array(record.spec.to_toml()), "origin": np.array(record.origin), "layers": np.array(layers)}
    npz.save(path, about | arrays)


def load(path: Path) -> Record:
    """Inverse of :func:`save`; :class:`~golden.spec.SpecError` for another kind of file."""
    raw = npz.load(path, ("spec", "origin", "layers", *ARRAYS), "conversion", optional=("formats",))
    spec = ConversionSpec.from_toml(str(raw["spec"]))
    _check(spec, raw, f"conversion {path}")
    names, layers = raw.get("formats", ()), raw["layers"].tolist()
    formats = {i: [Formats(*map(named, one)) for one in mine] for i, mine in zip(layers, names, strict=False)}
    return Record(spec, str(raw["origin"]), {i: _layer(spec, raw, at) for at, i in enumerate(layers)}, formats)


def _check(spec: ConversionSpec, raw: npz.Arrays, what: str) -> None:
    """That every layer is a partition of neurons, and its formats are names."""
    count, _, size = (*raw["experts"].shape, 0, 0, 0)[:3]
    neurons = (spec.shared + spec.routed) * size
    one = {"experts": (count, spec.routed, size), "representatives": (count, spec.routed)}
    npz.integers(raw, one | {"shared": (count, spec.shared * size)}, neurons - 1, what)
    npz.integers(raw, {"layers": (count,), "unmarked": (count,)}, MOST_NEURONS, what)
    npz.floats(raw, {"threshold": (count,)}, what)
    if len(set(raw["layers"].tolist())) != count:
        raise SpecError(f"layers of {what} must differ, not {told(raw['layers'].tolist())}")
    for shared, experts, representatives in zip(*(raw[name] for name in ARRAYS[:3]), strict=True):
        if not np.array_equal(np.sort(np.r_[shared, experts.ravel()]), np.arange(neurons)):
            raise SpecError(f"experts of {what} must have every neuron of {neurons} once")
        if not (experts == representatives[:, None]).any(axis=1).all():
            raise SpecError(f"representatives of {what} must each be in their expert")
    formats = raw.get("formats", np.full((count, 1, len(Formats._fields)), ""))
    if formats.ndim != 3 or formats.dtype.kind != "U" or formats[:, 0].shape != (count, len(Formats._fields)):
        raise SpecError(f"formats of {what} must be names, not {formats.dtype} of shape {formats.shape}")


def _layer(spec: ConversionSpec, raw: dict[str, np.ndarray], at: int) -> Conversion:
    shared, experts, representatives = (raw[name][at].astype(np.int64) for name in ARRAYS[:3])
    return Conversion(spec, shared, experts, representatives, float(raw["threshold"][at]), int(raw["unmarked"][at]))
