"""Sweeps: what is measured once and kept, what fails, what the front is, and that bad input is one sentence."""

import dataclasses
import json
import math
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen import toolchain
from gen.synth import Options
from golden.mixpe.gemm import MixPESpec
from golden.spec import SpecError
from scripts.cli import main
from scripts.commands import explore
from scripts.explore import STUDIES, measures, pareto, plot, sweep
from scripts.explore.cost import Cost
from scripts.explore.pareto import Point, front
from scripts.explore.study import label
from scripts.explore.sweep import Measure, Store

Capture = pytest.CaptureFixture[str]
STUDY = STUDIES["mixpe"]


def identity(item: int) -> dict[str, Any]:
    return {"item": item}


def figures(item: int) -> dict[str, float]:
    """Fails for 3; at the top level, so that other processes find it."""
    if item == 3:
        raise SpecError("item must be another number, not 3")
    if item == 4:
        raise RuntimeError("Yosys failed:\nmuch\nERROR: no")
    return {"square": item * item}


MEASURE = Measure("squares", identity, figures)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "measured")


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_the_front_is_what_nothing_dominates(pairs: list[tuple[float, float]]) -> None:
    def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    naive = {i for i, b in enumerate(pairs) if not any(dominates(a, b) for a in pairs)}
    found = front(pairs)
    assert set(found) == naive
    assert len(found) == len(naive)
    assert [pairs[i][0] for i in found] == sorted(pairs[i][0] for i in found)


def test_nothing_is_measured_twice(store: Store, threads: Executor) -> None:
    said: list[str] = []
    first = sweep.sweep(MEASURE, [1, 2], store, threads, said.append)
    assert first == ({1: {"square": 1.0}, 2: {"square": 4.0}}, {})
    assert said[0] == "squares: 2 to measure, 0 of them kept from before"
    assert said[-1] == "squares: 2 of 2"
    broken = dataclasses.replace(MEASURE, figures=lambda item: {"square": -1.0})
    assert sweep.sweep(broken, [1, 2, 5], store, threads, said.append)[0] == {**first[0], 5: {"square": -1.0}}


def test_a_damaged_file_is_measured_again(store: Store, threads: Executor) -> None:
    sweep.sweep(MEASURE, [2], store, threads, print)
    for text in ("{", "[]", '{"figures": 3}', '{"figures": {"square": "x"}}'):
        (path,) = store.folder.iterdir()
        path.write_text(text)
        assert sweep.sweep(MEASURE, [2], store, threads, print)[0] == {2: {"square": 4.0}}


def test_what_fails_loses_nothing_else(store: Store, threads: Executor) -> None:
    found, failed = sweep.sweep(MEASURE, [1, 2, 3, 4, 5], store, threads, print)
    assert list(found.values()) == [{"square": float(i * i)} for i in found]
    assert set(found) == {1, 2, 5}
    assert failed == {
        3: "item must be another number, not 3",
        4: "RuntimeError: Yosys failed: ... ERROR: no",
    }
    assert len(list(store.folder.iterdir())) == 3


def test_an_interrupt_keeps_what_is_finished(store: Store) -> None:
    """The third measurement is where somebody presses Ctrl-C."""

    def say(line: str) -> None:
        if line.startswith("squares: 2 of"):
            raise KeyboardInterrupt

    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt), sweep.local(1) as executor:
        sweep.sweep(MEASURE, [1, 2, 5, 6, 7, 8, 9], store, executor, say)
    assert set(multiprocessing.active_children()) == before
    assert len(list(store.folder.iterdir())) == 2


def test_dask_gives_the_same(store: Store, threads: Executor, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    here = sweep.sweep(MEASURE, [1, 2, 3, 5], store, threads, print)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp"
        ) as local,
        sweep.cluster(local.scheduler_address) as executor,
    ):
        there = sweep.sweep(MEASURE, [1, 2, 3, 5], Store(tmp_path / "other"), executor, print)
    assert there == here


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(SpecError, match=r"^dask must be the address of a running scheduler, not 'nowhere://x': "),
        sweep.cluster("nowhere://x"),
    ):
        pass


def test_a_real_sweep_of_two_points_is_kept(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "a" / "plot.svg"
    line = "explore mixpe --weight int2 --act int4,int8 --core shift_add --stages 1 --group 256 --cost lut6"
    call = [*line.split(), "--act-scale", "token", "--jobs", "1", "--plot", str(picture)]
    assert main(call) == 0
    first, drawn = capsys.readouterr(), picture.read_bytes()
    assert "SQNR: 2 to measure, 0 of them kept from before" in first.err
    assert "lut6 figures: 2 to measure, 0 of them kept from before" in first.err
    head, *rows, last = first.out.splitlines()
    axes = ["weight", "act", "align", "group", "scale", "act_scale", "core", "stages"]
    assert head.split() == [*axes, "SQNR", "LUT6", "FF"]
    assert rows[0].split()[:8] == ["int2", "int4", "0", "256", "fp16", "token", "shift_add", "1"]
    assert last == f"{len(rows)} of 2 points on the front; 0 combinations refused"

    told = json.loads((tmp_path / "build/explore/points.json").read_text())
    assert (told["unit"], told["cost"], told["quality"], told["refused"]) == ("mixpe", "LUT6", "SQNR", 0)
    assert sum(p["front"] for p in told["points"]) == len(rows)
    assert all(p["cost"] == p["figures"]["LUT6"] and p["quality"] == p["figures"]["SQNR"] for p in told["points"])

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "build/explore/measured").iterdir()}
    assert main(call) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    again = capsys.readouterr()
    assert again.out == first.out
    assert "lut6 figures: 2 to measure, 2 of them kept from before" in again.err
    assert picture.read_bytes() == drawn
    for text in ("area", "SQNR (dB)", "LUT6 (LUTs of up to 6 inputs)", "weight int2", "act int4", "front"):
        assert (text in drawn.decode()) == (text != "area")


def test_a_point_that_fails_is_told_at_the_end(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fake(item: Any, target: str, options: Options) -> dict[str, float]:
        if item[0].act == "int8":
            raise SpecError("act must be another, not 'int8'")
        return {"LUT6": 5.0}

    monkeypatch.setattr(measures, "_cost_figures", fake)
    monkeypatch.setattr(sweep, "local", lambda jobs: ThreadPoolExecutor(jobs))
    monkeypatch.setattr(measures, "_quality_figures", lambda item, name, quality: {"SQNR": 3.0})
    line = "explore mixpe --weight int2 --act int4,int8 --group 32 --act-scale token --core booth --stages 1"
    assert main([*line.split(), "--cost", "lut6", "--output", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "1 of 1 points on the front; 0 combinations refused"
    assert printed.err.splitlines()[-1] == "failed: int8: act must be another, not 'int8'"
    told = json.loads((tmp_path / "points.json").read_text())
    assert told["failed"] == {"int8": "act must be another, not 'int8'"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--weight int4,int5", "weight must be one of "),
        ("--weight int4,", "weight must be one of "),
        ("--group x", "group must be an integer, not 'x'"),
        ("--group 300", "group must be an integer between 0 and 256, not 300"),
        ("--jobs 0", "jobs must be at least 1, not 0"),
        (
            "--weight int8 --core two_term",
            "sweep must have a valid point, not only refused ones: weight must be one of ",
        ),
        ("--plot a.pdf", "plot must be a file name that ends in .svg or .png, not 'a.pdf'"),
        ("--plot file/a.svg", "plot file/a.svg must be writable: File exists"),
        ("--plot folder.svg", "plot folder.svg must be writable: Is a directory"),
        ("--output file/x", "file/x/measured must be usable: Not a directory"),
        (
            "--cost lut6*fmax",
            "cost must be one of LUT6, FF, LUT4, area, delay, energy, products of them such as area*energy, or Fmax, "
            "not 'lut6*fmax'",
        ),
        ("--cost area --liberty no.lib", "Liberty file no.lib must be readable: No such file or directory"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: str, sentence: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.svg").mkdir()
    # a later option wins over an earlier one, so all of them measure LUTs unless they say otherwise
    assert main(["explore", "mixpe", "--cost", "lut6", *arguments.split()]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(sentence)
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not list(tmp_path.rglob("*.json"))


def test_without_matplotlib_nothing_is_measured(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    assert main(["explore", "mixpe", "--cost", "lut6", "--plot", "a.svg"]) == 2
    assert capsys.readouterr().err == (
        "the Python package matplotlib is needed and was not found: pip install 'senbazuru[all]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_cells_the_cost_is_luts(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "LIBERTY", tmp_path / "none.lib")
    assert explore._cost(None, Options()) == Cost(("LUT6",))
    said = capsys.readouterr().err
    assert said.startswith(f"a cell library is needed and {tmp_path / 'none.lib'} was not found: install ")
    assert said.endswith("; cost is LUT6\n")


def test_the_default_sweep_is_made_of_values_that_the_specification_has() -> None:
    found, refused = STUDY.points({})
    specs: list[Any] = found
    assert not refused
    assert {s.act for s in specs} >= {"fp16", "e4m3", "e5m2", "int4", "int8", "int16"}
    assert {s.group for s in specs} == {32, 64, 128}
    assert {s.stages for s in specs} == {1, 2}
    # costs and qualities are shared
    assert len({STUDY.element(s) for s in specs}) < len(specs)
    assert len({measures.values(STUDY, s) for s in specs}) < len(specs)


def test_refused_combinations_are_counted_once() -> None:
    """As stored, weights have groups of 32; the core for two terms has no 8-bit weights."""
    chosen = {"weight": ["uint4_min", "int8"], "act": ["int8"], "core": ["two_term"], "act_scale": ["token"]}
    found, refused = STUDY.points({**chosen, "group": [32, 64], "stages": [1]})
    specs: list[Any] = found
    assert [(s.weight, s.group) for s in specs] == [("uint4_min", 32)]
    assert sorted(refused) == [("int8", "int8", None, group, None, "token", "two_term", 1) for group in (32, 64)] + [
        ("uint4_min", "int8", None, 64, None, "token", "two_term", 1)
    ]
    assert refused["uint4_min", "int8", None, 64, None, "token", "two_term", 1] == (
        "group must be 32, as the weights are stored, not 64"
    )


def test_accuracy_is_that_of_the_command_run() -> None:
    """32.5 dB of `senbazuru run` for the default configuration and matrix, INT8 activations per token."""
    found = STUDY.quality.figures(MixPESpec())
    assert round(found["SQNR gate"], 1) == 32.5
    assert min(found["SQNR gate"], found["SQNR up"]) <= found["SQNR"] <= max(found["SQNR gate"], found["SQNR up"])


def test_costs() -> None:
    cost = Cost.parse(" AREA*energy")
    assert (str(cost), cost.unit, cost.targets, cost.more) == (
        "area*energy",
        "um^2 x pJ per product",
        ["asic"],
        False,
    )
    assert cost.of({"area": 3.0, "energy": 2.0}) == 6.0
    assert Cost.parse("fmax").more
    assert Cost.parse("lut6*area").targets == ["lut6", "asic"]
    with pytest.raises(SpecError, match=r"^cost must be made of figures that the tools give, area, not energy$"):
        cost.of({"area": 3.0})


def test_what_is_not_finite_fails() -> None:
    with pytest.raises(SpecError, match=r"^SQNR must be finite, not nan$"):
        measures._point(STUDY, MixPESpec(), {"SQNR": math.nan, "LUT6": 1.0}, Cost(("LUT6",)))


def test_an_identity_has_what_costs_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    element = STUDY.element(MixPESpec())
    told = measures.costs_of("lut6", Options()).identity(element)
    assert told["configuration"] == element[0].values()
    assert told["tools"] == {"yosys": toolchain.yosys().version}
    assert (
        told["verilog"] != measures.costs_of("lut6", Options()).identity(STUDY.element(MixPESpec(stages=2)))["verilog"]
    )


def test_pictures_of_more_is_better(tmp_path: Path) -> None:
    points = [Point({"weight": "w", "act": str(i)}, {}, 100.0 + i, 10.0 - i) for i in range(3)]
    plot.check(tmp_path / "p.png")
    plot.draw(tmp_path / "p.png", points, points, "title", "Fmax (MHz)", "SQNR (dB)", less=False)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_tables_and_labels() -> None:
    points = [
        Point({"act": "int8", "group": 32}, {"SQNR": 1.234, "SQNR gate": 1.0, "area": 4321.5}, 4321.5, 1.234),
        Point({"act": "int16", "group": 32}, {"SQNR": 12.0, "SQNR gate": 1.0, "area": 7.5, "delay": 2.0}, 7.5, 12.0),
    ]
    assert [line.split() for line in pareto.table(points[::-1], "SQNR", "area*delay").splitlines()] == [
        ["act", "group", "SQNR", "area", "delay", "area*delay"],
        ["int16", "32", "12", "7.50", "2", "7.50"],
        ["int8", "32", "1.23", "4,322", "-", "4,322"],
    ]
    assert [label(p.configuration, [q.configuration for q in points]) for p in points] == ["int8", "int16"]
    assert label(points[0].configuration, [points[0].configuration]) == "int8 32"
