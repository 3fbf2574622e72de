"""Figures of one block on one target, under the names that the tables of several designs use."""

from dataclasses import dataclass

from gen.export import Product, export
from gen.netlist import Netlist
from gen.synth import Options, synthesise
from golden.spec import UnitSpec


@dataclass(frozen=True)
class Figure:
    """Where a figure comes from, its unit, and whether more of it is better."""

    target: str
    unit: str
    more: bool = False


FIGURES = {
    "LUT6": Figure("lut6", "LUTs of up to 6 inputs"),
    "FF": Figure("lut6", "flip-flops"),
    "LUT4": Figure("ecp5", "LUT4 + 2 CCU2C"),
    "Fmax": Figure("ecp5", "MHz", more=True),
    "area": Figure("asic", "um^2"),
    "delay": Figure("asic", "ns"),
    "energy": Figure("asic", "pJ per product"),
}


def measured(spec: UnitSpec, block: str | None, target: str, options: Options, products: int = 1) -> dict[str, float]:
    """All :data:`FIGURES` of a target for one kind of block (``None``: the whole product) that makes that many
    ``products`` a cycle; area is per product and cycle; ``DSP`` too where the options allow DSP blocks. What a tool or
    the unit does not give is absent.

    Raises as :func:`gen.synth.synthesise` and :func:`tb.energy.measure`.
    """
    product = export(spec)
    made = synthesise(product, target, block, options)
    figures = made.report.figures
    if target == "lut6":
        return {"LUT6": figures["luts"], "FF": figures["ffs"]}
    if target == "ecp5":
        blocks = {"DSP": figures["dsps"]} if options.dsp else {}
        return {"LUT4": figures["luts"], "Fmax": figures["fmax_mhz"]} | blocks
    found = {"area": figures["area"] / products}
    if "delay_ns" in figures:
        found["delay"] = figures["delay_ns"]
    return found | _energy(spec, block, product, made.netlist, options)


def _energy(spec: UnitSpec, block: str | None, product: Product, made: Netlist, options: Options) -> dict[str, float]:
    from tb.energy import measure
    from tb.units import REAL

    if spec.unit not in REAL or block is None:
        return {}
    return {"energy": measure(spec, product, made, options.cells()).total}
