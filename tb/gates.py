"""Gate-level check: a product in which one block, or everything, is the netlist that synthesis made of it.

The result is a product like any other, so the unit's own bench plays it with either player.
"""

from gen import netlist
from gen.export import Product
from gen.liberty import Library
from golden.spec import SpecError


def gates(product: Product, block: str | None, target: str, library: Library | None = None) -> Product:
    """The product with a kind of block (``None``: everything) in cells of ``ecp5`` or, with a library, ``asic``.

    Of a library's recipes it is the smallest.

    Raises  :class:`~golden.spec.SpecError` for another target or an unknown block.
    """
    module = netlist.module_of(product, block)
    if target == "ecp5":
        return netlist.put_back(product, netlist.ecp5(product, module), netlist.ecp5_models())
    if target == "asic" and library:
        made = netlist.smallest(product, module, library)
        return netlist.put_back(product, made, netlist.asic_models(library))
    raise SpecError(f"target must be ecp5, or asic with a library, not {target!r}")
