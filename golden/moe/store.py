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
from golden.moe.spec import ConversionSpec

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
    names = raw.get("formats", ())
    spec = ConversionSpec.from_toml(str(raw["spec"]))
    layers = raw["layers"].tolist()
    formats = {i: [Formats(*map(named, one)) for one in mine] for i, mine in zip(layers, names, strict=False)}
    return Record(spec, str(raw["origin"]), {i: _layer(spec, raw, at) for at, i in enumerate(layers)}, formats)


def _layer(spec: ConversionSpec, raw: dict[str, np.ndarray], at: int) -> Conversion:
    shared, experts, representatives = (raw[name][at].astype(np.int64) for name in ARRAYS[:3])
    return Conversion(spec, shared, experts, representatives, float(raw["threshold"][at]), int(raw["unmarked"][at]))
