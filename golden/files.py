"""Files that are written whole or not at all: the one way in which results leave the program."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from golden.spec import SpecError


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A file beside ``path`` to be written to, which takes its name when the block ends, and is gone where it fails.

    Folders are made. :class:`~golden.spec.SpecError` where that cannot be.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")  # the ending stays: what kind of file it is
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as e:
        raise SpecError(f"output {path} cannot be written: {e.strerror or e}") from None
    finally:
        with contextlib.suppress(OSError):  # not there, as a rule
            part.unlink()


def write(path: Path | str, data: str | bytes) -> None:
    """A file; text in UTF-8, its line ends as they are."""
    with replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def write_all(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Files of a folder: all are complete before the first takes its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".senbazuru-", dir=folder) as temporary:
            for name, text in files.items():
                (Path(temporary) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(temporary) / name).write_bytes(text.encode())
            for name in files:
                if (folder / name).is_dir():
                    raise SpecError(f"output folder {folder} must be writable: {name} is a directory")
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(temporary) / name).replace(folder / name)
    except OSError as e:
        raise SpecError(f"output folder {folder} must be writable: {e.strerror}") from None
    return [folder / name for name in files]
