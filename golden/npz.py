"""Arrays in a NumPy ``npz`` file that whoever reads it, or is interrupted, has whole or not at all."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import files
from golden.spec import SpecError

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
            size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise SpecError(f"{what} {path} must hold its arrays uncompressed")
        with np.load(path, allow_pickle=False) as npz:
            return {name: npz[name] for name in (*names, *(set(optional) & set(npz.files)))}
    except SpecError:
        raise
    except OSError as e:
        raise SpecError(f"{what} {path} cannot be read: {e.strerror or e}") from None
    except Exception as e:  # damage surfaces as ValueError, KeyError, BadZipFile, NotImplementedError, MemoryError, ...
        raise SpecError(f"{what} {path} cannot be read: {e.args[0] if e.args else type(e).__name__}") from None


def floats(found: Arrays, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises :class:`~golden.spec.SpecError` where an array is none of finite floating-point numbers of that shape."""
    for name, shape in shapes.items():
        a = found[name]
        if a.shape != shape or a.dtype.kind != "f" or not np.isfinite(a).all():
            of = f"{a.dtype} of shape {a.shape}" if a.shape != shape or a.dtype.kind != "f" else "others"
            raise SpecError(f"{name} of {what} must be finite floating-point numbers of shape {shape}, not {of}")
