"""Experts in formats of their own: packed and read back, what a format costs, the choice, files and commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import fixture, q4_1
from golden.llama.weights import ModelFile
from golden.moe import fixture as moe_fixture
from golden.moe import mixed, router, store
from golden.moe.convert import convert
from golden.moe.llama import MoeLlama, Surveyor
from golden.moe.mixed import CANDIDATES, Formats, pairs
from golden.moe.pack import Stored, cut, pack, packed_order
from golden.moe.quantizers import FP4, NF4, Q4_1, named, quantise
from golden.moe.spec import ConversionSpec
from golden.spec import SpecError
from scripts import expert_precision, experts, quantised_experts
from tb.command import Capture, run
from tb.test_llama import write_gguf
from tb.test_moe_convert import stored, tokens
from tb.test_moe_model import tiny_conversions

NAMES = [("lookup3x64", "lookup3x32"), ("signed8", "unsigned2x32"), ("q4_1", "signed4"), ("lookup2x64", "q4_1")]
FORMATS = [Formats(named(up), named(down)) for up, down in NAMES]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as e:
        call()
    return str(e.value)


# --- image ---


@pytest.fixture(scope="module")
def layer() -> tuple[Stored, Any]:
    dense = stored(4)
    return dense, convert(tokens(4, width=64), dense.ffn(), ConversionSpec(experts=4, shared=1, active=2))


def test_mixed_experts_are_read_back(layer: tuple[Stored, Any]) -> None:
    dense, c = layer
    packed = pack(dense, c, FORMATS)
    end = 0
    for i, (part, formats) in enumerate(zip(cut(dense, c), FORMATS, strict=True)):
        at = packed.descriptors[i]
        assert at.formats == formats.names and len(at.codebook) == (0, 4, 8)[(formats.lookup_bits + 1) // 2]
        sizes = formats.up.size(64, 64), formats.up.size(64, 64), formats.down.size(64, 64)
        assert (at.gate, at.up, at.down) == (end, end + sizes[0], end + 2 * sizes[0])
        end += formats.size(64, 64)
        made, back = mixed.weights(part, formats), packed.weights(i)
        for one, other in zip(made, back, strict=True):
            assert np.array_equal(one.values(), other.values()) and one.format == other.format
        assert end - at.gate == sum(matrix.bytes for matrix in back)
    assert packed.rows == end and len(packed.image) == mixed.image_bytes(FORMATS, [64] * 4, 64)
    exact = dense.ffn().part(c.representatives)
    rows = packed.router()
    assert np.array_equal(rows.gate, exact.gate) and np.array_equal(rows.up, exact.up)
    x = np.random.default_rng(5).standard_normal((20, 64))
    assert np.array_equal(router.scores(x, rows, c.spec), router.scores(x, exact, c.spec))
    sentence = "formats must be q4_1 for blocks of Q4_1, not lookup3x64, lookup3x64, lookup3x32"
    assert refusal(lambda: packed.expert(0)) == sentence


def test_all_in_q4_1_is_the_image_as_it_was(layer: tuple[Stored, Any]) -> None:
    dense, c = layer
    plain, given = pack(dense, c), pack(dense, c, [Formats(Q4_1, Q4_1)] * 4)
    assert plain.rows is None and given.rows == len(plain.image)
    assert np.array_equal(plain.image, given.image[: given.rows]) and plain.descriptors == given.descriptors
    for i in range(4):
        for one, other in zip(plain.expert(i), plain.weights(i), strict=True):
            assert np.array_equal(q4_1.dequantise(*one).T, other.values())
    assert refusal(lambda: pack(dense, c, FORMATS[:3])) == "formats must be one per expert (4), not 3"


def test_an_expert_has_one_codebook() -> None:
    two = Formats(named("lookup3x64"), named("lookup2x64"))
    sentence = "formats must have one codebook per expert, not those of lookup3x64, lookup2x64"
    assert refusal(lambda: two.lookup_bits) == sentence
    found = list(pairs())
    assert two not in found and {f.lookup_bits for f in found} == {0, 2, 3, 4}
    kinds = [f.kind == "lookup" and f.bits for f in CANDIDATES]
    clashes = sum(bool(a and b and a != b) for a in kinds for b in kinds)
    assert len(found) == len(set(found)) == len(CANDIDATES) ** 2 - clashes


# --- what formats cost ---


def test_matrices_that_are_no_expert() -> None:
    ones = np.ones((32, 32))
    signed, narrow = (quantise(ones, named(name)) for name in ("signed4", "signed2"))
    assert refusal(lambda: mixed.expert(mixed.Weights(signed, narrow, signed))) == (
        "up must be in the format of gate, signed4, not signed2"
    )
    one, other = (quantise(ones, named("lookup4"), book) for book in (NF4, FP4))
    assert refusal(lambda: mixed.expert(mixed.Weights(one, one, other))) == (
        "codebook must be the same for all matrices of an expert"
    )


def test_errors_are_those_of_the_experts_result(layer: tuple[Stored, Any]) -> None:
    dense, c = layer
    part = list(cut(dense, c))[1]
    rng = np.random.default_rng(6)
    x, weight = rng.standard_normal((30, 64)).astype(np.float32), rng.random(30)
    found = mixed.errors(part, x, weight)
    exact = part.exact(x.astype(np.float64))
    for name in ("lookup2x64", "signed4", "q4_1"):
        form = named(name)
        whole = mixed.weights(part, Formats(form, form)).ffn()
        for which, matrices in (("up", {"gate", "up"}), ("down", {"down"})):
            mine = {m: getattr(whole if m in matrices else part.exact, m) for m in ("gate", "up", "down")}
            change = type(part.exact)(**mine)(x.astype(np.float64)) - exact
            error = (np.square(change).sum(axis=1) * weight).sum()
            assert getattr(found, which)[form] == pytest.approx(error, rel=1e-3, abs=1e-9)
    assert found.up[Q4_1] == 0 < found.down[Q4_1]
    table = found.candidates(64)
    both = Formats(named("signed4"), Q4_1)
    assert table[both] == (both.size(64, 64), found.up[both.up] + found.down[Q4_1])


def test_a_survey_reads_as_the_model_does(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ModelFile(Path(tiny))
    spec = ConversionSpec(experts=3, shared=1, active=1, markers=20)
    text = [3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9]
    _, found = experts.converted(file, spec, text, [0, 1], None, lambda line: None)
    calls: list[tuple[Any, Any]] = []
    monkeypatch.setattr("golden.moe.llama.errors", lambda part, x, weight: calls.append((x, weight)))
    survey = Surveyor(file.weights(), found, lambda i: experts.blocks(file, i), lambda i: None)
    survey.hidden(text)
    seen: dict[tuple[str, int], Any] = {}
    model = MoeLlama(file.weights(), found)
    model.observe = lambda name, i, value: seen.update({(name, i): value})
    model.hidden(text)
    for i in (0, 1):
        x, after = seen["ffn_input", i], seen["block_output", i].astype(np.float64)
        chosen = MoeLlama.select(model, i, x, x)
        for e, (mine, weight) in enumerate(calls[3 * i : 3 * i + 3]):
            own = np.arange(len(x)) if e == 0 else np.flatnonzero(chosen[:, e - 1])
            assert np.array_equal(mine, x[own])
            np.testing.assert_allclose(weight, 1 / np.square(after[own]).sum(axis=1))


def test_the_choice_on_a_real_layer() -> None:
    """More bytes are never worse, and the budget holds."""
    x = fixture.load().x[:24]
    parts = list(cut(moe_fixture.dense(), moe_fixture.load().conversion))[1:4]
    found = [mixed.errors(part, x, np.ones(len(x))) for part in parts]
    neurons = [one.neurons for one in found]
    least = mixed.least_bytes(neurons, 576)
    before = np.inf
    for budget in (least, 300_000, 400_000, 500_000, 10**7):
        chosen = experts.chosen({15: found}, 576, budget)[15]
        size = mixed.image_bytes(chosen, neurons, 576)
        error = sum(one.up[f.up] + one.down[f.down] for one, f in zip(found, chosen, strict=True))
        assert size <= budget and error <= before
        before = error
    assert {f.up for f in chosen} == {Q4_1}  # exact, and smaller than eight bits
    smallest = experts.chosen({15: found}, 576, least)[15]
    assert mixed.image_bytes(smallest, neurons, 576) == least


# --- files and commands ---


BUDGET = ["--moe", "S1A1E3", "--set", "markers=20", "--tokens", "32", "--budget-bytes"]


def test_convert_within_a_number_of_bytes(tiny: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["convert", "--model", tiny, *BUDGET]
    code, out, err = run(capsys, *command, "17000", "--json")
    report = json.loads(out)
    assert code == 0 and err.splitlines()[-1] == "layer 1: errors of all formats"
    record = store.load(Path(report["file"]))
    size = sum(mixed.image_bytes(formats, [32] * 3, 64) for formats in record.formats.values())
    assert record.origin.endswith("at most 17000 bytes") and list(record.formats) == [0, 1]
    assert report["bytes"] == size <= 17000 and report["of float32"] == round(size / (4 * 3 * 96 * 64 * 2), 4)
    assert sum(report["up"].values()) == sum(report["down"].values()) == 6
    with monkeypatch.context() as patched:  # nothing is left to do
        patched.setattr(Surveyor, "hidden", None)
        assert run(capsys, *command, "17000")[2] == ""
    code, out, err = run(capsys, *command, "16000", "--json")  # the conversion is there, the choice is another one
    assert code == 0 and "S1A1E3" not in err and json.loads(out)["file"] != report["file"]
    for i, c in record.conversions.items():
        packed = pack(experts.blocks(ModelFile(Path(tiny)), i), c, record.formats[i])
        assert len(packed.image) == mixed.image_bytes(record.formats[i], [32] * 3, 64)


def test_another_budget_is_not_overwritten(tiny: str, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out.npz"
    command = ["convert", "--model", tiny, *BUDGET]
    assert run(capsys, *command, "17000", "-o", str(output))[0] == 0
    before = output.read_bytes()
    sentence = f"output {output} must be of the same conversion or not there, not of S1A1E3\n"
    assert run(capsys, *command, "16999", "-o", str(output)) == (2, "", sentence)
    assert run(capsys, *command[:-1], "-o", str(output)) == (2, "", sentence)
    assert output.read_bytes() == before


def test_what_was_interrupted_goes_on(
    tiny: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.npz"
    command = ["convert", "--model", tiny, *BUDGET, "17000", "-o", str(output)]

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Surveyor, "hidden", stop)
        assert run(capsys, *command)[0] == 130
    assert not store.load(output).formats
    assert run(capsys, *command)[0] == 0 and store.load(output).formats


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--moe S1A1E3 --budget-bytes 9000", "budget-bytes must be at least LEAST, all experts in their smallest"),
        ("--moe S1A1E3 --budget-bytes -1", "senbazuru convert: argument --budget-bytes: must be an integer between"),
        ("--moe S2A2E6 --budget-bytes 99999", "neurons of an expert must be a multiple of 32 for Q4_1, not 16"),
    ],
)
def test_refused_budgets(arguments: str, sentence: str, tiny: str, capsys: Capture, tmp_path: Path) -> None:
    code, out, err = run(
        capsys, "convert", "--model", tiny, "--set", "markers=20", "--tokens", "32", *arguments.split()
    )
    least = 2 * mixed.least_bytes([32] * 3, 64)
    assert (code, out, len(err.splitlines())) == (2, "", 1) and err.startswith(sentence.replace("LEAST", str(least)))
    assert not (tmp_path / "cache").exists()


def test_the_least_budget_is_enough(tiny: str, capsys: Capture) -> None:
    least = 2 * mixed.least_bytes([32] * 3, 64)
    command = ["convert", "--model", tiny, *BUDGET]
    code, out, _ = run(capsys, *command, str(least), "--json")
    assert code == 0 and json.loads(out)["bytes"] == least
    assert run(capsys, *command, str(least - 1))[0] == 2


def test_other_tensors_than_q4_1_have_no_blocks(tmp_path: Path) -> None:
    file = ModelFile(write_gguf(tmp_path / "tiny.gguf"))
    sentence = "tensor token_embd.weight must be of type Q4_1, not Q8_0"
    assert refusal(lambda: file.blocks("token_embd.weight", 9, 64)) == sentence


def test_files_without_formats_are_read(tmp_path: Path) -> None:
    record = store.Record(ConversionSpec(experts=5, shared=2, active=2, markers=8), "tiny", tiny_conversions())
    formats = {i: [Formats(named(f"signed{2 + i}"), Q4_1)] * 4 for i in range(3)}
    for each in (record, record._replace(formats=formats)):
        store.save(tmp_path / "file.npz", each)
        assert store.load(tmp_path / "file.npz").formats == each.formats
        with np.load(tmp_path / "file.npz") as npz:
            assert ("formats" in npz.files) == bool(each.formats)


# --- tables ---


def test_rows_of_the_table(capsys: Capture) -> None:
    names = "elephants8,elephants4,corrected4,signed4x64,q4_1,unsigned3x64,unsigned3x64+8"
    assert quantised_experts.main(["--rows", names, "--json"]) == 0
    rows = {row["row"]: row for row in json.loads(capsys.readouterr().out)}
    ratio = {name: row["of float32"] for name, row in rows.items()}
    assert ratio["q4_1"] == 0.1562 and max(ratio["elephants4"], ratio["corrected4"], ratio["signed4x64"]) <= 0.14
    db = {name: row["dB"] for name, row in rows.items()}
    assert db["elephants8"] > 30 > db["q4_1"] > db["signed4x64"] > db["elephants4"] > db["corrected4"] > 8
    assert db["unsigned3x64+8"] > db["unsigned3x64"] and ratio["unsigned3x64+8"] > ratio["unsigned3x64"]
    for arguments, sentence in (
        (["--rows", "knapsackx"], "format must be a name like q4_1, unsigned3x32, signed8 or lookup3x64, not "),
        (["--rows", "elephants3"], "format must be a name like q4_1, unsigned3x32, signed8 or lookup3x64, not "),
        (["--rows", "q4_1", "--tokens", "9"], "tokens must be left out with the fixture, it is for --model full"),
        (["--rows", "q4_1", "--moe", "S1A1E2"], "moe must be S3A3E8 with the fixture, not 'S1A1E2'"),
    ):
        assert quantised_experts.main(arguments) == 2
        assert capsys.readouterr().err.startswith(sentence)


def test_rows_of_a_model(tiny: str, capsys: Capture) -> None:
    command = ["--model", tiny, "--moe", "S1A1E3", "--set", "markers=20", "--tokens", "60", "--json"]
    assert quantised_experts.main([*command, "--rows", "signed8,q4_1,knapsack3.5"]) == 0
    rows = {row["row"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["as stored"]["nats more"] == 0 and abs(rows["signed8"]["nats more"]) < 0.05
    assert rows["knapsack3.5"]["bits"] <= 3.5 < rows["q4_1"]["bits"] == 5 and rows["as stored"]["bits"] == 5
    assert all(row["routed"] > 1 for row in rows.values())


def test_time_is_that_of_the_longer_part(capsys: Capture) -> None:
    slow, fast = (expert_precision.point(4, 64, 8, "W4", bandwidth) for bandwidth in (1, 1e9))
    experts_busy = sum(expert_precision.likely(8).values())
    assert experts_busy == pytest.approx(32 * (1 - (31 / 32) ** 8))
    assert slow.bytes == fast.bytes == pytest.approx(experts_busy * expert_precision.size("W4") / 8)
    assert slow.cycles == pytest.approx(slow.bytes)
    assert fast.cycles == pytest.approx(experts_busy * expert_precision.compute(4, 64, 1) / 8, rel=0.01)
    assert sum(n * many for n, many in expert_precision.likely(300).items()) == pytest.approx(300)
    assert expert_precision.main(["--bandwidth", "32"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(expert_precision.BATCHES)
    assert expert_precision.main(["--bandwidth", "0"]) == 2
    assert capsys.readouterr().err == "bandwidth must be positive and finite, not 0\n"


def test_order_and_parts_agree(layer: tuple[Stored, Any]) -> None:
    dense, c = layer
    exact = np.concatenate([part.exact.gate for part in cut(dense, c)])
    assert np.array_equal(exact, dense.ffn().gate[packed_order(c)])
