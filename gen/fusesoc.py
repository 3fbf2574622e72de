"""The FuseSoC generator ``senbazuru``, which ``senbazuru.core`` beside this file declares: a unit as part of a design.

FuseSoC runs it in an empty folder, with the ``python3`` on PATH and the name of a YAML file: what a core asks for under
``generate``, and how the core that is made must be called. It writes a product there, with that name in its core file.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # FuseSoC runs this file, wherever it is

import yaml

from gen.export import export
from gen.package import core
from gen.registry import toml_layer, unit
from golden.spec import SpecError

PARAMETERS = ("unit", "preset", "config", "set", "top")
"""As on the command line, but that ``config`` is beside the core that asks, and ``set`` a mapping; later ones win."""


def generate(request: dict[str, Any]) -> None:
    """Write what is asked for into the working folder; :class:`golden.spec.SpecError` for bad parameters."""
    given = request["parameters"]
    unknown = [name for name in given if name not in PARAMETERS]
    if unknown or "unit" not in given:
        raise SpecError(f"parameters must be unit and any of {', '.join(PARAMETERS[1:])}, not {', '.join(given)}")
    if not isinstance(given.get("set", {}), dict):
        raise SpecError(f"set must be a mapping, not {given['set']!r}")
    chosen = unit(given["unit"])
    layers = [toml_layer(Path(request["files_root"]) / given["config"])] if "config" in given else []
    product = export(chosen.configure(given.get("preset"), [*layers, given.get("set", {})]), given.get("top"))
    replace(product, core=core(chosen, product.top, request["vlnv"])).write(".")


if __name__ == "__main__":
    try:
        generate(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except SpecError as e:
        sys.exit(str(e))
