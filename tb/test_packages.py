"""What stands around the Verilog for other people's tools: FuseSoC, LiteX, make, Vivado."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyslang import ast, syntax

import gen.fusesoc
from gen import __version__, toolchain
from gen.export import Product, export
from gen.fusesoc import generate
from gen.interfaces import AXI4, AXI4_LITE, AXIS, Interface, interfaces
from gen.registry import UNITS
from golden.spec import SpecError
from tb.axi_bridge import UNIT, BridgeSpec
from tb.products import lint
from tb.test_export import SMALLEST, product

GENERATOR = Path(gen.fusesoc.__file__).parent
smallest = pytest.mark.parametrize(
    ("name", "preset"), [pytest.param(*e, marks=pytest.mark.xdist_group("-".join(e))) for e in SMALLEST]
)


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Product:
    monkeypatch.setitem(UNITS, "axi_bridge", UNIT)
    return export(BridgeSpec())


def run(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    tool = toolchain.verilator().environment
    path = os.pathsep.join((str(Path(sys.executable).parent), tool["PATH"]))
    env = os.environ | tool | {"PATH": path}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


# Interfaces


def test_interfaces_are_streams_and_groups_of_channels(bridge: Product) -> None:
    lite, full = interfaces(bridge.manifest["streams"])
    assert (lite.name, lite.protocol, lite.master) == ("s_axil", AXI4_LITE, False)
    assert (full.name, full.protocol, full.master) == ("m_axi", AXI4, True)
    assert {s.logical: s.port for s in lite.signals}["WSTRB"] == "s_axil_wstrb"
    assert (full.width("ARADDR"), full.width("RDATA"), full.width("RUSER")) == (40, 32, 0)
    streams = interfaces(product("orizuru", "tiny").manifest["streams"])
    assert [(i.name, i.protocol, i.master) for i in streams] == [
        ("s_axis", AXIS, False),
        ("s_axis_cfg", AXIS, False),
        ("m_axis", AXIS, True),
    ]
    assert [s.logical for s in streams[0].signals] == ["TDATA", "TVALID", "TREADY", "TLAST"]


def every_port_once(made: Product) -> None:
    found = interfaces(made.manifest["streams"])
    ports = [s.port for i in found for s in i.signals] + [s["name"] for s in made.manifest["status"]]
    assert sorted([*ports, "clk", "rst"]) == sorted(p["name"] for p in made.manifest["ports"])


@smallest
def test_every_port_belongs_to_one_interface(name: str, preset: str) -> None:
    every_port_once(product(name, preset))


def test_every_port_of_axi_belongs_to_one_interface(bridge: Product) -> None:
    every_port_once(bridge)


# Vivado


def attributes(made: Product) -> dict[str, dict[str, str]]:
    """Attributes of each port, as a parser reads them that is not ours."""
    compilation = ast.Compilation()
    compilation.addSyntaxTree(syntax.SyntaxTree.fromText(made.verilog))
    (top,) = compilation.getRoot().topInstances
    return {p.name: {a.name: text(int(a.value.value)) for a in compilation.getAttributes(p)} for p in top.body.portList}


def text(value: int) -> str:
    """The string that Verilog keeps as a number."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big").decode()


def marked(i: Interface) -> dict[str, dict[str, str]]:
    kind = "axis" if i.protocol == AXIS else "aximm"
    return {s.port: {"X_INTERFACE_INFO": f"xilinx.com:interface:{kind}:1.0 {i.name} {s.logical}"} for s in i.signals}


@smallest
def test_vivado_is_told_the_interface_of_every_port(name: str, preset: str) -> None:
    made = product(name, preset)
    found = interfaces(made.manifest["streams"])
    buses = ":".join(i.name for i in found)
    told = attributes(made)
    for lite in (i for i in found if i.protocol == AXI4_LITE):
        told_of = told[lite.signals[0].port].pop("X_INTERFACE_PARAMETER")
        assert told_of == f"XIL_INTERFACENAME {lite.name}, PROTOCOL AXI4LITE"
    assert told == {
        "clk": {
            "X_INTERFACE_INFO": "xilinx.com:signal:clock:1.0 clk CLK",
            "X_INTERFACE_PARAMETER": f"XIL_INTERFACENAME clk, ASSOCIATED_BUSIF {buses}, ASSOCIATED_RESET rst",
        },
        "rst": {
            "X_INTERFACE_INFO": "xilinx.com:signal:reset:1.0 rst RST",
            "X_INTERFACE_PARAMETER": "XIL_INTERFACENAME rst, POLARITY ACTIVE_HIGH",
        },
        **{port: mark for i in found for port, mark in marked(i).items()},
        **{s["name"]: {} for s in made.manifest["status"]},
    }


def test_vivado_is_told_of_axi(bridge: Product) -> None:
    lite, full = interfaces(bridge.manifest["streams"])
    told = attributes(bridge)
    assert told["s_axil_awaddr"].pop("X_INTERFACE_PARAMETER") == "XIL_INTERFACENAME s_axil, PROTOCOL AXI4LITE"
    assert {port: told[port] for i in (lite, full) for port in marked(i)} == {**marked(lite), **marked(full)}


# make


def test_the_makefile_snippet_lints(tmp_path: Path) -> None:
    """Its other target builds the harness of ``examples/verilator_cpp``."""
    product("mixpe_pe", "tiny").write(tmp_path / "out")
    linted = run(toolchain.make(), "-f", "out/mixpe_pe.mk", "mixpe_pe_lint", cwd=tmp_path)
    assert (linted.returncode, linted.stderr) == (0, "")


# LiteX


def litex_module(made: Product, folder: Path) -> Any:
    made.write(folder)
    loaded = importlib.util.spec_from_file_location(f"{made.top}_litex", folder / f"{made.top}_litex.py")
    assert loaded and loaded.loader
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return getattr(module, "".join(word.capitalize() for word in made.top.split("_")))


def elaborated(module: Any) -> str:
    """Verilog that LiteX writes around a module, all its signals as ports."""
    from litex.gen.fhdl.verilog import convert
    from migen import ClockDomain, Record, Signal

    module.clock_domains.cd_sys = domain = ClockDomain("sys")
    ports = {domain.clk, domain.rst}
    for member in vars(module).values():
        channels = [getattr(member, c) for c in ("aw", "w", "b", "ar", "r")] if hasattr(member, "ar") else [member]
        for c in channels:
            if isinstance(c, Record):
                ports |= set(c.flatten())
            elif isinstance(c, Signal):
                ports.add(c)
    return str(convert(module, ports, name="around"))


@smallest
def test_litex_elaborates_every_unit(name: str, preset: str, tmp_path: Path) -> None:
    made = product(name, preset)
    text = elaborated(litex_module(made, tmp_path)())
    instance = re.search(rf"^{made.top} {made.top}\(\n(.*?)\n\);", text, re.MULTILINE | re.DOTALL)
    assert instance
    assert set(re.findall(r"\.(\w+)\s*\(", instance[1])) == {p["name"] for p in made.manifest["ports"]}


@pytest.mark.parametrize("axi", [False, True])
def test_what_litex_writes_around_a_unit_fits(axi: bool, bridge: Product, tmp_path: Path) -> None:
    """No width and no direction is wrong: Verilator says so of a port that is."""
    made = bridge if axi else product("mixpe", "tiny")
    (tmp_path / "around.v").write_text(elaborated(litex_module(made, tmp_path)()))
    said = lint(tmp_path, f"{made.top}.vlt", f"{made.top}.v", "around.v", "--top-module", "around")
    assert not re.findall(r".*(?:PIN|WIDTH).*", said)


def test_litex_gets_the_source(tmp_path: Path) -> None:
    sources = []

    class Platform:
        def add_source(self, path: str) -> None:
            sources.append(path)

    module = litex_module(product("mixpe_pe", "tiny"), tmp_path)(Platform())
    assert sources == [str(tmp_path / "mixpe_pe.v")]
    assert len(module.sink.data) == 8 * 2


# FuseSoC

USER = """\
CAPI=2:
name: "acme:chips:top:1.0.0"
generate:
  small_pe:
    generator: senbazuru
    parameters: {unit: mixpe_pe, preset: tiny, config: pe.toml, set: {act: int8}, top: small_pe}
filesets:
  needed:
    depend: ["senbazuru:utils:generator"]
  rtl:
    files: [top.v: {file_type: verilogSource}]
targets:
  lint:
    filesets: [needed, rtl]
    generate: [small_pe]
    toplevel: top
    flow: lint
    flow_options: {tool: verilator, verilator_options: [-Wall, -Wno-PINMISSING, -Wno-WIDTH]}
"""


def fusesoc(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (folder / "fusesoc.conf").write_text("[main]\ncache_root = cache\n")  # not what a user of this machine has
    roots = ("--config", "fusesoc.conf", "--cores-root", str(GENERATOR), "--cores-root", str(folder))
    return run(sys.executable, "-m", "fusesoc.main", *roots, *arguments, cwd=folder)


def test_fusesoc_lints_a_product_as_a_core(tmp_path: Path) -> None:
    product("mixpe_pe", "tiny").write(tmp_path)
    linted = fusesoc(tmp_path, "run", "--target=lint", "senbazuru:unit:mixpe_pe")
    assert linted.returncode == 0, linted.stderr
    assert "%Warning" not in linted.stdout + linted.stderr


def test_fusesoc_generates_a_unit_in_a_design(tmp_path: Path) -> None:
    inputs = [p["name"] for p in product("mixpe_pe", "tiny").manifest["ports"] if p["direction"] == "input"]
    (tmp_path / "top.core").write_text(USER)
    (tmp_path / "pe.toml").write_text('group = 40\nact = "int4"\n')
    (tmp_path / "top.v").write_text(
        "module top; small_pe pe (" + ", ".join(f".{p}(0)" for p in inputs) + "); endmodule\n"
    )
    linted = fusesoc(tmp_path, "run", "--target=lint", "acme:chips:top")
    assert linted.returncode == 0, linted.stderr
    (made,) = tmp_path.glob("build/**/small_pe.json")
    configuration = yaml.safe_load(made.read_text())["configuration"]
    assert (configuration["group"], configuration["act"]) == (40, "int8")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "parameters must be unit and any of preset, config, set, top, not "),
        ({"unit": "mixpe", "rows": 4}, "parameters must be unit and any of preset, config, set, top, not unit, rows"),
        ({"unit": "mixpe", "set": "rows=4"}, "set must be a mapping, not 'rows=4'"),
        ({"unit": "mixpe", "set": {"rows": 0}}, "rows must be an integer between 1 and 64, not 0"),
        (
            {"unit": "mixpe", "config": "no.toml"},
            "configuration file {}/no.toml must be readable: No such file or directory",
        ),
    ],
)
def test_what_the_generator_refuses(parameters: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as e:
        generate({"parameters": parameters, "files_root": str(tmp_path), "vlnv": "a:b:c:1"})
    assert str(e.value) == sentence.format(tmp_path)
    request = {"parameters": parameters, "files_root": str(tmp_path)}
    (tmp_path / "request.yml").write_text(yaml.safe_dump(request, sort_keys=False))
    asked = run(sys.executable, str(GENERATOR / "fusesoc.py"), "request.yml", cwd=tmp_path)
    assert (asked.returncode, asked.stderr) == (1, sentence.format(tmp_path) + "\n")


def test_the_generator_has_the_version_of_the_package() -> None:
    core = yaml.safe_load((GENERATOR / "senbazuru.core").read_text())
    assert core["name"] == f"senbazuru:utils:generator:{__version__}"
    assert (GENERATOR / core["generators"]["senbazuru"]["command"]).exists()
