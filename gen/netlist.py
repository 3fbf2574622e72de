"""A product's Verilog, or one module of it with all below, as a netlist of a technology's cells, by Yosys.

Every run is a fresh child process in a folder of its own: names that Yosys and ABC make up depend on what a process has
seen before, and the order in which they work depends on the names.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gen import toolchain
from gen.export import Product
from gen.liberty import Library
from golden.spec import SpecError

_MODULE = re.compile(r"^module (\w+) \(.*?^endmodule\n", re.MULTILINE | re.DOTALL)

# as Yosys writes it
_BARE = re.compile(r"^module (\w+)\s*\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)

_INSTANCE = re.compile(r"^  (\w+) (\w+) \($", re.MULTILINE)

_SPECIFY = re.compile(r"^\s*specify\b.*?\bendspecify\b", re.MULTILINE | re.DOTALL)  # delays

_RIPPLE = """\
(* techmap_celltype = "$lcu" *)
module ripple (P, G, CI, CO);
  parameter WIDTH = 2;
  input [WIDTH-1:0] P, G;
  input CI;
  output [WIDTH-1:0] CO;
  assign CO = G | (P & {CO, CI});
endmodule
"""


@dataclass(frozen=True)
class Netlist:
    """A module in cells; ``recipe`` says how it was made."""

    module: str
    verilog: str
    design: dict[str, Any]
    """the module in Yosys' JSON: ports, cells, netnames"""
    recipe: str
    abc_delay: float
    """in ns, of cell netlists: ABC's, of the gates between registers alone"""

    @property
    def cells(self) -> Counter[str]:
        """How many of each type."""
        return Counter(cell["type"] for cell in self.design["cells"].values())

    def area(self, library: Library) -> float:
        return sum(library.cells[name].area * n for name, n in self.cells.items())


def modules(verilog: str) -> dict[str, str]:
    """Text of each module of a product, by name."""
    return {m[1]: m[0] for m in _MODULE.finditer(verilog)}


def module_of(product: Product, block: str | None) -> str:
    """The module of a kind of block, the top for ``None``; :class:`~golden.spec.SpecError` for an unknown kind."""
    kinds = [name.removeprefix(f"{product.top}_") for name in modules(product.verilog) if name != product.top]
    if block is None:
        return product.top
    if block not in kinds:
        raise SpecError(f"block must be one of {', '.join(kinds)}, not {block!r}")
    return f"{product.top}_{block}"


def below(product: Product) -> dict[str, list[tuple[str, str]]]:
    """Module and label of every instance inside each module of a product."""
    return {name: _INSTANCE.findall(text) for name, text in modules(product.verilog).items()}


def instances(product: Product, module: str) -> Iterator[str]:
    """Hierarchical names, from the top, of every instance of a module."""
    inside = below(product)

    def walk(name: str, path: str) -> Iterator[str]:
        for kind, label in inside.get(name, ()):
            inner = f"{path}.{label}" if path else label
            if kind == module:
                yield inner
            yield from walk(kind, inner)

    return walk(product.top, "")


def alone(product: Product, module: str) -> Product:
    """The product with a module that has no blocks inside: their ports became ports of the module."""
    text = modules(product.verilog)[module]
    kinds = dict.fromkeys(kind for kind, _ in below(product)[module])
    if not kinds:
        return product
    script = ["read_verilog design.v", f"hierarchy -top {module}", "proc"]
    script += [f"expose -evert {' '.join(f't:{kind}' for kind in kinds)}", "write_verilog -noattr -simple-lhs alone.v"]
    written = yosys(script, {"design.v": product.verilog}, ["alone.v"])["alone.v"]
    bare = next(m[0] for m in _BARE.finditer(written) if m[1] == module)
    return replace(product, verilog=product.verilog.replace(text, bare.replace(f"{module}(", f"{module} (", 1)))


def put_back(product: Product, netlist: Netlist, models: str) -> Product:
    """The product with a module replaced by its netlist, and the models of the cells."""
    text = modules(product.verilog)[netlist.module]
    verilog = product.verilog.replace(text, netlist.verilog)
    return replace(product, verilog=f"{verilog}\n{models}")


def lut6(product: Product, module: str) -> Netlist:
    """LUT6 fabric: Yosys' flow for Xilinx 7 series, without DSP blocks, pads and clock buffers."""
    script = [f"synth_xilinx -nodsp -flatten -noiopad -noclkbuf -abc9 -top {module}"]
    return _netlist(product, module, script, "synth_xilinx -abc9")


def generic(product: Product, module: str) -> Netlist:
    """Gates of no library: of two inputs, three with AOI3 and OAI3, and multiplexers. Memories become flip-flops."""
    gates = "AND,NAND,OR,NOR,XOR,XNOR,MUX,AOI3,OAI3"
    script = [f"synth -top {module} -flatten -run begin:fine", "synth -run fine:check", f"abc -g {gates}", "opt_clean"]
    return _netlist(product, module, script, f"synth, abc -g {gates}")


def ecp5(product: Product, module: str, dsp: bool = False) -> Netlist:
    """Lattice ECP5, without DSP blocks unless ``dsp``."""
    recipe = f"synth_ecp5 -abc9{'' if dsp else ' -nodsp'}"
    return _netlist(product, module, [f"{recipe} -top {module}"], recipe)


def asic(product: Product, module: str, library: Library, recipe: str) -> Netlist:
    """Standard cells, by one of :func:`recipes`."""
    return _netlist(product, module, _asic(module, library.timed, *recipes(library)[recipe]), recipe, library)


def smallest(product: Product, module: str, library: Library) -> Netlist:
    """The one of all :func:`recipes` with the least area."""
    made = (asic(product, module, library, recipe) for recipe in recipes(library))
    return min(made, key=lambda netlist: netlist.area(library))


def recipes(library: Library) -> dict[str, tuple[bool, bool]]:
    """Names of the recipes: whether multipliers are Booth's, whether sums are full-adder cells in ripple order."""
    plain = {"synth": (False, False), "synth -booth": (True, False)}
    adders = {"full adders": (False, True), "full adders -booth": (True, True)}
    return plain | adders if library.adder else plain


def ecp5_models() -> str:
    """Yosys' simulation models of the ECP5's cells. Block RAM and DSP blocks have none."""
    folder = toolchain.yosys().share / "ecp5"
    texts = [(folder / name).read_text() for name in ("common_sim.vh", "ccu2c_sim.vh")]
    return _SPECIFY.sub("", "\n".join(["`define NO_INCLUDES", *texts]))  # which are pads, and other names of the cells


def asic_models(library: Library) -> str:
    """Models that Yosys makes of the library's functions.

    Not the library's own Verilog, where it has some: flip-flops that are user-defined primitives take their input on
    the clock edge before or after the registers around them do, as the simulator pleases.
    """
    script = [
        "read_liberty -ignore_miss_func -ignore_miss_dir cells.lib",
        "proc",
        "write_verilog -noattr -simple-lhs models.v",
    ]
    return yosys(script, {}, ["models.v"], library)["models.v"]


def _asic(module: str, timed: bool, booth: bool, adders: bool) -> list[str]:
    script = [f"synth -top {module} -flatten{' -booth' if booth else ''} -run begin:fine"]
    if adders:
        script.append("techmap -map ripple.v -map +/techmap.v")
    script.append("synth -run fine:check")
    if adders:
        # extraction leaves pairs of inverters, which ABC would turn into buffers
        script += ["extract_fa -fa", "techmap -map adder.v t:$fa", "opt -fast"]
    abc = f"abc -liberty cells.lib -script {_ABC}{';topo;stime' if timed else ''}"
    return [*script, "dfflibmap -liberty cells.lib", abc, "opt_clean -purge"]


# Yosys' own script for Liberty files; the delay that may follow ends ABC where the library has none.
_ABC = "+strash;&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash;&get,-n;&dch,-f;&nf;&put"


def _adder(library: Library) -> str:
    if library.adder is None:
        return ""
    cell, pins = library.adder
    connections = ", ".join(f".{pin}({net})" for pin, net in zip(pins, "ABCXY", strict=True))
    return f"""\
(* techmap_celltype = "$fa" *)
module adder (A, B, C, X, Y);
  parameter WIDTH = 1;
  input A, B, C;
  output X, Y;
  {cell.name} cell_ ({connections});
endmodule
"""


def _netlist(
    product: Product, module: str, script: Sequence[str], recipe: str, library: Library | None = None
) -> Netlist:
    files = {"design.v": product.verilog, "ripple.v": _RIPPLE}
    read = ["read_verilog design.v"]
    if library:
        files["adder.v"] = _adder(library)
        read.append("read_liberty -lib -ignore_miss_func -ignore_miss_dir cells.lib")
    written = ["write_json netlist.json", "write_verilog -noattr -simple-lhs -norename netlist.v"]
    made = yosys([*read, *script, *written], files, ["netlist.json", "netlist.v"], library)
    delays = re.findall(r"Delay = +([0-9.]+) ps", made["log"])
    design = json.loads(made["netlist.json"])["modules"][module]
    verilog = next(m[0] for m in _BARE.finditer(made["netlist.v"]) if m[1] == module)
    return Netlist(module, verilog, design, recipe, max(map(float, delays), default=0.0) / 1000)


def yosys(
    script: Iterable[str], files: Mapping[str, str], wanted: Iterable[str], library: Library | None = None
) -> dict[str, str]:
    """The wanted files that a script writes, and what it prints as ``log``."""
    tool = toolchain.yosys()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, text in files.items():
            (folder / name).write_text(text)
        if library:
            shutil.copy(library.path, folder / "cells.lib")
        (folder / "script.ys").write_text("".join(f"{line}\n" for line in script))
        run = subprocess.run([*tool.command, "script.ys"], cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode and library:
            error = re.search(r"^ERROR: (.*)", run.stdout + run.stderr, re.MULTILINE)
            why = error[1].strip() if error else "no more"
            raise SpecError(f"Liberty file {library.path} must be one that Yosys can map to, which says: {why}")
        if run.returncode:
            raise RuntimeError(f"Yosys failed:\n{(run.stdout + run.stderr)[-2000:]}")
        return {"log": run.stdout} | {name: (folder / name).read_text() for name in wanted}
