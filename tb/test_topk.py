"""The comparison of top-k variants: what it measures, and that it goes on where it was."""

import json
from pathlib import Path

import pytest

from golden.orizuru.engine import RANKED, VARIANTS
from scripts import topk


def test_every_variant_at_every_size() -> None:
    found = [(name, what) for name, what, _ in topk.measurements()]
    assert len(set(found)) == len(found)
    for variant in VARIANTS:
        for n in topk.SIZES:
            assert {(f"{variant} {n}", f) for f in ("generic gates", "ecp5 luts", "asic area")} <= set(found)
    assert {(f"{v} 4096", "interval") for v in RANKED} <= set(found)


def test_figures_that_are_there_are_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "topk.json"
    kept: dict[str, dict[str, float]] = {}
    for name, what, _ in topk.measurements():
        kept.setdefault(name, {})[what] = 3.0 if name == "radix 64" else 6.0
    del kept["systolic 64"]["interval"]  # the one that is left to measure
    file.write_text(json.dumps(kept))
    assert topk.main(["--json", str(file)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["systolic", "64", "interval", "21.0"]
    line = next(line for line in told if line.lstrip().startswith("radix 64"))
    assert line.split()[-1] == f"{3 * 3 / (6 * 21):.2f}"
    assert json.loads(file.read_text())["systolic 64"]["interval"] == 21
