"""The product of every unit in every preset: legal, clean, reproducible Verilog, and a manifest that tells the truth.

How long it takes grows with the presets: each is exported and linted once, and kept.
"""

import functools
import hashlib
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from pyslang import ast, syntax

from gen import toolchain
from gen.elaborate import elaborate
from gen.export import Product, export
from gen.manifest import beat_bytes
from gen.netlist import modules, yosys
from gen.registry import UNITS, unit
from gen.tidy import Names, tidy
from gen.waivers import WAIVERS
from golden.mixpe.pe import PESpec
from golden.orizuru.engine import VARIANTS, OrizuruSpec
from golden.spec import SpecError
from hdl.mixpe.pe import PE
from hdl.shared import Shared
from tb import products
from tb.kept import kept
from tb.products import lint

SMALLEST = [(name, "tiny" if "tiny" in u.presets else next(iter(u.presets))) for name, u in UNITS.items()]
EVERY = [(name, preset) for name, u in UNITS.items() for preset in u.presets]
LONG = {("moe_ffn", "square"), ("moe_ffn", "decode"), ("moe_resident", "smollm2"), ("expert_ffn", "smollm2")}
"""Whole layers beside that of ``make demo``: each takes a minute."""
# one worker exports a configuration for all its tests
every = pytest.mark.parametrize(
    ("name", "preset"),
    [
        pytest.param(
            *e, id="-".join(e), marks=[pytest.mark.xdist_group("-".join(e)), *([pytest.mark.slow] if e in LONG else [])]
        )
        for e in EVERY
    ],
)


@functools.cache
def product(name: str, preset: str) -> Product:
    return products.of(unit(name).configure(preset))


def parsed(verilog: str) -> ast.Compilation:
    compilation = ast.Compilation()
    compilation.addSyntaxTree(syntax.SyntaxTree.fromText(verilog))
    errors = [d for d in compilation.getAllDiagnostics() if d.isError()]
    assert not errors, errors
    return compilation


@every
def test_a_foreign_parser_reads_the_port_table_of_the_manifest(name: str, preset: str) -> None:
    made = product(name, preset)
    tops = parsed(made.verilog).getRoot().topInstances
    assert [t.name for t in tops] == [made.top]
    directions = {ast.ArgumentDirection.In: "input", ast.ArgumentDirection.Out: "output"}
    assert [
        {"name": p.name, "direction": directions[p.direction], "width": p.type.bitWidth} for p in tops[0].body.portList
    ] == made.manifest["ports"]


@every
def test_lint_is_clean_with_the_waivers(name: str, preset: str, tmp_path: Path) -> None:
    made = product(name, preset)
    made.write(tmp_path)
    assert lint(tmp_path, f"{made.top}.vlt", f"{made.top}.v") == ""


@pytest.mark.slow
def test_the_largest_array_is_small_and_clean(tmp_path: Path) -> None:
    """64 x 64: too large for the bench's time, so it is generated and linted; 4,096 placed elements would be 65,000
    lines in one flat module."""
    made = export(unit("mixpe").configure(layers=[{"rows": 64, "cols": 64}]))
    assert made.verilog.count("\n") <= 8000
    made.write(tmp_path)
    assert lint(tmp_path, f"{made.top}.vlt", f"{made.top}.v") == ""


def test_lint_is_clean_where_a_row_has_more_wires_than_its_elements_have_multiplexers(tmp_path: Path) -> None:
    """Functions of one module must not hide wires of the module above."""
    made = export(unit("mixpe").configure(layers=[{"core": "two_term", "rows": 2}]))
    made.write(tmp_path)
    assert lint(tmp_path, f"{made.top}.vlt", f"{made.top}.v") == ""


@pytest.mark.slow
def test_the_published_index_gemm_is_clean(tmp_path: Path) -> None:
    """16 lines of 512 codes: too large to simulate, so it is generated and linted: a line by itself, then all but the
    lines, of which Verilator would make copies."""
    made = export(unit("lutgemm").configure(layers=[{"lines": 16, "codes": 512, "width": 32}]))
    assert made.verilog.count("\n") <= 14000
    made.write(tmp_path)
    files = (f"{made.top}.vlt", f"{made.top}.v")
    line = f"{made.top}_line"
    assert lint(tmp_path, *files, "--top-module", line) == ""
    text = modules(made.verilog)[line]
    header = text[: text.index("\n);\n") + 4]
    stub = f"/* verilator lint_off UNUSEDSIGNAL */\n/* verilator lint_off UNDRIVEN */\n{header}endmodule\n"
    stub += "/* verilator lint_on UNUSEDSIGNAL */\n/* verilator lint_on UNDRIVEN */\n"
    rest = made.verilog.replace(text, stub)
    for inside in ("bin", "index_counter", "weighted_sum"):
        rest = rest.replace(modules(rest)[f"{made.top}_{inside}"], "")
    (tmp_path / files[1]).write_text(rest)
    assert lint(tmp_path, *files) == ""


@pytest.mark.parametrize("variant", VARIANTS)
def test_lint_is_clean_for_every_way_to_select(variant: str, tmp_path: Path) -> None:
    made = export(OrizuruSpec(n=21, lanes=5, variant=variant, key="int8"))
    made.write(tmp_path)
    assert lint(tmp_path, f"{made.top}.vlt", f"{made.top}.v") == ""


def test_lint_complains_without_the_waivers(tmp_path: Path) -> None:
    product("mixpe_pe", "tiny").write(tmp_path)
    assert "%Warning-PROCASSINIT" in lint(tmp_path, "mixpe_pe.v")


@every
def test_every_port_of_the_top_is_used(name: str, preset: str) -> None:
    made = product(name, preset)
    body = re.search(rf"^module {made.top} \(\n.*?\);\n(.*?)^endmodule", made.verilog, re.MULTILINE | re.DOTALL)
    assert body
    assert {p["name"] for p in made.manifest["ports"]} <= set(re.findall(r"\w+", body[1]))


def test_waivers_are_few_and_each_has_a_reason() -> None:
    assert len(WAIVERS) <= 12
    assert all(len(w.reason.split()) > 3 for w in WAIVERS)
    assert len(set(WAIVERS)) == len(WAIVERS)
    vlt = product("mixpe_pe", "tiny").vlt.splitlines()
    assert vlt[0] == "`verilator_config"
    assert vlt[1::2] == [f"// {w.reason}" for w in WAIVERS]
    assert all(line.startswith("lint_off -rule ") for line in vlt[2::2])


@every
def test_names_are_plain_and_modules_begin_with_the_top(name: str, preset: str) -> None:
    made = product(name, preset)
    code = re.sub(r"//.*", "", made.verilog)
    assert "\\" not in code
    assert set(re.findall(r"[\w$]*\$[\w$]*", code)) <= {"$signed", "$unsigned"}
    modules = re.findall(r"^module (\w+) \(", code, re.MULTILINE)
    assert modules[0] == made.top
    assert all(m.startswith(f"{made.top}_") for m in modules[1:])
    assert len(set(modules)) == len(modules)


@every
def test_no_place_and_no_time_in_the_product(name: str, preset: str) -> None:
    text = "".join(product(name, preset).files.values())
    assert str(Path.cwd()) not in text
    assert sys.prefix not in text
    assert not re.search(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{2}:\d{2}:\d{2}\b", text)


@every
def test_the_manifest_describes_its_verilog(name: str, preset: str) -> None:
    made = product(name, preset)
    spec = unit(name).configure(preset)
    manifest = json.loads(made.files[f"{made.top}.json"])
    assert manifest["sha256"] == hashlib.sha256(made.verilog.encode()).hexdigest()
    assert manifest["unit"] == name
    assert type(spec)(**manifest["configuration"]) == spec
    assert manifest["figures"] == spec.figures()


@every
def test_the_header_holds_the_configuration_and_the_ports(name: str, preset: str) -> None:
    made = product(name, preset)
    comment = [line.removeprefix("//").strip() for line in made.verilog.splitlines() if line.startswith("//")]
    at, end = comment.index("Configuration (TOML)"), comment.index("Ports")
    spec = unit(name).configure(preset)
    assert type(spec).from_toml("\n".join(comment[at + 1 : end])) == spec
    rows = [line.split()[:3] for line in comment[end + 1 :]]
    assert rows == [[p["name"], p["direction"], str(p["width"])] for p in made.manifest["ports"]]


@every
def test_beats_can_be_packed_and_unpacked_from_the_manifest_alone(name: str, preset: str) -> None:
    rng = random.Random(7)
    for port, stream in zip(unit(name).configure(preset).ports, product(name, preset).manifest["streams"], strict=True):
        assert stream["prefix"] == port.prefix
        values = {f["name"]: [_random(rng, f) for _ in range(f["lane"]["count"])] for f in stream["fields"]}
        tdata = 0
        for f in stream["fields"]:
            for i, v in enumerate(values[f["name"]]):
                tdata |= (v % (1 << f["width"])) << (i * f["lane"]["stride"] + f["lsb"])
        beats = port.pack(**{k: [v] for k, v in values.items()})
        assert beats.data[0].tobytes() == tdata.to_bytes(beat_bytes(stream), "little")
        assert {k: v[0].tolist() for k, v in port.unpack(beats).items()} == values


def _random(rng: random.Random, field: dict[str, Any]) -> int:
    signed = field["format"].startswith("int")
    return rng.getrandbits(field["width"]) - (1 << (field["width"] - 1) if signed else 0)


@pytest.mark.parametrize(
    ("name", "preset"), [pytest.param(*e, marks=[] if e in SMALLEST else pytest.mark.slow) for e in EVERY]
)
def test_yosys_reads_the_product(name: str, preset: str) -> None:
    made = product(name, preset)
    script = ["read_verilog product.v", f"hierarchy -check -top {made.top}", "proc", "check -assert"]

    def said() -> str:
        yosys(script, {"product.v": made.verilog}, [])
        return "read"

    kept("yosys", (toolchain.yosys().version, *script, made.verilog), said)


class Words(wiring.Component):
    """Ports that Verilog cannot name."""

    kind = "words"

    def __init__(self) -> None:
        super().__init__({"end": In(1), "end_": In(1), "begin": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.begin.eq(self.end & ~self.end_)
        return m


class Pair(wiring.Component):
    """Two kinds of PE, one placed twice, and names that need care."""

    def __init__(self) -> None:
        super().__init__({"x": In(signed(8)), "end": In(1), "sum": Out(16), "other": Out(17)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        short, long = PESpec.from_values({"group": 8}), PESpec.from_values({"group": 16})
        assert short.sum_width == 15
        m.submodules.a = a = Shared(PE, short)
        m.submodules.b = b = Shared(PE, long)
        m.submodules.c = c = Shared(PE, short)
        m.submodules.d = d = Shared(Words)
        held, clash = Signal(8, name="held.x[0]"), Signal(8, name="held_x_0")
        word = Signal()
        m.d.sync += [held.eq(self.x), clash.eq(held), word.eq(self.end)]
        m.d.comb += [
            d.end.eq(word),
            d.end_.eq(self.end),
            a.x_i.eq(clash),
            b.x_i.eq(a.x_o),
            c.x_i.eq(b.x_o),
            *(p.last_i.eq(word & self.end) for p in (a, b, c)),
            *(p.w_i.eq(self.x[:4]) for p in (a, b, c)),
            self.sum.eq(b.sum),
            self.other.eq(Cat(a.sum, c.sum[0], d.begin)),
        ]
        return m


def test_every_kind_of_block_is_one_module() -> None:
    text, order = elaborate(Pair(), "pair")
    verilog = "\n".join(tidy(text, order))
    root = parsed(verilog).getRoot()
    assert re.findall(r"^module (\w+)", verilog, re.MULTILINE) == ["pair", "pair_pe", "pair_pe_1", "pair_words"]
    assert re.findall(r"^  (\w+) ([abc]) \($", verilog, re.MULTILINE) == [
        ("pair_pe", "a"),
        ("pair_pe_1", "b"),
        ("pair_pe", "c"),
    ]
    # ports called like reserved words are renamed, and still found by whoever places the module
    words = re.search(r"^module pair_words \((.*?)\);", verilog, re.MULTILINE | re.DOTALL)
    assert words
    assert re.findall(r"(\w+)(?: = .*)?,?\n", words[1]) == ["clk", "rst", "end__1", "end_", "begin_"]
    assert {"    .end__1(end_1),", "    .end_(end_),", "    .begin_(begin_),"} <= set(verilog.splitlines())
    assert [p.name for p in root.topInstances[0].body.portList] == ["clk", "rst", "x", "end_", "sum", "other"]
    assert {"held_x_0", "held_x_0_1"} <= set(re.findall(r"reg (?:\[7:0\] )?(\w+) =", verilog))


def test_names_stay_distinct() -> None:
    names = Names("wire a_b; wire \\a.b ;")
    assert [names[n] for n in ("a_b", "\\a.b ", "\\a[b] ", "\\$12 ", "\\x$7 ", "\\x$8 ", "\\2x ", "\\end ")] == [
        "a_b",
        "a_b_1",
        "a_b_2",
        "_1",
        "x_1",
        "x_2",
        "_2x",
        "end_",
    ]
    assert names["\\a.b "] == "a_b_1"


def test_top_names_module_and_files(tmp_path: Path) -> None:
    made = export(unit("mixpe_pe").configure("tiny"), top="my_pe")
    assert [p.name for p in made.write(tmp_path / "new" / "folder")] == [
        "my_pe.v",
        "my_pe.json",
        "my_pe.vlt",
        "my_pe.core",
        "my_pe.mk",
        "my_pe_litex.py",
    ]
    assert made.manifest["top"] == "my_pe"
    assert "module my_pe_pe (" in made.verilog
    assert "mixpe_pe_" not in made.verilog
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(made.files)


@pytest.mark.parametrize(
    ("top", "sentence"),
    [
        ("1pe", "top must be a letter followed by letters, digits and underscores, not '1pe'"),
        ("", "top must be a letter followed by letters, digits and underscores, not ''"),
        ("pe\n", "top must be a letter followed by letters, digits and underscores, not 'pe\\n'"),
        ("module", "top must not be a word that Verilog reserves, not 'module'"),
    ],
)
def test_a_name_that_cannot_be_a_module_is_refused(top: str, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        export(unit("mixpe_pe").configure("tiny"), top=top)
    assert str(e.value) == sentence


def test_a_product_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made = product("mixpe_pe", "tiny")
    (tmp_path / "mixpe_pe.vlt").mkdir()
    with pytest.raises(SpecError) as e:
        made.write(tmp_path)
    assert str(e.value) == f"output folder {tmp_path} must be writable: mixpe_pe.vlt is a directory"
    assert [p.name for p in tmp_path.iterdir()] == ["mixpe_pe.vlt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError) as e:
        made.write(tmp_path / "file")
    assert str(e.value) == f"output folder {tmp_path / 'file'} must be writable: File exists"


def test_exporting_twice_in_one_process_gives_the_same_bytes() -> None:
    spec = unit("mixpe_pe").configure("tiny")
    assert export(spec).files == product("mixpe_pe", "tiny").files


@every
def test_figures_and_configuration_are_plain_values(name: str, preset: str) -> None:
    manifest = product(name, preset).manifest
    assert all(type(v) in (int, float) for v in manifest["figures"].values())
    assert all(type(v) in (int, bool, str) for v in manifest["configuration"].values())
