"""What a product is made of: every kind of block synthesised once, alone, times its instances."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from gen import netlist
from gen.export import Product
from gen.synth import Options, synthesise

FIGURES = {"asic": ("area", "ffs"), "ecp5": ("luts", "ffs"), "lut6": ("luts", "ffs"), "generic": ("gates", "ffs")}
"""What is counted on a target; the first is what shares are of."""


@dataclass(frozen=True)
class Part:
    """One kind of block at one place of the hierarchy, ``depth`` below the top.

    ``each`` are the figures of one block without the blocks inside it, ``total`` those of all ``instances`` here,
    ``below`` the totals with everything inside them.
    """

    kind: str
    depth: int
    instances: int
    each: Mapping[str, float]
    total: Mapping[str, float]
    below: Mapping[str, float]


def parts(product: Product, target: str, block: str | None = None, options: Options | None = None) -> list[Part]:
    """The parts of a product, or of one kind of block in it, in the order of the hierarchy, the whole first.

    Blocks are synthesised without their surroundings, so nothing is shared or simplified across their borders: the sum
    is a little more than the synthesis of the whole. On ecp5 nothing is placed. Raises as
    :func:`gen.synth.synthesise`.
    """
    top = netlist.module_of(product, block)
    inside = {name: Counter(kind for kind, _ in found) for name, found in netlist.below(product).items()}
    modules, options = kinds(product, top), replace(options or Options(), seeds=0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for processes of its own
        made = pool.map(lambda module: _alone(product, module, target, options), modules)
        each = dict(zip(modules, made, strict=True))

    def walk(module: str, depth: int, instances: int) -> list[Part]:
        under = [walk(kind, depth + 1, instances * n) for kind, n in inside[module].items()]
        own = {name: value * instances for name, value in each[module].items()}
        whole = {name: value + sum(part[0].below[name] for part in under) for name, value in own.items()}
        kind = module.removeprefix(f"{product.top}_")
        return [Part(kind, depth, instances, each[module], own, whole), *(p for part in under for p in part)]

    return walk(top, 0, 1)


def kinds(product: Product, module: str) -> list[str]:
    """A module and all modules below it, once each."""
    inside = netlist.below(product)
    found = [module]
    for outer in found:  # grows
        found += [kind for kind in dict.fromkeys(kind for kind, _ in inside[outer]) if kind not in found]
    return found


def table(found: Sequence[Part], target: str, per: str | None = None) -> str:
    """A part a line; with ``per`` also everything inside, divided by the number of blocks of that kind."""
    first, second = FIGURES[target]
    count = sum(p.instances for p in found if p.kind == per)
    lines = [["block", "instances", f"{first} each", "alone", "with inside", "share", second]]
    for p in found:
        share = p.below[first] / found[0].below[first]
        line = ["  " * p.depth + p.kind, f"{p.instances:,}", f"{p.each[first]:,.0f}", f"{p.total[first]:,.0f}"]
        lines.append([*line, f"{p.below[first]:,.0f}", f"{share:.1%}", f"{p.below[second]:,.0f}"])
    if per:
        lines[0].append(f"{first} per {per}")
        for line, p in zip(lines[1:], found, strict=True):
            line.append(f"{p.below[first] / count:,.0f}")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])
        for name, *cells in lines
    )


def _alone(product: Product, module: str, target: str, options: Options) -> dict[str, float]:
    block = None if module == product.top else module.removeprefix(f"{product.top}_")
    figures = synthesise(netlist.alone(product, module), target, block, options).report.figures
    return {name: figures[name] for name in FIGURES[target]}
