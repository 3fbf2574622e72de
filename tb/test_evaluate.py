"""Perplexity, and the command that measures it: a tiny model and the fixture; nothing is downloaded."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.llama.approximate import INPUT, READERS, Approximate, Recorder, sizes
from golden.llama.forward import Llama
from golden.llama.perplexity import perplexity, surprises
from golden.spec import SpecError
from scripts import evaluation
from tb import command
from tb.command import Capture
from tb.test_llama import TINY, TOKENS, tiny_weights, write_gguf


@pytest.mark.parametrize("window", [2, 4, 9, 10, 512])
def test_perplexity_is_that_of_a_loop(window: int) -> None:
    model = Llama(tiny_weights(), np.float64)
    expected = []
    for start in range(0, len(TOKENS), window):
        for end in range(start + 1, min(start + window, len(TOKENS))):
            logits = model.logits(model.hidden(TOKENS[start:end]))[-1].tolist()
            expected.append(math.log(sum(map(math.exp, logits))) - logits[TOKENS[end]])
    nats = surprises(model, TOKENS, window)
    np.testing.assert_allclose(nats, expected, rtol=1e-9)
    np.testing.assert_allclose(surprises(Llama(tiny_weights()), TOKENS, window), nats, atol=1e-4)
    assert perplexity(nats) == pytest.approx(math.exp(sum(expected) / len(expected)))


def test_a_model_that_knows_nothing_has_the_vocabulary_as_perplexity() -> None:
    class Blank(Llama):
        def logits(self, hidden: Any) -> Any:
            return np.full((len(hidden), TINY.vocabulary), 900, np.float32)

    done: list[int] = []
    nats = surprises(Blank(tiny_weights()), TOKENS, 4, done.append)
    assert perplexity(nats) == pytest.approx(TINY.vocabulary)
    assert done == [4, 8, 10]


def test_nothing_to_foretell_is_refused() -> None:
    for tokens, window in ((TOKENS, 1), (TOKENS[:1], 8)):
        sentence = f"^window and text must have at least 2 tokens, not {window} and {len(tokens)}$"
        with pytest.raises(SpecError, match=sentence):
            surprises(Llama(tiny_weights()), tokens, window)


def test_recorded_inputs_are_what_the_matrices_read() -> None:
    seen: dict[tuple[str, int], Any] = {}
    weights = tiny_weights()
    Llama(weights, observe=lambda name, i, value: seen.update({(name, i): value})).hidden(TOKENS)
    recorder = Recorder(weights)
    recorder.hidden(TOKENS)
    assert set(recorder.seen) == {(i, group) for i in range(TINY.layers) for group in READERS}
    for (i, group), x in recorder.seen.items():
        assert x.shape == (len(TOKENS), sizes(TINY)[group])
        name = {"attention": "attn_input", "ffn": "ffn_input", "down": "ffn_hidden"}.get(group)
        assert name is None or np.array_equal(x, seen[name, i])
    assert sorted(INPUT) == sorted(["q", "k", "v", "output", "gate", "up", "down"])


def test_inputs_are_approximated_once_for_all_that_read_them() -> None:
    weights = tiny_weights()
    calls: list[Any] = []

    def doubled(x: Any) -> Any:
        calls.append(x)
        return 2 * x

    places = [(i, group) for i in range(TINY.layers) for group in READERS]
    same = Approximate(weights, dict.fromkeys(places, lambda x: x))
    assert np.array_equal(same.hidden(TOKENS), Llama(weights).hidden(TOKENS))

    class Doubled(Llama):
        def linear(self, layer: int, name: str, x: Any) -> Any:
            return super().linear(layer, name, 2 * x)

    assert np.array_equal(
        Approximate(weights, dict.fromkeys(places, doubled)).hidden(TOKENS), Doubled(weights).hidden(TOKENS)
    )
    assert len(calls) == TINY.layers * len(READERS)


def test_rows_have_their_names_and_what_they_say() -> None:
    assert len(evaluation.ROWS) == 20
    row = evaluation.ROWS["kmeans-w4a3-1%-static"]
    assert row == evaluation.KMeans(4, 3, 1, static=True)
    (weighted,) = evaluation.chosen("kmeans-w3a4-0.5%", "magnitude").values()
    assert weighted == evaluation.KMeans(3, 4, 0.5, weighting="magnitude")
    x = np.random.default_rng(1).standard_normal((20, 64)).astype(np.float32)
    w = np.random.default_rng(2).standard_normal((30, 64)).astype(np.float32)
    errors = {
        name: float(np.square(r.inputs(x, [w])(x) @ r.matrix(w, x).T - x @ w.T).sum())
        for name, r in evaluation.ROWS.items()
    }
    assert errors["float32"] == 0 < errors["mixpe-w4a8"] < errors["kmeans-w4a16"] < errors["kmeans-w4a4-1%"]
    assert errors["kmeans-w4a4-1%"] < errors["kmeans-w4a4"] < errors["kmeans-w4a3"]
    assert errors["kmeans-w4a16"] < errors["kmeans-w3a16"] < errors["kmeans-w3a4"]


def test_the_text_is_plain_and_long_enough() -> None:
    text = evaluation.text()
    assert text.isascii() and len(text.split()) > 1700


def run(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    return command.run(capsys, "eval", *arguments)


def test_the_fixtures_layer(capsys: Capture) -> None:
    code, out, _ = run(capsys, "--rows", "kmeans-w4a4,kmeans-w4a4-1%,mixpe-w4a8", "--json")
    assert code == 0
    rows = {row.pop("row"): row for row in json.loads(out)}
    assert list(rows) == ["kmeans-w4a4", "kmeans-w4a4-1%", "mixpe-w4a8"]
    for matrix in ("gate dB", "up dB", "down dB"):
        assert 8 < rows["kmeans-w4a4"][matrix] < rows["kmeans-w4a4-1%"][matrix] - 2 < rows["mixpe-w4a8"][matrix]
    assert [round(row["outliers %"], 2) for row in rows.values()] == [0, 1.04, 0]


def test_a_whole_model(capsys: Capture, tmp_path: Path) -> None:
    model = str(write_gguf(tmp_path / "tiny.gguf"))
    rows = "float32,mixpe-w4a8,kmeans-w4a4-1%,kmeans-w4a3-1%-static"
    code, out, err = run(capsys, "--model", model, "--rows", rows, "--tokens", "50", "--window", "20")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["row", "perplexity", "nats", "more", "standard", "error", "outliers", "%"]
    assert [line[0] for line in lines[1:]] == rows.split(",")
    value = [float(line[1].replace(",", "")) for line in lines[1:]]
    for line, each in zip(lines[1:], value, strict=True):
        assert float(line[2]) == pytest.approx(math.log(each / value[0]), abs=2e-3)
    assert lines[1][2:] == ["0.000"] * 3 and float(lines[-1][3]) > 0
    assert float(lines[3][4]) == pytest.approx(100 * 2 / (3 * 64 + 96) * 4, abs=1e-3)  # k = 1 of 64, of 96
    assert 0.5 < float(lines[4][4]) < 20
    assert err.startswith("50 tokens in windows of 20, ") and "kmeans-w4a4-1%: weights\n" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--rows float32,w4a4", f"rows must be among {', '.join(evaluation.ROWS)}, not 'w4a4'"),
        ("--rows float32", "rows must not be float32 alone with the fixture, it is what others are held to"),
        ("--window 64", "window must be left out with the fixture, it is for --model full"),
        ("--tokens 64", "tokens must be left out with the fixture, it is for --model full"),
        ("--model TINY --tokens 9 --window 1", "window and text must have at least 2 tokens, not 1 and 9"),
        ("--model TINY --tokens 1", "window and text must have at least 2 tokens, not 512 and 1"),
        (
            "--model missing.gguf",
            "model must be fixture, full or the path of a GGUF file, not 'missing.gguf': No such file or directory",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments: str, sentence: str, capsys: Capture, tmp_path: Path) -> None:
    tiny = str(write_gguf(tmp_path / "tiny.gguf"))
    code, out, err = run(capsys, *arguments.replace("TINY", tiny).split())
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == sentence


@pytest.mark.slow
def test_outliers_help_the_full_model(capsys: Capture) -> None:
    rows = "float32,mixpe-w4a8,kmeans-w4a4,kmeans-w4a4-1%"
    code, out, _ = run(capsys, "--model", "full", "--rows", rows, "--tokens", "512", "--json")
    assert code == 0
    value = {row["row"]: row["perplexity"] for row in json.loads(out)}
    assert 30 < value["float32"] < value["mixpe-w4a8"] < 40  # measured 34.6
    assert value["mixpe-w4a8"] < value["kmeans-w4a4-1%"] < value["kmeans-w4a4"] / 4
