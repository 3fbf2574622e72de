"""GGUF files, read: fields by name, and where tensors are. Nothing in the file is believed before it is checked.

::

    "GGUF", version, number of tensors, number of fields
    fields     name, kind, value                        an array: kind, length, values
    tensors    name, sizes (inputs first), type, offset from the data's beginning
    data       begins at a multiple of general.alignment, 32 unless given

Words are little-endian, lengths and offsets have 64 bits. Every length is compared with what is left of the file before
anything of that length is made, so that no file takes more memory than a few times its own size, or hangs.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError, told

VERSIONS = (2, 3)

STRING, ARRAY = 8, 9

SCALARS = dict(enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"))) | dict(
    enumerate(("<u8", "<i8", "<f8"), ARRAY + 1)
)
"""NumPy's name of a kind of value."""

MOST_SIZES = 4
"""Of a tensor."""

TYPED = {"F32": "<f4", "F16": "<f2"}
"""Tensors that are no blocks of bytes, by type."""


class Damaged(ValueError):
    """Not a GGUF file, or not all of one: what is wrong with it."""


class Stored(NamedTuple):
    """A tensor: the name of its type, inputs and outputs, and the file's bytes, or numbers, one row per output."""

    type: str
    shape: tuple[int, ...]
    data: NDArray[Any]


class _Cursor:
    def __init__(self, data: mmap.mmap):
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Damaged(f"{count} bytes at {self.at} must be in the file, which has {self.left} there")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0])

    def text(self) -> str:
        try:
            return self.take(self.number("Q")).decode()
        except UnicodeDecodeError:
            raise Damaged(f"text before {self.at} must be UTF-8") from None

    def value(self, kind: int) -> Any:
        return self._values(self.number("I"), self.number("Q")) if kind == ARRAY else self._values(kind, 1)[0]

    def _values(self, kind: int, count: int) -> list[Any]:
        if kind == STRING:
            return [self.text() for _ in range(count)]
        if kind not in SCALARS:
            raise Damaged(f"kind of a value before {self.at} must be a number or a text, not {kind}")
        of = np.dtype(SCALARS[kind])
        found: list[Any] = np.frombuffer(self.take(count * of.itemsize), of).tolist()
        return found


def read(path: Path, sizes: Mapping[int, tuple[str, int, int]]) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Fields, and tensors, whose bytes stay in the file until they are looked at.

    ``sizes``: a type's name, weights of a block, bytes of a block. :class:`~golden.spec.SpecError` for what cannot be
    read, :class:`Damaged` for what can, but is wrong.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as e:
        raise SpecError(f"model file {path} cannot be read: {e.strerror}") from None
    except ValueError:
        raise Damaged("it is empty") from None
    cursor = _Cursor(data)
    if (magic := cursor.take(min(4, cursor.left))) != b"GGUF":
        raise Damaged(f"it must begin with GGUF, not {told(magic)}")
    version, tensors, fields = cursor.number("I"), cursor.number("Q"), cursor.number("Q")
    if version not in VERSIONS:
        raise Damaged(f"version must be one of {', '.join(map(str, VERSIONS))}, not {version}")
    found: dict[str, Any] = {}
    for _ in range(fields):
        name = _new(cursor, found)
        found[name] = cursor.value(cursor.number("I"))
    places = dict[str, tuple[tuple[int, ...], int, int]]()
    for _ in range(tensors):
        name, count = _new(cursor, places), cursor.number("I")
        if not 1 <= count <= MOST_SIZES:
            raise Damaged(f"number of sizes of tensor {told(name)} must be between 1 and {MOST_SIZES}, not {count}")
        shape = tuple(cursor.number("Q") for _ in range(count))
        places[name] = shape, cursor.number("I"), cursor.number("Q")
    alignment = found.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment.bit_count() != 1:
        raise Damaged(f"general.alignment must be a power of two, not {told(alignment)}")
    begin = -(-cursor.at // alignment) * alignment
    whole = np.frombuffer(data, np.uint8)
    return found, {name: _stored(name, whole, begin, place, sizes) for name, place in places.items()}


def _new(cursor: _Cursor, among: Mapping[str, Any]) -> str:
    name = cursor.text()
    if name in among:
        raise Damaged(f"{told(name)} must be there once")
    return name


def _stored(
    name: str,
    whole: NDArray[np.uint8],
    begin: int,
    place: tuple[tuple[int, ...], int, int],
    sizes: Mapping[int, tuple[str, int, int]],
) -> Stored:
    shape, number, offset = place
    if number not in sizes:
        raise Damaged(f"type of tensor {told(name)} must be known, not {number}")
    kind, weights, size = sizes[number]
    if shape[0] % weights or 0 in shape:
        raise Damaged(f"inputs of tensor {told(name)} must be a positive multiple of {weights}, not {shape[0]}")
    count = math.prod(shape) // weights * size
    first = begin + offset
    if first + count > len(whole):
        raise Damaged(f"tensor {told(name)} must end within the file's {len(whole)} bytes, not at {first + count}")
    rows = whole[first : first + count].reshape(*reversed(shape[1:]), shape[0] // weights * size)
    return Stored(kind, shape, rows.view(TYPED[kind]) if kind in TYPED else rows)
