"""Speed at equal area: the arithmetic, on figures made up for it."""

import json
from pathlib import Path

import pytest

from scripts.iso_area import ELEMENTS, MODELS, cycles, main, table


def test_cycles_of_an_array_that_fits_exactly() -> None:
    """64 x 16 elements, 64 tokens: N / 16 tiles of K cycles."""
    assert cycles(ELEMENTS, [(768, 3072)]) == 3072 // 16 * 768
    assert cycles(1, [(3, 5)]) == 64 * 5 * 3


def test_half_the_area_is_twice_the_elements_and_about_twice_the_speed() -> None:
    rows = {"A": {"area": 100.0, "energy": 4.0}, "B": {"area": 50.0, "energy": 1.0}, "C": {"area": 100.0}}
    _, a, b, c = table(rows).splitlines()
    assert a.split() == ["A", "1,024", *["1.00x"] * len(MODELS), "1.00x"]
    assert b.split() == ["B", "2,048", *["2.00x"] * len(MODELS), "0.25x"]
    assert c.split()[-1] == "nanx"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "comparison {} must be readable: No such file or directory"),
        ("{", "comparison {} must be what scripts.compare --json writes"),
        (json.dumps({"A": {}}), "comparison {} must be what scripts.compare --json writes"),
    ],
)
def test_bad_files_are_one_sentence(
    text: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == sentence.format(path) + "\n"
