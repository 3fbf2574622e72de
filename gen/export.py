"""The product: Verilog, manifest, lint waivers and package files of a unit in one configuration."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gen.elaborate import elaborate, sources, written
from gen.interfaces import interfaces
from gen.litex import litex
from gen.manifest import CLOCK, RESET, manifest, port_table, stream_table
from gen.package import core, header, makefile
from gen.registers import register_files
from gen.registry import unit
from gen.tidy import tidy
from gen.vivado import annotated
from gen.waivers import vlt
from golden import files
from golden.spec import SpecError, UnitSpec
from hdl.shared import Shared
from hdl.stream.axi import AxiShell


@dataclass(frozen=True)
class Product:
    """The files of one exported unit, as text. The same specification and name give the same bytes, everywhere."""

    top: str
    verilog: str
    manifest: dict[str, Any]
    vlt: str
    core: str
    registers: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """Text by file name."""
        return {
            f"{self.top}.v": self.verilog,
            f"{self.top}.json": json.dumps(self.manifest, indent=2) + "\n",
            f"{self.top}.vlt": self.vlt,
            f"{self.top}.core": self.core,
            f"{self.top}.mk": makefile(self.top),
            f"{self.top}_litex.py": litex(self.manifest),
            **self.registers,
        }

    def write(self, directory: Path | str) -> list[Path]:
        """Write all files; returns their paths. All are complete before the first takes its name.

        :class:`SpecError` when the folder cannot be made or written.
        """
        return files.write_all(Path(directory), self.files)


def rtlil(spec: UnitSpec) -> str:
    """The exported circuit of ``spec``, before it becomes Verilog, with the Python lines that it comes from."""
    return sources(shell(spec), spec.unit)


def annotated_verilog(spec: UnitSpec) -> str:
    """The same circuit as Verilog, with the Python lines as attributes; names are as Yosys writes them."""
    return written(rtlil(spec))


def export(spec: UnitSpec, top: str | None = None) -> Product:
    """Generate the product of ``spec``; its module and files are called ``top``, by default after the unit.

    Every other module is ``<top>_<kind>`` or, for a block that occurs once, ``<top>_<path>``.
    """
    top = spec.unit if top is None else top
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", top):
        raise SpecError(f"top must be a letter followed by letters, digits and underscores, not {top!r}")
    registered = unit(spec.unit)
    text, order = elaborate(shell(spec), top)
    modules = tidy(text, order)
    if not modules[0].startswith(f"module {top} "):
        raise SpecError(f"top must not be a word that Verilog reserves, not {top!r}")
    modules[0] = annotated(modules[0], interfaces(stream_table(spec)), CLOCK, RESET)
    docs = {p.pins[0].name: p.doc for p in spec.ports} | {
        s.signal: ", ".join(f"[{i}] {cause}" for i, cause in enumerate(s.causes)) for s in spec.status
    }
    verilog = "\n".join([header(registered, spec.to_toml(), port_table(spec), docs), *modules])
    described = manifest(spec, top, verilog)
    return Product(top, verilog, described, vlt(f"{top}.v"), core(registered, top), register_files(spec, top))


def shell(spec: UnitSpec) -> AxiShell:
    """The component that is exported: the unit with its flat ports."""
    return AxiShell(Shared(unit(spec.unit).hardware(spec), spec), spec.ports, spec.status)
