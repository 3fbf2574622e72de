"""Deliberate faults in the RTL, to see a bench go red."""

import dataclasses
import importlib
import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

import pytest

from gen.export import Product, export
from golden.spec import UnitSpec
from tb.runner import run_bulk
from tb.transactions import CheckFailed
from tb.units import BENCHES


def broken(
    product: Product, pattern: str, replacement: str, count: int | None = 1, module: str | None = None
) -> Product:
    """The product with ``pattern`` (plain text) replaced in its Verilog, or in one module of it.

    ``count`` is how often it must occur there, ``None`` for at least once; ``ValueError`` otherwise, so that a fault
    cannot silently miss its target.
    """
    before, text, after = "", product.verilog, ""
    if module is not None:
        before, head, rest = text.partition(f"\nmodule {module} (")
        body, end, after = rest.partition("\nendmodule")
        text, after = head + body, end + after
    found = text.count(pattern)
    if found != count and (count is not None or not found):
        raise ValueError(f"pattern must occur {count or 'at least 1'} time(s) in the Verilog, not {found}: {pattern!r}")
    return dataclasses.replace(product, verilog=before + text.replace(pattern, replacement) + after)


def rewritten(unit: Any, old: str, new: str, method: str = "elaborate") -> Any:
    """``unit`` with one piece of a method's source replaced."""
    source = textwrap.dedent(inspect.getsource(getattr(unit, method)))
    assert source.count(old) == 1, f"{old!r} must stand once in {unit.__name__}"
    names = dict(vars(importlib.import_module(unit.__module__)))
    exec(source.replace(old, new), names)
    return type(unit.__name__, (unit,), {method: names[method]})


def later(*values: Any) -> list[Any]:
    """Parameters of a test that are builds of their own, for ``make test-all``."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def one_in(count: int, names: Iterable[str]) -> list[Any]:
    """Parameters of a test: each fault is a build of its own, so the others wait for ``make test-all``."""
    return [pytest.param(name, marks=pytest.mark.slow) if i % count else name for i, name in enumerate(names)]


def turns_red(monkeypatch: pytest.MonkeyPatch, spec: UnitSpec, unit: Any, method: str, old: str, new: str) -> None:
    """The bench of ``spec`` finds what is wrong when a block's method is rewritten."""
    monkeypatch.setattr(unit, method, getattr(rewritten(unit, old, new, method), method))
    with pytest.raises(CheckFailed):
        run_bulk(spec, BENCHES[spec.unit](spec, 1), 1, product=export(spec))
