"""Real layers through ``kmeans_linear``, and what index GEMM costs: the scripts behind ``run`` and the tables."""

import json
from pathlib import Path

import pytest

from scripts import kmeans_cost, kmeans_layer, layers


@pytest.mark.slow
@pytest.mark.parametrize(("matrix", "share"), [("gate", 0.0), ("gate", 0.01), ("up", 0.01), ("down", 0.02)])
def test_a_real_matrix_through_the_rtl(matrix: str, share: float) -> None:
    """Learned from other tokens; outliers take no cycle more than none."""
    layer = layers.load("fixture", None, matrix)
    report = kmeans_layer.measure([{"lines": 8, "codes": 32, "outliers": 16}], lambda: layer, 4, 100 * share, print)
    assert report.mismatches == 0 and report.outputs == 4 * len(layer.matrix.codes)
    assert report.cycles == report.cycles_without_outliers


def test_every_reducer_at_every_size() -> None:
    found = [(name, what) for name, what, _ in kmeans_cost.measurements()]
    assert len(set(found)) == len(found)
    for name in kmeans_cost.rows():
        assert {(name, what) for what in ("LUT6", "FF", "area")} <= set(found)


def test_figures_that_are_there_are_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result costs area times cycles, which are those of the weighted sum where that takes longer."""
    file, picture = tmp_path / "kmeans.json", tmp_path / "cost.svg"
    kept: dict[str, dict[str, float]] = {}
    for name, what, _ in kmeans_cost.measurements():
        kept.setdefault(name, {})[what] = 2.0
    file.write_text(json.dumps(kept))
    assert kmeans_cost.main(["--json", str(file), "--plot", str(picture)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    first = next(row for row in rows if row[0] == "32")
    assert first[1:4] == ["8.00", "1.00", "1.00"]  # 16 cycles of weighted sum against 2
    assert next(row for row in rows if row[0] == "8192")[1:4] == ["1.00"] * 3
    assert picture.read_text().startswith("<?xml")


def test_bad_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kmeans_cost.main(["--plot", str(tmp_path / "cost.gif")]) == 2
    assert "plot must be a file name that ends in .svg or .png" in capsys.readouterr().err
