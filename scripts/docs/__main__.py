"""``python -m scripts.docs [FOLDER]``: the documentation site, by default into ``build/docs/html``.

The pages of ``docs/`` and what is made here from the design (a page and drawings per unit, tables) go into a folder
``source`` beside it, from which Sphinx builds, strictly: a warning is an error. Nothing comes from the network.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from gen.registers import markdown, register_table
from gen.registry import UNITS
from golden.files import write
from golden.soc.accelerator import AcceleratorSpec
from scripts import history
from scripts.docs import datasheet, drawing, timing, verification
from scripts.docs.graph import graph
from scripts.docs.source import DOCS, ROOT, smallest
from tb.units import BENCHES

TIMED = (
    "mixpe_pe",
    "mixpe",
    "orizuru",
    "kmeans_quantizer",
    "kmeans_function",
    "lutgemm",
    "gate",
    "dispatch",
    "load_balance",
    "expert_cache",
    "expert_table",
)
"""Units that Amaranth's simulator is fast enough for."""

PAUSED = "singles-both"
"""The case of ``mixpe_pe`` that shows the handshake."""


def made() -> dict[str, str]:
    """Text by file of everything that is not in ``docs/``."""
    costs = history.last()["figures"]
    evidence = verification.evidence()
    files = {
        "drawings/handshake.svg": _handshake(),
        "registers.md": _registers(),
        "results.md": _results(),
        "verification.md": _verification(),
    }
    rows = []
    for name, unit in UNITS.items():
        spec = unit.configure(smallest(unit))
        files[f"drawings/{name}.svg"] = drawing.svg(graph(spec))
        if name in TIMED:
            files[f"drawings/{name}_timing.svg"] = timing.overview(spec, timing.play(spec, timing.free_case(spec)))
        files[f"units/{name}.md"] = datasheet.page(unit, costs.get(name, {}), evidence[name], name in TIMED)
        rows.append([f"[{name}]({name}.md)", unit.summary])
    listed = "\n".join(datasheet.table(["unit", "what it is"], rows))
    contents = "\n".join(UNITS)
    files["units/index.md"] = f"# Units\n\n{listed}\n\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n"
    return files


def _handshake() -> str:
    spec = UNITS["mixpe_pe"].configure("tiny")
    (case,) = (c for c in BENCHES["mixpe_pe"](spec, 0) if c.name == PAUSED)
    return timing.handshake(spec, timing.play(spec, case), 24)


def _registers() -> str:
    """Those of an accelerator with all kinds of jobs."""
    spec = UNITS["accelerator"].configure("medium")
    assert isinstance(spec, AcceleratorSpec)
    return markdown(register_table(spec), spec.unit)


def _results() -> str:
    """The measurements of the README, which is the one place where they are."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, found, rest = readme.partition("### Measured\n")
    measured, end, _ = rest.partition("## The command line\n")
    assert found and end
    return f"# Results\n{measured.replace('](docs/', '](')}"


def _verification() -> str:
    return f"""\
# Verification

{chr(10).join(verification.table())}

*Simulated*: both players (cocotb and a C++ driver) saw every output bit equal to the golden model, in every preset,
with random stalls on every stream, resets in mid-job and corner values, and every cycle count equal to the formula.
*Tests of its own* are test functions, most of them over several configurations; the unit's page lists them by names
that say what holds. Deliberate faults in the RTL must turn a bench red. *Proved* claims hold for all inputs, or for all
time by induction; *bounded* ones for a stated number of cycles from reset; [one table](formal.md) says at which sizes.
What the benches reach is [counted](coverage.md).

Proved of what all units are built of:

{chr(10).join(verification.shared())}

Everything at once, as continuous integration does it:

```sh long
make test
```
"""


def build(folder: Path) -> int:
    """Sphinx' exit code."""
    source = folder.parent / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(DOCS, source)
    _write(source, made())
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", str(source), str(folder)]
    return subprocess.run(command, check=False).returncode


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        write(folder / name, text)


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs/html").absolute()))
