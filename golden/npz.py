"""Arrays in a NumPy ``npz`` file that whoever reads it, or is interrupted, has whole or not at all."""

import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format
from numpy.typing import NDArray

from golden import files
from golden.spec import SpecError, told

Arrays = dict[str, NDArray[Any]]


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """:class:`~golden.spec.SpecError` where that cannot be."""
    with files.replacing(path) as part, part.open("wb") as f:
        np.savez(f, **arrays)


def load(path: Path, names: Iterable[str], what: str, optional: Iterable[str] = ()) -> Arrays:
    """Those arrays of a file, and ``optional`` ones that it has; :class:`~golden.spec.SpecError` (``what`` begins it)
    for another kind of file.

    Nothing in it is executed, and nothing larger than the file itself is unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            size = sum(member.file_size for member in members.values())
            if size > path.stat().st_size or any(member.compress_type for member in members.values()):
                raise SpecError(f"{what} {path} must hold its arrays uncompressed")
            wanted = (*names, *(name for name in optional if name in members))
            if absent := [name for name in wanted if name not in members]:
                raise SpecError(f"{what} {path} must have an array {absent[0]}")
            return {name: _array(name, archive.read(members[name])) for name in wanted}
    except SpecError:
        raise
    except OSError as e:
        raise SpecError(f"{what} {path} cannot be read: {e.strerror or e}") from None
    except Exception as e:  # damage surfaces as ValueError, KeyError, BadZipFile, NotImplementedError, MemoryError, ...
        raise SpecError(f"{what} {path} cannot be read: {e.args[0] if e.args else type(e).__name__}") from None


def _array(name: str, data: bytes) -> NDArray[Any]:
    """One that is as long as its header says: NumPy would make room for any length first."""
    file = io.BytesIO(data)
    version = format.read_magic(file)
    read = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
    shape, order, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError(f"{name} must be an array of numbers or text")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{name} must have the bytes of an array of shape {told(shape)}")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if order else "C").copy()


def integers(found: Arrays, shapes: Mapping[str, tuple[int, ...]], most: int, what: str) -> None:
    """Raises :class:`~golden.spec.SpecError` where an array is none of integers from 0 to ``most`` of that shape."""
    for name, shape in shapes.items():
        a = found[name]
        if a.shape != shape or a.dtype.kind not in "iu" or a.min(initial=0) < 0 or a.max(initial=0) > most:
            of = f"{a.dtype} of shape {a.shape}" if a.shape != shape or a.dtype.kind not in "iu" else "others"
            raise SpecError(f"{name} of {what} must be integers of shape {shape} between 0 and {most}, not {of}")


def floats(found: Arrays, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises :class:`~golden.spec.SpecError` where an array is none of finite floating-point numbers of that shape."""
    for name, shape in shapes.items():
        a = found[name]
        if a.shape != shape or a.dtype.kind != "f" or not np.isfinite(a).all():
            of = f"{a.dtype} of shape {a.shape}" if a.shape != shape or a.dtype.kind != "f" else "others"
            raise SpecError(f"{name} of {what} must be finite floating-point numbers of shape {shape}, not {of}")
