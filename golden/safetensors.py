"""Tensors of a safetensors file: the length of a JSON header in 8 bytes, the header, the bytes of all tensors."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError, told

TYPES = {"I8": "i1", "U8": "u1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""NumPy's names."""


def read(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The tensors of those names; :class:`~golden.spec.SpecError` for another kind of file, or without one of them."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise SpecError(f"tensor file {path} cannot be read: {e.strerror}") from None
    end = 8 + int.from_bytes(raw[:8], "little")
    if not 8 < end <= len(raw):
        raise SpecError(f"tensor file {path} must have a header within its {len(raw)} bytes, not up to {end}")
    try:
        header = json.loads(raw[8:end])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise SpecError(f"tensor file {path} must have a header in JSON")
    return {name: _tensor(f"tensor {name} of {path}", raw[end:], header.get(name)) for name in names}


def _tensor(what: str, data: bytes, about: Any) -> NDArray[Any]:
    match about:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(first), int(last)]} if kind in TYPES:
            of = np.dtype(TYPES[kind])
        case None:
            raise SpecError(f"{what} must be there")
        case _:
            raise SpecError(f"{what} must have dtype, shape and data_offsets of a known kind, not {told(about)}")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
        raise SpecError(f"{what} must be of a shape of sizes, not {told(shape)}")
    if not 0 <= first <= last <= len(data) or last - first != math.prod(shape) * of.itemsize:
        rule = f"must have its {told(math.prod(shape) * of.itemsize)} bytes among {len(data)}"
        raise SpecError(f"{what} {rule}, not from {told(first)} to {told(last)}")
    return np.frombuffer(data[first:last], of).reshape(shape)
