"""Boards: clocks, projects, reports, pictures; a bitstream where the tools are at hand."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from gen import fpga
from gen.boards import BOARDS, Pll
from gen.floorplan import COLOURS, GREY, Cell, counts, picture
from gen.registry import unit
from golden.mixpe.pe import PESpec
from golden.soc.board import NodeSpec
from golden.soc.mailbox import MailboxSpec
from golden.soc.uart import Line
from golden.spec import SpecError
from scripts.cli import main

NODE = NodeSpec(inner=PESpec(group=16), line=Line(divisor=12), depth=128)


@pytest.mark.parametrize("wanted", (25e6, 40e6, 50e6, 62.5e6, 100e6))
def test_pll(wanted: float) -> None:
    pll = Pll.make(25e6, wanted)
    assert 25e6 * pll.feedback / pll.reference == wanted
    assert 400e6 <= wanted * pll.output <= 800e6


def test_pll_by_hand() -> None:
    assert Pll.make(25e6, 50e6) == Pll(1, 2, 12)
    with pytest.raises(SpecError) as e:
        Pll.make(25e6, 50.001e6)
    assert str(e.value) == "clock must be one that a PLL makes of 25 MHz, not 50.001 MHz"


PROJECTS = {
    "ulx3s-85f": {"top.lpf": 'LOCATE COMP "uart_0__rx__io" SITE "M1";', "top.ys": "synth_ecp5 -abc9 -top top"},
    "ulx3s-25f": {"build_top.sh": "--25k --package CABGA381 --speed 6"},
    "ecpix5-85f": {"build_top.sh": "--um5g-85k --package CABGA554 --speed 8"},
    "icebreaker": {"top.pcf": "set_io uart_0__rx__io 6", "build_top.sh": "--up5k --package sg48"},
    "arty-a7-100": {"top.tcl": 'add_files "node.v"', "top.xdc": 'set_property LOC A9 [get_ports "uart_0__rx__io"]'},
    "de10-nano": {"top.qsf": 'set_location_assignment -to "uart_0__rx__io" PIN_AG13', "top.sdc": "create_clock"},
}


@pytest.mark.parametrize("name", BOARDS)
def test_project(name: str) -> None:
    """Pins, device and script of each board; nothing of the machine that wrote it."""
    board = BOARDS[name]
    files = fpga.project(NODE, board, board.clock)
    assert "module node (" in files["node.v"]
    for file, line in PROJECTS[name].items():
        assert line in files[file]
    assert not any(str(Path.home()) in text or str(Path.cwd()) in text for text in files.values())


def test_another_clock_comes_from_a_pll() -> None:
    files = fpga.project(NODE, BOARDS["ulx3s-85f"], 50e6)
    assert "EHXPLLL" in files["top.il"] and "EHXPLLL" not in fpga.project(NODE, BOARDS["ulx3s-85f"], 25e6)["top.il"]


def test_cells_belong_to_blocks() -> None:
    for name, block in (
        ("node.bridge.listener.place_LUT4_Z", "bridge"),
        ("node.mailbox.unit.pe.sum_TRELLIS_FF_Q", "mailbox.unit"),
        ("node.accelerator.datapath.gemm.pe_0_0.product_LUT4_Z_1", "accelerator.datapath"),
        ("node.accelerator.irq_LUT4_Z", "accelerator"),
        ("node.tx_LUT4_Z", "top"),
        ("$PACKER_GND", "top"),
    ):
        assert fpga.block_of(name) == block


def test_placement() -> None:
    """Cells of nextpnr's netlist, with their place; what has none, or is of no kind that is counted, is left out."""
    cells = {
        "node.bridge.a.b": {"type": "TRELLIS_COMB", "attributes": {"NEXTPNR_BEL": "X3/Y4/SLICEA.LUT0"}},
        "node.memory.c.d": {"type": "DP16KD", "attributes": {"NEXTPNR_BEL": "X10/Y25/EBR2"}},
        "rx": {"type": "TRELLIS_IO", "attributes": {"NEXTPNR_BEL": "X0/Y1/PIOA"}},
        "lost": {"type": "TRELLIS_COMB", "attributes": {}},
    }
    found = fpga.placement({"modules": {"top": {"cells": cells}}})
    assert found == [Cell("luts", "bridge", 3, 4), Cell("brams", "memory", 10, 25)]


def test_picture() -> None:
    """One square per tile in the colour of the block that has most of it; the largest block comes first."""
    cells = (
        [Cell("luts", "a<b", 0, 0)] * 3
        + [Cell("luts", "b", 0, 0), Cell("brams", "b", 2, 1)]
        + [Cell("luts", f"c{n}", 4, 4) for n in range(20)]
    )
    assert list(counts(cells))[:2] == ["a<b", "b"] and counts(cells)["b"] == {"luts": 1, "brams": 1}
    root = ET.fromstring(picture(cells, "t"))
    tiles = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("fill-opacity")]
    assert [t.get("fill") for t in tiles[:2]] == [COLOURS[0], COLOURS[1]]
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a<b" in texts and GREY in ET.tostring(root, encoding="unicode")


def test_report() -> None:
    report = fpga.Report(
        board="b",
        device="d",
        unit="u",
        configuration={},
        clock=50.0,
        divisor=50,
        utilisation={"luts": (1200, 4800)},
        blocks={"x": {"luts": 7}},
        fmax={1: 51.0, 2: 49.9},
        longest=fpga.LongestPath("node.a.b.c", "node.d", ["a", "d"], 3, 1.5, 2.25),
        tools={"yosys": "1"},
    )
    assert not report.met and json.loads(report.to_json())["met"] is False
    assert report.table().splitlines() == [
        "u on b",
        "luts          1,200 of 4,800, 25.0%",
        "fmax, seed 1  51.0 MHz",
        "fmax, seed 2  49.9 MHz",
        "clock         50 MHz: not met",
        "longest path  1.5 ns in 3 cells, 2.2 ns on wires: node.a.b.c to node.d, through a, d",
        "yosys         1",
        "",
        "block             luts",
        "x                    7",
    ]


def test_longest_path() -> None:
    """The slowest within a clock: not that from a pin, nor the shorter one."""

    def path(*steps: tuple[str, float, str]) -> list[dict[str, Any]]:
        return [{"type": kind, "delay": delay, "to": {"cell": f"node.{cell}"}} for kind, delay, cell in steps]

    slow = path(
        ("clk-to-q", 0.5, "bridge.a.q"),
        ("routing", 1.0, "memory.b.l"),
        ("logic", 0.25, "memory.b.l"),
        ("routing", 2.0, "bridge.c.d"),
        ("setup", 0.25, "bridge.c.d"),
    )
    paths = [
        {"from": "posedge clk", "to": "posedge clk", "path": slow[:2]},
        {"from": "posedge clk", "to": "posedge clk", "path": slow},
        {"from": "<async>", "to": "posedge clk", "path": path(("routing", 9.0, "rx"))},
    ]
    found = fpga.longest({"critical_paths": paths})
    assert found == fpga.LongestPath("node.bridge.a.q", "node.bridge.c.d", ["bridge", "memory"], 1, 1.0, 3.0)


REFUSED = {
    "board=nowhere": "board must be one of ulx3s-85f, ulx3s-25f, ecpix5-85f, icebreaker, arty-a7-100, de10-nano,"
    " not 'nowhere'",
    "board=icebreaker clock=24": "clock must be 12 MHz on icebreaker, not 24",
    "board=ulx3s-85f baud=9000000": "baud must be between 381 and 6250000 at 25000000 Hz, not 9000000",
    "board=ulx3s-85f seeds=0": "seeds must be at least 1, not 0",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refusals(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [text for argument in arguments.split() for text in ("--" + argument).split("=")]
    assert main(["fpga", "mixpe_pe", *options]) == 2
    assert capsys.readouterr().err == REFUSED[arguments] + "\n"


def test_refusals_of_nodes() -> None:
    values: list[tuple[dict[str, Any], str]] = [
        ({"inner": unit("uart_bridge").configure("tiny")}, "unit must have streams alone, not AXI4 as uart_bridge has"),
        ({"inner": PESpec(), "depth": 3}, "depth must be at least two beats of every stream, not 3 words"),
    ]
    for given, said in values:
        with pytest.raises(SpecError) as e:
            MailboxSpec(**given)
        assert str(e.value) == said


@pytest.mark.slow
def test_bitstream(tmp_path: Path) -> None:
    """From the specification to the bits, by packages of pip alone."""
    report = fpga.build(NODE, BOARDS["icebreaker"], 12e6, tmp_path, fpga.Options(seeds=1))
    assert report.met and 500 < report.utilisation["luts"][0] < 2000
    assert (tmp_path / "top.bin").stat().st_size > 50_000 and "<svg" in (tmp_path / "floorplan.svg").read_text()
    assert report.blocks["mailbox.unit"]["luts"] > 100


@pytest.mark.slow
def test_what_is_too_large_is_said(tmp_path: Path) -> None:
    node = NodeSpec(inner=PESpec(group=16), depth=4096)
    with pytest.raises(fpga.DoesNotFit, match=r"^the device must have room for the design: "):
        fpga.build(node, BOARDS["icebreaker"], 12e6, tmp_path, fpga.Options(seeds=1))
