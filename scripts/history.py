"""Figures of every unit that no machine changes, kept in ``docs/history.json``: ``python -m scripts.history``.

Of each unit's smallest preset: cells on ECP5, not placed; cycles of the first case of its bench that has a formula;
and, where valgrind is installed, the instructions that Verilator's model takes for the first cycles of that bench. A
run measures them, prints what differs from the last record, and adds a record if anything does. It adds none, and
exits 1, when a figure is more than 2 % larger than the last one, unless that is accepted. Instructions depend on the
compiler: they are compared only with a record of the same tools. Whole layers take too long to map; of them there are
no cells.

The pages of the documentation show the last record. Half an hour on a busy machine; what is measured is kept in
``build/history.json`` until it is through.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from gen import toolchain
from gen.registry import UNITS
from gen.synth import Options, synthesise
from golden.spec import UnitSpec
from scripts.docs.source import DOCS, smallest
from scripts.resumable import Figures, Measurement, collect
from tb import products
from tb.build import Build, Flags
from tb.cosim import compile
from tb.second import recording
from tb.units import BENCHES

FILE = DOCS / "history.json"
PARTS = Path("build/history.json")
CELLS = ("luts", "ffs", "brams", "dsps")
"""On ECP5, not placed (:class:`gen.synth.Report`)."""

LARGE = ("moe_ffn", "moe_resident", "expert_ffn")
CYCLES, INSTRUCTIONS = "cycles", "instructions"
REPLAYED = 2000
"""Cycles of which instructions are counted."""

WORSE = 1.02
REPLAY = Path(__file__).parents[1] / "tb" / "replay.cpp"
SEED = 1


def measurements() -> Iterator[Measurement]:
    for name in UNITS:
        for figure in CELLS if name not in LARGE else ():
            yield name, figure, partial(_cells, name, figure)
        yield name, CYCLES, partial(_cycles, name)
        if shutil.which("valgrind"):
            yield name, INSTRUCTIONS, partial(_instructions, name)


def _spec(name: str) -> UnitSpec:
    return UNITS[name].configure(smallest(UNITS[name]))


@cache
def _mapped(name: str) -> Mapping[str, float]:
    return synthesise(products.of(_spec(name)), "ecp5", options=Options(seeds=0)).report.figures


def _cells(name: str, figure: str) -> float:
    return _mapped(name)[figure]


def _cycles(name: str) -> float:
    cases = BENCHES[name](_spec(name), SEED)
    return compile(_spec(name)).play(next((c for c in cases if c.cycles is not None), cases[0])).ran


def _instructions(name: str) -> float:
    """Counted by valgrind, less those of a replay of no cycles."""
    spec = _spec(name)
    trace = recording(compile(spec), BENCHES[name](spec, SEED), REPLAYED)
    library = Build(products.of(spec), Flags(optimise=True)).library()
    with tempfile.TemporaryDirectory(prefix="senbazuru-history-") as folder:
        program, rows = f"{folder}/replay", Path(folder) / "rows"
        subprocess.run([toolchain.cxx(), "-O1", "-o", program, str(REPLAY), "-ldl"], check=True)
        rows.write_bytes(trace.rows.tobytes())
        command = [program, str(library), str(rows), str(trace.rows.shape[1])]
        return _counted([*command, str(len(trace))], folder) - _counted([*command, "0"], folder)


def _counted(command: list[str], folder: str) -> int:
    counter = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
    run = subprocess.run([*counter, *command], check=True, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", run.stderr)
    assert found, run.stderr
    return int(found[1])


def tools() -> list[str]:
    """What instructions depend on."""
    version = subprocess.run([toolchain.cxx(), "--version"], check=True, capture_output=True, text=True).stdout
    return [f"Verilator {toolchain.verilator().version}", version.splitlines()[0]]


def last(file: Path = FILE) -> dict[str, Any]:
    """The newest record: ``tools``, and ``figures`` by unit and name."""
    records: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return records[-1] if records else {"tools": [], "figures": {}}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, float, float]]:
    """Unit, figure, then, now: of the figures that both records have and that differ."""
    alike = before["tools"] == now["tools"]
    return [
        (name, figure, then, value)
        for name, figures in now["figures"].items()
        for figure, value in figures.items()
        if (then := before["figures"].get(name, {}).get(figure)) not in (None, value)
        and (alike or figure != INSTRUCTIONS)
    ]


def record(figures: Mapping[str, Figures], accept: bool = False, file: Path = FILE) -> int:
    """Compare with the last record, and add one; the exit code."""
    now = {"tools": tools(), "figures": figures}
    before = last(file)
    found, worse = differences(before, now), 0
    for name, figure, then, value in found:
        bad = value > then * WORSE
        worse += bad
        print(f"{name}: {figure} {then:,.0f} -> {value:,.0f}{' (worse)' if bad else ''}")
    if worse and not accept:
        print(f"{worse} figures are more than 2 % worse; python -m scripts.history --accept, if they must be")
        return 1
    if now != before:
        records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        file.write_text(json.dumps([*records, now], indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} figures differ")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.history", description="figures of all units, kept")
    parser.add_argument("--accept", action="store_true", help="keep a record with figures that are worse")
    args = parser.parse_args()
    code = record(collect(measurements(), PARTS), args.accept)
    if not code:
        PARTS.unlink()
    return code


if __name__ == "__main__":
    sys.exit(main())
