"""Texts that cost time and follow from other texts, kept in the cache folder: products, verdicts of lint and proofs."""

import hashlib
import os
import tempfile
from collections.abc import Callable

from gen import toolchain


def kept(kind: str, made_from: tuple[str, ...], make: Callable[[], str]) -> str:
    """``make()``, or what it gave before for the same ``made_from``: all that decides it, versions of tools included.
    What fails leaves nothing behind."""
    key = hashlib.sha256("\0".join(made_from).encode()).hexdigest()
    path = toolchain.cache_folder() / kind / key[:2] / key[2:34]
    if path.exists():
        return path.read_text(encoding="utf-8")
    text = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as partial:
        partial.write(text)
    os.replace(partial.name, path)
    return text
