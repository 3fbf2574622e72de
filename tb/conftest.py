"""What tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# timings never decide a test: machines are shared
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model file of 2 layers of 96 neurons, and an empty cache."""
    from tb.test_llama import write_gguf

    monkeypatch.setenv("SENBAZURU_CACHE", str(tmp_path / "cache"))
    return str(write_gguf(tmp_path / "tiny.gguf"))
