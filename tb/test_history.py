"""The record of figures: complete, compared with the last one, refused when worse."""

import json
from pathlib import Path

import pytest

from gen.registry import UNITS
from scripts import history

BEFORE = {"mixpe": {"luts": 1000.0, "ffs": 50.0, "instructions": 4000.0}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "history.json"
    assert history.record(BEFORE, file=path) == 0
    return path


def records(file: Path) -> int:
    return len(json.loads(file.read_text()))


def test_the_kept_record_has_every_figure_of_every_unit() -> None:
    cells, always = set(history.CELLS), {history.CYCLES, history.INSTRUCTIONS}
    wanted = {name: always | (cells if name not in history.LARGE else set()) for name in UNITS}
    assert {name: set(figures) for name, figures in history.last()["figures"].items()} == wanted


def test_a_record_is_added_when_a_figure_differs(file: Path) -> None:
    assert history.record(BEFORE, file=file) == 0
    assert records(file) == 1
    assert history.record({"mixpe": {**BEFORE["mixpe"], "luts": 1020.0, "ffs": 40.0}}, file=file) == 0
    assert records(file) == 2
    assert history.last(file)["figures"]["mixpe"]["ffs"] == 40


def test_what_is_more_than_two_percent_worse_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = {"mixpe": {**BEFORE["mixpe"], "luts": 1021.0}}
    assert history.record(worse, file=file) == 1
    assert "mixpe: luts 1,000 -> 1,021 (worse)\n" in capsys.readouterr().out
    assert history.last(file)["figures"] == BEFORE
    assert history.record(worse, accept=True, file=file) == 0
    assert records(file) == 2


def test_instructions_of_another_compiler_are_not_compared(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"mixpe": {**BEFORE["mixpe"], "instructions": 9000.0}}
    assert history.record(more, file=file) == 1
    monkeypatch.setattr(history, "tools", lambda: ["another"])
    assert history.record(more, file=file) == 0
