"""The examples, run as their users run them. What they build is kept with the other builds."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gen import toolchain
from tb.build import locked

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SOURCES = [p for package in ("gen", "golden", "hdl") for p in sorted((ROOT / package).rglob("*.py"))]


def environment(folder: Path) -> dict[str, str]:
    """What ``eval "$(senbazuru doctor --env)"`` sets, and a ``senbazuru`` of this working copy on PATH."""
    command = folder / "bin" / "senbazuru"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m scripts.cli "$@"\n')
    command.chmod(0o755)
    tool = toolchain.verilator()
    path = os.pathsep.join((str(command.parent), str(Path(sys.executable).parent), tool.environment["PATH"]))
    root = {"PYTHONPATH": str(ROOT), "MAKEFLAGS": " ".join(tool.make)}
    return os.environ | tool.environment | root | {"PATH": path, "VERILATOR": str(tool.program)}


def made(name: str) -> tuple[str, Path]:
    """What an example prints when it runs, and its folder; built anew when anything has changed that could be in it."""
    sources = [p for p in sorted((EXAMPLES / name).iterdir()) if p.is_file()]
    parts = [p.read_bytes() for p in (*sources, *SOURCES)] + [repr(toolchain.verilator()).encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = toolchain.cache_folder() / "examples" / f"{name}-{digest}"
    with locked(folder):
        if not folder.exists():
            shutil.copytree(
                EXAMPLES / name, folder, ignore=shutil.ignore_patterns("out", "obj*", "*.hex", "*.txt", "*.vh")
            )
        # Below `make test` it would name its folder before and after what the example says.
        command = [toolchain.make(), "--no-print-directory"]
        run = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, folder


@pytest.mark.xdist_group("verilator_cpp")
def test_a_harness_in_cpp_plays_a_matrix_product(tmp_path: Path) -> None:
    said, folder = made("verilator_cpp")
    assert said.endswith("24 beats of results in 419 cycles, 0 wrong\n")
    beats = (folder / "beats.txt").read_text().splitlines()
    (tmp_path / "wrong.txt").write_text("\n".join([*beats[:-1], beats[-1][:-1] + "0"]))  # no tlast on the last
    harness = str(folder / "obj_mixpe" / "Vmixpe")
    run = subprocess.run([harness, "wrong.txt"], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "24 beats of results in 419 cycles, 1 wrong\n")


@pytest.mark.xdist_group("two_units")
def test_two_units_are_one_design(tmp_path: Path) -> None:
    said, folder = made("two_units")
    assert "40 of 40 beats of results, 8 of 8 exponents, 0 wrong\n" in said
    for path in folder.glob("*.hex"):
        shutil.copy(path, tmp_path)
    out = (folder / "out.hex").read_text()
    (tmp_path / "out.hex").write_text(out[:-2] + ("1" if out[-2] == "0" else "0") + "\n")
    run = subprocess.run([str(folder / "obj" / "Vtb")], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert "40 of 40 beats of results, 8 of 8 exponents, 1 wrong\n" in run.stdout


def test_rtl_is_a_function_in_python(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "python" / "gemm.py")]
    run = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "32 results in 291 cycles, 21.5 dB above the noise of quantising\n"
