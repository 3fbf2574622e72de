"""Deliberate faults in the RTL, to see a bench go red."""

import dataclasses

from gen.export import Product


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
