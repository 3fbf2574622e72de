"""Texts that cost time and follow from other texts, kept in the cache folder: products, verdicts of lint and proofs."""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

from gen import toolchain
from golden.files import write


def kept(kind: str, made_from: tuple[str, ...], make: Callable[[], str], read: Callable[[str], Any] = str) -> Any:
    """``read`` of ``make()``, or of what it gave before for the same ``made_from``: all that decides it, versions of
    tools included. What fails leaves nothing behind; what cannot be read is made again."""
    key = hashlib.sha256("\0".join(made_from).encode()).hexdigest()
    path = toolchain.cache_folder() / kind / key[:2] / key[2:34]
    if path.exists():
        with contextlib.suppress(ValueError, TypeError):
            return read(path.read_text(encoding="utf-8"))
    text = make()
    write(path, text)
    return read(text)
