"""What tests share."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# timings never decide a test: machines are shared
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Notes processor seconds, which other work on the machine does not change; scripts/times.py adds them up."""
    before = _cpu()
    try:
        return (yield)
    finally:
        item.user_properties.append(("cpu", f"{_cpu() - before:.3f}"))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model file of 2 layers of 96 neurons, and an empty cache."""
    from tb.test_llama import write_gguf

    monkeypatch.setenv("SENBAZURU_CACHE", str(tmp_path / "cache"))
    return str(write_gguf(tmp_path / "tiny.gguf"))
