"""Deliberate faults in the RTL, to see a bench go red."""

import dataclasses

from gen.export import Product


def broken(product: Product, pattern: str, replacement: str, count: int | None = 1) -> Product:
    """The product with ``pattern`` (plain text) replaced in its Verilog.

    ``count`` is how often it must occur, ``None`` for at least once; ``ValueError`` otherwise, so that a fault cannot
    silently miss its target.
    """
    found = product.verilog.count(pattern)
    if found != count and (count is not None or not found):
        raise ValueError(f"pattern must occur {count or 'at least 1'} time(s) in the Verilog, not {found}: {pattern!r}")
    return dataclasses.replace(product, verilog=product.verilog.replace(pattern, replacement))
