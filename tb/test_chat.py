"""A whole model speaks: a tiny one through golden models and RTL; the full one, marked slow."""

import functools
import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from golden import model_store, q4_1, quantize
from golden.llama.approximate import INPUT, READERS, Approximate
from golden.llama.forward import Llama, Sampled, likeliest
from golden.llama.quantised import Engines, Parts, Quantised
from golden.llama.tokenizer import Tokenizer
from golden.llama.weights import ModelFile
from golden.mixpe.gemm import MixPESpec
from golden.moe.llama import Conversions, Converter, MoeLlama
from golden.moe.spec import ConversionSpec, preset, shape
from scripts import chat, experts
from scripts.simulated import Tally
from tb import command, cosim
from tb.command import Capture
from tb.test_llama import VOCABULARY, write_gguf

SMALL = Engines(
    prompt=MixPESpec(rows=2, cols=2),
    token=MixPESpec(rows=1, cols=2),
    head=MixPESpec(rows=1, cols=2, weight="int8", core="composed"),
)
COMPILED = functools.cache(cosim.compile)
"""Once for all tests."""

PROMPT = "hello world"
GREEDY = chat.Options(engine="golden", moe=None, tokens=3, temperature=0, seed=1, verify=True)


def quiet(_: str) -> None:
    pass


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny model file, and engines as small."""
    monkeypatch.setattr(chat, "engines", lambda config: SMALL)
    monkeypatch.setattr(cosim, "compile", COMPILED)
    return str(write_gguf(tmp_path / "model.gguf"))


def run(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    return command.run(capsys, "chat", *arguments)


def said(model: Llama, tokens: Sequence[int], count: int) -> list[tuple[int, bytes]]:
    """Tokens, and the bits of the logits that they were chosen from."""
    return [(token, logits.tobytes()) for token, logits in islice(model.continuation(tokens), count)]


def test_every_layer_is_quantised_and_exact(model: str) -> None:
    """Against float32 products of the stored weights with the same activations, and of the head's."""
    file = ModelFile(Path(model))
    weights = file.weights()

    def integers(x: Any) -> Any:
        q = quantize.quantise_tokens(x, "int8")
        return q.codes * q.scale[:, None]

    same = Approximate(weights, {(i, group): integers for i in range(2) for group in READERS})
    found = Quantised(weights, Parts.of(file), SMALL)
    for tokens in ([7, 8, 9, 10, 11], [7]):
        hidden = found.hidden(tokens)
        np.testing.assert_allclose(hidden, same.hidden(tokens), rtol=1e-3, atol=1e-3)
        expected = integers(hidden) @ weights.embedding.T
        np.testing.assert_allclose(found.logits(hidden), expected, rtol=1e-5, atol=1e-4)


def test_several_tokens_are_for_one_engine_and_one_for_another(model: str) -> None:
    file = ModelFile(Path(model))
    seen: list[tuple[Any, tuple[int, int, int]]] = []

    def compute(spec: Any, job: Any) -> Any:
        seen.append((spec, job.shape))
        return spec.compute(job)

    said(Quantised(file.weights(), Parts.of(file), SMALL, compute), [5, 6, 7], 2)
    per_call = 2 * len(INPUT)
    prompt, first, token, second = seen[:per_call], seen[per_call], seen[per_call + 1 : -1], seen[-1]
    assert {spec for spec, _ in prompt} == {SMALL.prompt} and {shape[0] for _, shape in prompt} == {3}
    assert {spec for spec, _ in token} == {SMALL.token} and {shape[0] for _, shape in token} == {1}
    assert first == second == (SMALL.head, (1, 64, len(VOCABULARY)))
    assert sorted(shape[1:] for _, shape in token) == sorted(shape[1:] for _, shape in prompt)


def test_a_long_head_in_pieces_is_the_same(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ModelFile(Path(model))
    found = Quantised(file.weights(), Parts.of(file), SMALL)
    hidden = found.hidden([7, 8])
    whole = found.logits(hidden)
    monkeypatch.setattr("golden.llama.quantised.PIECE", 100)
    assert np.array_equal(found.logits(hidden), whole)


def test_rtl_and_golden_say_the_same_and_mean_the_same(model: str) -> None:
    """Tokens and logits, bit for bit; cycles are those of the formula."""
    file = ModelFile(Path(model))
    tokenizer = Tokenizer.of(file)
    rtl, golden = (
        chat.speaker(file, tokenizer, chat.Options(**vars(GREEDY) | {"engine": name}), quiet)
        for name in ("rtl", "golden")
    )
    tokens = tokenizer.encode(PROMPT)
    assert said(rtl.model, tokens, 3) == said(golden.model, tokens, 3)
    assert rtl.counts is not None and golden.counts is None
    count = rtl.counts.take()
    assert count.mismatches == 0 and count.steps < count.cycles and count.macs < count.places
    rows = 3 * 64 + 2 * 32 + 2 * 96  # of a block: q, output, down; k, v; gate, up
    assert count.outputs == 2 * rows * (len(tokens) + 2) + 3 * len(VOCABULARY)
    assert rtl.counts.take() == Tally()


def test_the_command_compares_every_matrix(model: str, capsys: Capture) -> None:
    code, out, err = run(capsys, PROMPT, "--model", model, "--tokens", "3", "--json")
    found = json.loads(out)
    assert code == 0 and found["mismatches"] == 0 and len(found["tokens"]) == 3 and found["how"] == "greedy, seed 1"
    assert "prompt, 4 tokens: layer 2 of 2\ntoken 1: layer 1 of 2\n" in err and "building mixpe" in err
    assert found["prompt"] == Tokenizer.of(ModelFile(Path(model))).encode(PROMPT)
    for name, read in (("prompt figures", 4), ("alone figures", 2)):
        figures = found[name]
        assert figures["tokens read"] == read and figures["cycles per token"] == round(figures["cycles"] / read)
        assert 0 < figures["useful"] <= figures["busy"] < 1 and figures["simulated cycles/s"] > 0
    code, out, _ = run(capsys, PROMPT, "--model", model, "--tokens", "3", "--engine", "golden")
    assert code == 0 and out.startswith(found["text"] + "\n\nengine               golden: mixpe W4A8, 2 x 2")
    assert "mismatches" not in out and "cycles" not in out
    code, out, _ = run(capsys, PROMPT, "--model", model, "--tokens", "3", "--no-verify")
    assert code == 0 and "cycles per token" in out and "mismatches" not in out and out.startswith(found["text"])


def test_what_differs_from_golden_is_counted_and_exits_1(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wrong bit in each matrix of one output."""
    right = MixPESpec.compute

    def wrong(spec: MixPESpec, job: Any) -> Any:
        y = right(spec, job)
        y.view(np.uint32)[0, -1] ^= 1
        return y

    monkeypatch.setattr(MixPESpec, "compute", wrong)
    code, out, _ = run(capsys, PROMPT, "--model", model, "--tokens", "2")
    assert code == 1 and f"\nmismatches           {2 * (2 * len(INPUT) + 1)}\n" in out


def mixture(file: ModelFile) -> tuple[chat.Mixture, MoeLlama]:
    """The tiny model as experts: what their unit takes, and float32 of the packed weights."""
    found: Conversions = {}
    spec = ConversionSpec(**preset("code") | shape("S1A1E3"))
    Converter(file.weights(), spec, found, range(2), lambda _: None).hidden(list(range(3, 30)))
    return chat.Mixture.of(file, found), MoeLlama(experts.packed(file.weights(), found), found)


def test_experts_are_those_of_the_converted_model(model: str) -> None:
    """To the rounding of activations, token for token as alone."""
    file = ModelFile(Path(model))
    made, real = mixture(file)
    found = chat.QuantisedMixture(made, file.weights(), Parts.of(file), SMALL)
    x = np.random.default_rng(1).standard_normal((6, 64)).astype(np.float32)
    for layer in range(2):
        y, expected = found.ffn(layer, x), real.ffn(layer, x)
        assert np.square(y - expected).sum() < 1e-3 * np.square(expected).sum()
        assert np.array_equal(y[2:3], found.ffn(layer, x[2:3]))


@pytest.mark.parametrize("engine", ["golden", "float"])
def test_a_mixture_speaks(engine: str, model: str, capsys: Capture, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SENBAZURU_CACHE", str(tmp_path / "cache"))
    arguments = (PROMPT, "--model", model, "--moe", "S1A1E3", "--engine", engine, "--tokens", "2")
    code, out, err = run(capsys, *arguments)
    assert code == 0 and "feed-forward networks as S1A1E3" in out and "S1A1E3: layer 1" in err
    code, again, err = run(capsys, *arguments)
    assert again.split("seconds")[0] == out.split("seconds")[0] and "S1A1E3: layer" not in err  # kept


def test_sampling_follows_the_softmax() -> None:
    logits = np.log(np.array([0, 1, 2, 5, 0, 2], np.float32) + np.float32(1e-30))
    choose = Sampled(1.0, 3)
    counts = np.bincount([choose(logits) for _ in range(20000)], minlength=6)
    np.testing.assert_allclose(counts / 20000, np.array([0, 1, 2, 5, 0, 2]) / 10, atol=0.015)
    flat, sharp, again = Sampled(2.0, 3), Sampled(0.01, 3), Sampled(1.0, 3)
    counts = np.bincount([flat(logits) for _ in range(20000)], minlength=6)
    weights = np.sqrt([0, 1, 2, 5, 0, 2])
    np.testing.assert_allclose(counts / 20000, weights / weights.sum(), atol=0.015)
    assert {sharp(logits) for _ in range(100)} == {3} == {likeliest(logits)}
    other = Sampled(1.0, 3)
    assert [again(logits) for _ in range(50)] == [other(logits) for _ in range(50)]


def scripted(monkeypatch: pytest.MonkeyPatch, tokens: Sequence[int]) -> None:
    """A model that says this and nothing else."""
    model = SimpleNamespace(continuation=lambda read, choose: ((t, np.zeros(1)) for t in tokens), observe=None)
    monkeypatch.setattr(chat, "speaker", lambda *_: chat.Speaker(model, None, "script"))  # type: ignore[arg-type]


def test_text_comes_piece_by_piece_in_whole_characters(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[str] = []
    file = ModelFile(Path(model))
    first, second = (VOCABULARY.index(part) for part in ("Ã", "©"))  # the two bytes of a letter
    hello = VOCABULARY.index("hello")
    scripted(monkeypatch, [hello, first, second, hello, first])
    report = chat.talk(file, "h", chat.Options(**vars(GREEDY) | {"tokens": 5}), pieces.append, quiet)
    assert [p for p in pieces if p] == ["hello", "é", "hello", "\ufffd"]
    assert report.text == "".join(pieces) and not report.ended and len(report.tokens) == 5


def test_a_control_token_ends_it(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hello = VOCABULARY.index("hello")
    scripted(monkeypatch, [hello, 0, hello])
    report = chat.talk(ModelFile(Path(model)), "h", GREEDY, quiet, quiet)
    assert report.ended and report.tokens == [hello] and report.text == "hello"
    assert "ended by itself" in report.table()


def test_control_tokens_are_known_by_number() -> None:
    assert Tokenizer(VOCABULARY, [], ["<|end|>", "<|start|>"]).control == {0, VOCABULARY.index("<|start|>")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--tokens 0", "tokens must be an integer between 1 and 31, not 0"),
        ("--tokens 32", "tokens must be an integer between 1 and 31, not 32"),
        ("--prompt=", "prompt must be 1 to 31 tokens, not 0"),
        (f"--prompt={'.' * 32}", "prompt must be 1 to 31 tokens, not 32"),
        ("--engine golden --no-verify", "no-verify must be left out with engine golden"),
        ("--moe S3A3E8", "neurons of an expert must be a multiple of 32 for Q4_1, not 12"),
        ("--moe S9", "moe must be a name like S3A3E8 (shared, active, experts in all), not 'S9'"),
        ("--model fixture", "model must be full or the path of a GGUF file, not 'fixture'"),
        (
            "--model missing.gguf",
            "model must be fixture, full or the path of a GGUF file, not 'missing.gguf': No such file or directory",
        ),
        ("--temperature x", "senbazuru chat: argument --temperature: must be a number between 0 and 100, not 'x'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: str, sentence: str, tiny: str, capsys: Capture) -> None:
    words = arguments.split()
    prompt = next((w.partition("=")[2] for w in words if w.startswith("--prompt")), ".")
    code, out, err = run(capsys, prompt, "--model", tiny, *(w for w in words if not w.startswith("--prompt")))
    assert (code, out, err) == (2, "", f"{sentence}\n")


# The full model; downloaded on first use


@pytest.mark.slow
@pytest.mark.parametrize("moe", [None, "S3A3E8"])
def test_the_full_model_speaks_through_the_rtl(moe: str | None) -> None:
    """Two tokens; as experts it need not be right."""
    file = ModelFile(model_store.find("full"))
    tokenizer = Tokenizer.of(file)
    tokens = tokenizer.encode("The capital of France is")
    rtl, golden = (
        chat.speaker(file, tokenizer, chat.Options(**vars(GREEDY) | values), print).model
        for values in ({"engine": "rtl", "moe": moe, "verify": False}, {"engine": "golden", "moe": moe})
    )
    found = said(rtl, tokens, 2)
    assert found == said(golden, tokens, 2)
    if moe is None:
        assert tokenizer.decode([token for token, _ in found]).startswith(" Paris")


@pytest.mark.slow
def test_the_template_is_the_files() -> None:
    """Every piece of text in it, in that order."""
    theirs = ModelFile(model_store.find("full")).text("tokenizer.chat_template")
    system, question, answer = re.split("(?=<[|]im_start[|]>)", chat.TEMPLATE)[1:]
    assert f"{{{{ '{system}' }}}}" in theirs and f"{{{{ '{answer}' }}}}" in theirs
    assert question == "<|im_start|>user\n{}<|im_end|>\n"
    assert "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}" in theirs


@pytest.mark.slow
def test_stored_matrices_of_the_full_model_are_its_weights() -> None:
    file = ModelFile(model_store.find("full"))
    layer = file.layer(3)
    for name in INPUT:
        assert np.array_equal(q4_1.dequantise(*file.matrix(3, name)), getattr(layer, name))
    codes, d = file.head()
    assert np.array_equal(codes * np.repeat(d.astype(np.float32), 32, axis=1), file.weights().embedding)
