"""Experts of a whole model: conversion layer by layer, its file, the two commands, and the fixtures; nothing is
downloaded."""

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import golden
from golden import fixture
from golden.llama.forward import Llama
from golden.moe import fixture as moe_fixture
from golden.moe import router, store
from golden.moe.convert import convert
from golden.moe.forward import moe_forward
from golden.moe.llama import Conversions, Converter, MoeLlama
from golden.moe.pack import again_quantised, pack
from golden.moe.spec import ConversionSpec, preset, shape
from golden.spec import SpecError
from scripts import evaluation, experts, make_fixture
from tb.command import Capture, run
from tb.test_llama import TOKENS, tiny_weights

SPEC = ConversionSpec(experts=5, shared=2, active=2, markers=8)  # of 40 neurons


def tiny_conversions(spec: ConversionSpec = SPEC) -> Conversions:
    found: Conversions = {}
    Converter(tiny_weights(), spec, found, range(3), lambda layer: None).hidden(TOKENS)
    return found


def test_a_layer_is_calibrated_with_what_the_converted_layers_before_it_make() -> None:
    found = tiny_conversions()
    seen: dict[int, Any] = {}
    model = MoeLlama(tiny_weights(), found)
    model.observe = lambda name, i, value: seen.update({i: value} if name == "ffn_input" else {})
    model.hidden(TOKENS)
    for i, conversion in found.items():
        again = convert(seen[i], model.network(i), SPEC)
        assert np.array_equal(again.experts, conversion.experts) and np.array_equal(again.shared, conversion.shared)


@pytest.mark.parametrize("selection", ["topk", "threshold"])
def test_the_models_network_is_that_of_the_reference(selection: str) -> None:
    found = {i: c.with_router(selection=selection) for i, c in tiny_conversions().items()}
    model = MoeLlama(tiny_weights(), found)
    x = np.random.default_rng(1).standard_normal((20, 24)).astype(np.float32)
    for i in range(3):
        expected, _ = moe_forward(x, model.network(i), found[i])
        np.testing.assert_allclose(model.ffn(i, x), expected, atol=1e-4)
    assert np.array_equal(MoeLlama(tiny_weights(), {}).hidden(TOKENS), Llama(tiny_weights()).hidden(TOKENS))


def test_ways_to_choose() -> None:
    found = tiny_conversions()
    weights = tiny_weights()
    models = dict(experts.models(weights, found, TOKENS, rank=2))
    assert list(models) == [
        "router",
        "threshold",
        "random",
        "static",
        "spectral",
        "oracle",
    ]  # 8 neurons cannot be packed
    x = np.random.default_rng(2).standard_normal((30, 24)).astype(np.float32)
    hidden = models["router"].network(1).hidden(x)
    chosen = {name: model.select(1, x, hidden) > 0 for name, model in models.items()}
    for name in ("router", "random", "static", "spectral", "oracle"):
        assert (chosen[name].sum(axis=1) == 2).all() and models[name].mean == 2
    assert models["threshold"].mean == chosen["threshold"].sum() / 30
    assert (chosen["static"] == chosen["static"][0]).all()
    mass = np.stack([np.abs(hidden[:, group]).sum(axis=1) for group in found[1].experts], axis=1)
    kept = {name: (mass * c).sum() for name, c in chosen.items()}
    assert all(kept["oracle"] > kept[name] for name in ("router", "random", "static", "spectral"))
    assert len(np.unique(chosen["random"], axis=0)) == 3


def test_static_choice_is_by_the_mass_of_the_calibration_tokens() -> None:
    found, weights = tiny_conversions(), tiny_weights()
    learner = experts.Learner(weights, found, rank=2)
    seen: dict[int, Any] = {}
    learner.observe = lambda name, i, value: seen.update({i: value} if name == "ffn_input" else {})
    learner.hidden(TOKENS)
    static = experts.Static(weights, found, learner.masses)
    for i in range(3):
        hidden = np.abs(learner.network(i).hidden(seen[i]))
        masses = [hidden[:, group].sum() for group in found[i].experts]
        chosen = np.flatnonzero(static.select(i, np.zeros((1, 24)), np.zeros((1, 40)))[0])
        assert set(chosen) == set(np.argsort(masses)[-2:])


def test_a_file_holds_conversions_and_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file.npz"
    record = store.Record(SPEC, "a tiny model", tiny_conversions())
    store.save(path, record)
    back = store.load(path)
    assert back[:2] == record[:2] and list(back.conversions) == [0, 1, 2]
    for i, c in record.conversions.items():
        for name in store.ARRAYS:
            assert np.array_equal(getattr(back.conversions[i], name), getattr(c, name))
    before = path.read_bytes()

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for owner, step in ((np, "savez"), (Path, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, broken)
            with pytest.raises(SpecError, match=r"^output .*file\.npz cannot be written: No space left on device$"):
                store.save(path, store.Record(SPEC, "another", {}))
        assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    for content in (b"", b"PK\x03\x04 nonsense", before[:500]):
        path.write_bytes(content)
        with pytest.raises(SpecError, match=r"^conversion .*file\.npz cannot be read: "):
            store.load(path)


def test_convert_goes_on_where_it_was(
    tiny: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out.npz")
    command = ["convert", "--model", tiny, "--moe", "S2A2E6", "--tokens", "32"]
    code, out, err = run(capsys, *command, "-o", output, "--json")
    report = json.loads(out)
    assert code == 0 and report | {"seconds": 0} == {
        "file": output,
        "moe": "S2A2E6",
        "layers": 2,
        "unmarked": report["unmarked"],
        "seconds": 0,
    }
    assert [line.split(":")[1] for line in err.splitlines()] == [" layer 0", " layer 1"]
    whole = store.load(Path(output))

    def stop(layer: int, *_: Any) -> Any:
        raise KeyboardInterrupt

    half = str(tmp_path / "half.npz")
    with monkeypatch.context() as patched:
        original = Converter.ffn
        patched.setattr(Converter, "ffn", lambda self, layer, x: stop(layer) if layer else original(self, layer, x))
        assert run(capsys, *command, "-o", half)[0] == 130
    assert list(store.load(Path(half)).conversions) == [0]
    code, _, err = run(capsys, *command, "-o", half)
    assert code == 0 and "layer 0" not in err and "layer 1" in err
    again = store.load(Path(half))
    for i, c in whole.conversions.items():
        assert np.array_equal(again.conversions[i].experts, c.experts)
    assert Path(half).read_bytes() == Path(output).read_bytes()
    assert run(capsys, *command, "-o", half)[2] == ""  # nothing is left to do


def test_another_conversion_is_not_overwritten(tiny: str, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out.npz"
    command = ["convert", "--model", tiny, "--moe", "S2A2E6", "--tokens", "20", "-o", str(output)]
    assert run(capsys, *command)[0] == 0
    before = output.read_bytes()
    sentence = f"output {output} must be of the same conversion or not there, not of S2A2E6\n"
    for other in (["--moe", "S1A2E6"], ["--tokens", "21"], ["--layer", "1"], ["--set", "markers=3"]):
        assert run(capsys, *command, *other) == (2, "", sentence)
    assert output.read_bytes() == before
    output.write_bytes(b"something of mine")
    code, _, err = run(capsys, *command)
    assert code == 2 and err.startswith(f"conversion {output} cannot be read: ") and len(err.splitlines()) == 1
    assert output.read_bytes() == b"something of mine"


def test_one_layer_alone(tiny: str, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out.npz"
    arguments = ["--moe", "S1A3E8", "--variant", "paper", "--set", "markers=20", "iterations=2"]
    command = ["convert", "--model", tiny, *arguments, "--layer", "1", "--tokens", "32", "-o", str(output)]
    assert run(capsys, *command)[0] == 0
    record = store.load(output)
    assert list(record.conversions) == [1]
    assert record.spec == ConversionSpec(**preset("paper") | shape("S1A3E8") | {"markers": 20, "iterations": 2})


def test_eval_compares_ways_to_choose(tiny: str, capsys: Capture, tmp_path: Path) -> None:
    command = ["eval", "--model", tiny, "--moe", "S1A2E3,S2A2E6", "--set", "markers=20", "--tokens", "60"]
    code, out, err = run(capsys, *command, "--window", "30", "--json")
    assert code == 0
    rows = {row["row"]: row for row in json.loads(out)}
    ways = ["router", "threshold", "random", "static", "spectral", "oracle"]
    packed = ["router", "packed", *ways[1:]]  # 32 neurons
    assert list(rows) == ["dense", *(f"S1A2E3 {way}" for way in packed), *(f"S2A2E6 {way}" for way in ways)]
    assert rows["dense"]["routed experts"] == rows["dense"]["nats more"] == 0
    assert all(rows[f"{name} {way}"]["routed experts"] == 2 for name in ("S1A2E3", "S2A2E6") for way in ways[2:])
    for way in ("router", "random", "static", "spectral", "oracle"):  # both routed experts are used: nothing is missing
        assert rows[f"S1A2E3 {way}"]["perplexity"] == pytest.approx(rows["dense"]["perplexity"], rel=1e-4)
    assert 0 < abs(rows["S1A2E3 packed"]["nats more"]) < 0.5
    assert err.startswith("60 tokens in windows of 30, 32 to calibrate with\n")
    assert "S2A2E6: layer 1" in err and len(list((tmp_path / "cache" / "moe").iterdir())) == 2
    assert "layer" not in run(capsys, *command)[2]  # converted once


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("convert --moe E8", "moe must be a name like S3A3E8 (shared, active, experts in all), not 'E8'"),
        ("convert --moe S3A6E8", "active must be at most experts - shared (5), not 6"),
        ("convert --set markers=x", "markers must be an integer, not 'x'"),
        ("convert --set markers", "--set must have the form key=value, not 'markers'"),
        ("convert --model fixture", "model must be full or the path of a GGUF file, not 'fixture'"),
        ("convert --model TINY --moe S3A3E7", "experts must divide the layer's 96 neurons, not 7"),
        ("convert --model TINY --set markers=97", "markers must be at most the layer's 96 neurons, not 97"),
        ("convert --model TINY --layer 2", "layer must be an integer between 0 and 1, not 2"),
        ("convert --model TINY --tokens 0", "tokens must be an integer between 1 and 32, not 0"),
        ("convert --model TINY --tokens 33", "tokens must be an integer between 1 and 32, not 33"),
        ("eval --moe S3A3E8", "model must be full or the path of a GGUF file with --moe, not 'fixture'"),
        ("eval --moe S3A3E8 --rows float32", "rows must be left out with --moe, not 'float32'"),
        (
            "eval --moe S3A3E8,X --model TINY",
            "moe must be a name like S3A3E8 (shared, active, experts in all), not 'X'",
        ),
        ("eval --moe S3A3E7 --model TINY", "experts must divide the layer's 96 neurons, not 7"),
        ("eval --moe S3A3E8 --model TINY --window 1", "window and text must have at least 2 tokens, not 1 and 2135"),
        (
            "eval --moe S3A3E8 --model TINY --rank 13",
            "rank must be an integer between 1 and 12, the neurons of an expert, not 13",
        ),
        ("eval --rank 0", "rank must be left out without --moe, not 0"),
        (
            "eval --model TINY --moe  --window 9",
            "moe must be a name like S3A3E8 (shared, active, experts in all), not ''",
        ),
        ("eval --variant paper", "variant must be left out without --moe, not 'paper'"),
        ("eval --set markers=3", "set must be left out without --moe, not ['markers=3']"),
    ],
)
def test_bad_input_is_one_sentence(arguments: str, sentence: str, tiny: str, capsys: Capture) -> None:
    code, out, err = run(capsys, *arguments.replace("TINY", tiny).split(" "))
    assert (code, out) == (2, "")
    assert re.sub("(not 1 and) .*", r"\1 2135", err) == f"{sentence}\n"


def test_an_output_that_cannot_be_written(tiny: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "out.npz"
    code, _, err = run(capsys, "convert", "--model", tiny, "--tokens", "9", "-o", str(output))
    assert code == 2 and err.splitlines()[-1] == f"output {output} cannot be written: File exists"


def test_the_calibration_text_is_no_evaluation_text() -> None:
    text = experts.text()
    assert text.isascii() and text.startswith("Alice was beginning") and len(text.split()) > 2048

    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return set(zip(*(words[i:] for i in range(6)), strict=False))

    assert not runs(text.lower().split()) & runs(evaluation.text().lower().split())


def test_the_real_experts() -> None:
    e = moe_fixture.load()
    assert e.conversion.spec == moe_fixture.SPEC and moe_fixture.load() is e
    assert e.packed.image.size == 3 * 1536 * 576 // 32 * 20 and len(e.packed.descriptors) == 6
    x = fixture.load().x[:32]
    y, routing = moe_forward(x, moe_fixture.dense().ffn(), e.conversion)
    by_hand = e.packed.expert(0).ffn()(x.astype(np.float64))
    v = router.scores(x.astype(np.float64), e.packed.router(), moe_fixture.SPEC)
    assert np.array_equal(router.route(v, moe_fixture.SPEC, 0.0).chosen, routing.chosen)
    for j in range(5):
        by_hand += routing.chosen[:, j, None] * e.packed.expert(j + 1).ffn()(x.astype(np.float64))
    assert np.square(by_hand - y).sum() < 0.02 * np.square(y).sum()  # down is quantised once more
    assert not e.packed.image.flags.writeable and not e.conversion.experts.flags.writeable


def test_packed_down_matrices_are_the_same_in_the_dense_order() -> None:
    e = moe_fixture.load()
    down = moe_fixture.dense().ffn().down
    whole = again_quantised(down, e.conversion)
    for i, at in enumerate(e.packed.descriptors):
        neurons = e.packed.order[at.first : at.first + at.neurons]
        assert np.array_equal(whole[:, neurons], e.packed.expert(i).ffn().down)
    assert pack(moe_fixture.dense(), e.conversion).down_sqnr == e.packed.down_sqnr


@pytest.mark.parametrize("name", moe_fixture.SMALL_NETWORKS)
def test_small_real_networks_are_split_without_loss(name: str) -> None:
    ffn = moe_fixture.small()[name].ffn()
    assert ffn.gate.shape == ffn.up.shape == (96, 64) and ffn.down.shape == (64, 96)
    x = np.random.default_rng(4).standard_normal((200, 64))
    for shaped in ("S3A3E8", "S4A4E16"):
        c = convert(x, ffn, ConversionSpec(**shape(shaped)))
        y, _ = moe_forward(x, ffn, c.with_router(active=c.spec.routed))
        np.testing.assert_allclose(y, ffn(x), atol=1e-12)
        part, _ = moe_forward(x, ffn, c)
        assert np.square(part - y).sum() < np.square(y).sum()


def test_fixtures_are_small_and_those_of_the_readme() -> None:
    readme = (make_fixture.DATA / "README.md").read_text(encoding="utf-8")
    for name in (moe_fixture.ARRAYS, moe_fixture.SMALL):
        data = (make_fixture.DATA / name).read_bytes()
        assert len(data) < 100_000 and f"{len(data):,} bytes" in readme
        assert hashlib.sha256(data).hexdigest() in re.findall("[0-9a-f]{64}", readme)


def test_they_load_without_optional_packages() -> None:
    missing = "import sys; sys.modules.update(gguf=None, tokenizers=None, lap=None, scipy=None); "
    program = f"{missing}from golden.moe import fixture; fixture.load(); fixture.small()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(golden.__file__).parents[1])


def test_conversion_says_which_package_it_needs(tiny: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lap", None)
    code, _, err = run(capsys, "convert", "--model", tiny, "--tokens", "9")
    sentence = "the Python package lap is needed and was not found: pip install 'senbazuru[all]'"
    assert (code, err.splitlines()[-1]) == (2, sentence)


def test_the_variants_are_those_of_the_presets() -> None:
    parser = argparse.ArgumentParser()
    experts.add_arguments(parser)
    assert experts.specification("S3A3E8", parser.parse_args([])) == moe_fixture.SPEC
    paper = experts.specification("S3A3E8", parser.parse_args(["--variant", "paper", "--set", "least=1"]))
    assert paper == ConversionSpec(**preset("paper"), least=1)


@pytest.mark.slow
def test_the_experts_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    again = tmp_path / "again.npz"
    assert make_fixture.main(["experts", "-o", str(again)]) == 0
    assert again.read_bytes() == (make_fixture.DATA / moe_fixture.ARRAYS).read_bytes()


@pytest.mark.slow
def test_a_quarter_of_the_full_models_neurons_off(capsys: Capture) -> None:
    code, out, _ = run(capsys, "eval", "--model", "full", "--moe", "S3A3E8", "--tokens", "512", "--json")
    assert code == 0
    value = {row["row"]: row["perplexity"] for row in json.loads(out)}
    assert math.isclose(value["dense"], 34.6, abs_tol=1)
    assert value["dense"] < value["S3A3E8 oracle"] < value["S3A3E8 threshold"] < value["S3A3E8 router"] < 100
