"""The documentation: the site builds strictly, offline and whole, and what the pages tell a reader to run runs."""

import argparse
import importlib.util
import itertools
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from gen import toolchain
from gen.registry import UNITS, unit
from golden.ports import Beats
from golden.soc.registers import CAUSES, REGISTERS
from scripts.cli import parser
from scripts.docs import mutation, proofs
from scripts.docs.__main__ import TIMED, build
from scripts.docs.drawing import svg
from scripts.docs.graph import Graph, Node, graph
from scripts.docs.source import smallest
from scripts.docs.timing import free_case, overview, play
from scripts.docs.verification import evidence
from tb.formal.__main__ import CLAIMS
from tb.snippets import PAGES, ROOT, Snippet, commands, mentioned, snippets
from tb.test_examples import environment
from tb.transactions import CheckFailed

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


# Pages


class Loaded(HTMLParser):
    """What a browser loads for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(found.get("src") or "")
        if tag == "link" and found.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.addresses.append(found.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "html"
    assert build(folder) == 0
    return folder


@pytest.mark.xdist_group("docs")
def test_the_site_has_a_page_with_drawings_for_every_unit(site: Path) -> None:
    for name in UNITS:
        text = (site / "units" / f"{name}.html").read_text(encoding="utf-8")
        assert f"{name}.svg" in text
        assert (f"{name}_timing.svg" in text) == (name in TIMED)
        for p in UNITS[name].spec.parameters():
            assert f">{p['name']}<" in text


@pytest.mark.xdist_group("docs")
def test_the_site_has_every_register_and_error(site: Path) -> None:
    text = (site / "registers.html").read_text(encoding="utf-8")
    assert all(f"<p>{r.name}</p>" in text for r in REGISTERS)
    assert all(f"<p>{cause.name.lower()}</p>" in text for cause in CAUSES)


@pytest.mark.xdist_group("docs")
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    found = list(site.rglob("*.html"))
    assert len(found) > len(UNITS)
    for page in found:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        for address in loaded.addresses:
            assert not re.match(r"\w+:|//", address) or address.startswith("data:"), page
            assert (page.parent / address.partition("?")[0]).exists(), f"{page.name}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_what_was_proved_is_what_is_claimed() -> None:
    found, claims = proofs.kept(), {proofs.key(c): c for c in CLAIMS}
    assert list(found) == [k for k in claims if k in found]
    assert {k for k, d in found.items() if d.mutants} == proofs.firsts() & found.keys()
    for k, d in found.items():
        cycles = claims[k].cycles
        assert d.result.startswith(f"bounded, {cycles} cycles" if cycles else "proved ")
        assert d.engine == claims[k].engine
    assert proofs.PAGE.read_text(encoding="utf-8") == proofs.page()


def test_every_unit_has_tests_of_its_own() -> None:
    assert all(e.count for e in evidence().values())


# Snippets


@pages
def test_snippets_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    play_snippets([s for s in snippets(page) if s.kind in ("", "fails")], tmp_path)


@pytest.mark.slow
@pages
def test_slow_snippets_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    play_snippets([s for s in snippets(page) if s.kind == "slow"], tmp_path)


def play_snippets(found: list[Snippet], folder: Path) -> None:
    """One after the other in one folder, where the examples are at hand."""
    (folder / "examples").symlink_to(ROOT / "examples")
    env = environment(folder) | {"SENBAZURU_CACHE": str(toolchain.cache_folder())}
    for s in found:
        command = ["bash", "-euc"] if s.language == "sh" else [sys.executable, "-c"]
        run = subprocess.run([*command, s.text], cwd=folder, env=env, capture_output=True, text=True)
        assert run.returncode == (2 if s.kind == "fails" else 0), f"line {s.line}: {run.stdout}{run.stderr}"
        output = run.stderr if s.kind == "fails" else run.stdout
        assert s.printed_in(output), f"line {s.line}: {output}"


@pages
def test_commands_are_such_that_the_command_line_takes(page: Path) -> None:
    for words in commands(page):
        if words[0] == "senbazuru":
            parser().parse_args(words[1:])
    (subcommands,) = (a.choices for a in parser()._actions if isinstance(a.choices, dict))
    for words in commands(page) + mentioned(page):
        if words[0] == "python":
            assert importlib.util.find_spec(words[2]), words
        elif re.fullmatch(r"[a-z]+", words[1]):
            known = options(subcommands[words[1]])
            assert all(w.partition("=")[0] in known for w in words if re.match(r"--\w", w)), words


def options(of: argparse.ArgumentParser) -> set[str]:
    """What a subcommand and those below it know."""
    found = set(of._option_string_actions)
    for below in (a.choices for a in of._actions if isinstance(a.choices, dict)):
        found |= {o for sub in below.values() for o in options(sub)}
    return found


def test_what_is_not_printed_is_noticed() -> None:
    snippet = Snippet(1, "sh", "", "", "first\nthird\n")
    assert snippet.printed_in("the first\nsecond\nthird\n")
    assert not snippet.printed_in("third\nfirst\n")


# Drawings


def test_blocks_and_lines_are_those_of_the_design() -> None:
    found = graph(unit("mixpe").configure("tiny"))
    names = [n.name for n in found.nodes]
    edges = {(names[a], names[b]) for a, b in found.edges}
    assert {("act", "feeder"), ("feeder", "array"), ("array", "lane_row_0"), ("collect", "o")} <= edges
    assert not any(n.kind.startswith("skid") for n in found.nodes)
    lines = next(n for n in graph(unit("lutgemm").configure("tiny")).nodes if n.kind == "line")
    assert lines.count == 2


@pytest.mark.parametrize("name", UNITS)
def test_no_block_covers_another(name: str) -> None:
    drawing = ElementTree.fromstring(svg(graph(unit(name).configure(smallest(UNITS[name])))))
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    boxes = [
        tuple(float(r.attrib[a]) for a in ("x", "y", "width", "height"))
        for r in drawing.iter("{http://www.w3.org/2000/svg}rect")
        if "class" in r.attrib
    ]
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    for (x, y, w, h), (x1, y1, w1, h1) in itertools.combinations(boxes, 2):
        assert x + w <= x1 or x1 + w1 <= x or y + h <= y1 or y1 + h1 <= y


def test_lines_against_the_flow_are_dashed() -> None:
    nodes = [Node("i", "", "in"), Node("a", "a"), Node("b", "b"), Node("c", "c"), Node("o", "", "out")]
    drawn = svg(Graph(nodes, [(0, 1), (1, 2), (2, 3), (3, 2), (3, 1), (3, 4)]))
    assert sorted(re.findall(r'<path class="(\w+)"', drawn)) == ["back", "both", "forth", "forth", "forth"]


def test_a_timing_diagram_is_of_what_was_simulated() -> None:
    spec = unit("load_balance").configure("tiny")
    case = free_case(spec)
    seen = play(spec, case)
    assert {name: sum(s.valid and s.ready for s in all_) for name, all_ in seen.items()} == {
        name: len(beats) for name, beats in {**case.inputs, **case.outputs}.items()
    }
    drawn = overview(spec, seen)
    assert all(port.prefix in drawn for port in spec.ports)
    assert ElementTree.fromstring(drawn).attrib["viewBox"]


def test_a_case_that_fails_is_not_drawn() -> None:
    spec = unit("load_balance").configure("tiny")
    case = free_case(spec)
    wrong = Beats(case.outputs["o"].data ^ np.uint8(1), case.outputs["o"].last)
    with pytest.raises(CheckFailed, match="m_axis beat 0 is not what is expected"):
        play(spec, replace(case, outputs={"o": wrong}))
    with pytest.raises(CheckFailed, match="cycles: expected 1, got"):
        play(spec, replace(case, cycles=1))


def test_the_page_of_mutation_scores_shows_what_is_kept() -> None:
    assert f"\n{mutation.table(mutation.kept())}\n" in (ROOT / "docs" / "mutation.md").read_text()
