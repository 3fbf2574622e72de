"""Unit ``accelerator`` without its hardware: configurations, jobs in memory, the files beside the Verilog."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from systemrdl.compiler import RDLCompiler

from gen import toolchain
from gen.registers import register_files
from gen.registry import unit
from golden.orizuru.engine import Vector
from golden.ports import Beats
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ENTRY, HEADER, RECORD, Entry, entry, header
from golden.soc.image import Image, Job, lay_out
from golden.soc.registers import CAUSES, REGISTERS
from golden.spec import SpecError
from tb.accelerator_host import SMALL, random_jobs

SPEC = AcceleratorSpec(**SMALL)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bus": 96}, "bus must be a power of two, not 96"),
        ({"bus": 512}, "bus must be an integer between 64 and 256, not 512"),
        ({"burst": 3}, "burst must be a power of two, not 3"),
        ({"bus": 256, "burst": 256}, "burst must be at most 128 words of 256 bits, not 256"),
        ({"depth": 8}, "depth must be at least burst = 16, not 8"),
        ({"gemm": "rows"}, "gemm must be off, on, moe, or name=value with commas between them, not 'rows'"),
        ({"moe": "rows"}, "moe must be off, on, or name=value with commas between them, not 'rows'"),
        ({"gemm": "moe"}, "gemm must not be moe where moe is off"),
        ({"topk": "linear"}, "topk must not be linear where linear is off"),
        ({"topk": "linear", "linear": "lanes=0"}, "linear: lanes must be an integer between 1 and 64, not 0"),
        ({"gemm": "rows=0"}, "gemm: rows must be an integer between 1 and 64, not 0"),
        ({"moe": "d=600"}, "moe: d must be a multiple of 64, not 600"),
        (
            {"topk": "keys=3"},
            "topk: 'keys' is not a parameter; it must be one of n, key, k_max, lanes, sides, ties, "
            "variant, pair, every, within, did you mean key?",
        ),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        AcceleratorSpec(**values)
    assert str(e.value) == sentence


def test_kinds_that_share_a_unit_have_one_specification() -> None:
    spec = AcceleratorSpec(**SMALL | {"gemm": "moe", "topk": "linear"})
    assert spec.engine("gemm").spec == spec.engine("moe").spec.ffn.engine
    assert spec.engine("topk").spec == spec.engine("linear").spec.engine


def test_a_kind_without_a_unit_is_refused() -> None:
    with pytest.raises(SpecError) as e:
        lay_out(AcceleratorSpec(), [Job("moe", None)])
    assert str(e.value) == "kind must be one of copy, not 'moe'"


def test_a_configuration_survives_toml() -> None:
    assert AcceleratorSpec.from_toml(SPEC.to_toml()) == SPEC


def test_records_are_eight_words() -> None:
    """As the drawing of golden.soc.descriptor has them."""
    assert header(4, 11, 1).view("<u4").tolist() == [4 | 11 << 8 | 1 << 16, *[0] * 7]
    made = entry(Entry(0x81, 0x12_3456_7890, 5, 6, 7, 8, 9)).view("<u4").tolist()
    assert made == [0x81, 0x3456_7890, 0x12, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("gaps", [False, True])
def test_entries_lead_to_the_beats_of_a_job(gaps: bool) -> None:
    """Read by its entries, memory has what the unit must get; after the jobs, what it gives."""
    rng = np.random.default_rng(3)
    jobs = random_jobs(SPEC, rng, 10)
    image = lay_out(SPEC, jobs, 64, rng if gaps else None)
    for n, job in enumerate(jobs):
        engine = SPEC.engine(job.kind)
        result = engine.spec.compute(job.job)
        wanted = {**engine.spec.inputs(job.job), **engine.spec.outputs(job.job, result)}
        for placed in image.jobs[n]:
            if placed.lane.index is None:
                enters = placed.lane.port.direction == "in"
                found = placed.beats(image.before if enters else image.after, image.base)
                assert np.array_equal(found.data, wanted[placed.lane.name].data)
                if enters:
                    assert np.array_equal(found.last, wanted[placed.lane.name].last)
        needed = {name for name, beats in wanted.items() if len(beats) and name not in engine.asking}
        needed |= {lane.name for lane in engine.inputs if lane.index}
        assert {placed.lane.name for placed in image.jobs[n]} == needed
    changed = image.before != image.after
    assert changed.any() and not changed[: image.list + RECORD * image.records].any()


def test_streams_that_are_asked_for_are_where_the_unit_asks() -> None:
    rng = np.random.default_rng(4)
    for kind in ("moe", "linear"):
        job = next(j for j in random_jobs(SPEC, rng, 40) if j.kind == kind and _fetches(j))
        engine = SPEC.engine(kind)
        image = lay_out(SPEC, [job], 0, rng)
        fetched = engine.spec.port("fetch").unpack(_fetches(job))
        for lane in engine.inputs:
            if not lane.index:
                continue
            place = image.placed(0, lane.name)
            rows = fetched[lane.index.at][:, 0]
            lengths = fetched[lane.index.beats][:, 0] if lane.index.beats else np.full(len(rows), place.entry.beats)
            starts = rows if lane.index.beats else rows * place.entry.beats
            found = [
                replace(place, entry=Entry(0, place.entry.address + (int(at) << lane.slot), int(n))).beats(image.before)
                for at, n in zip(starts, lengths, strict=True)
            ]
            wanted = engine.spec.inputs(job.job)[lane.name]
            assert np.array_equal(Beats.concatenate(found).data, wanted.data)


def _fetches(job: Job) -> Any:
    spec = SPEC.engine(job.kind).spec
    return spec.outputs(job.job, spec.compute(job.job))["fetch"]


def test_tiles_that_come_again_are_in_memory_once() -> None:
    """Of a GEMM of 2 x 3 tiles: activations for each tile of columns, weights for each of tokens."""
    rng = np.random.default_rng(5)
    job = next(j for j in random_jobs(SPEC, rng, 40) if j.kind == "gemm" and j.job.shape[0] > 2 and j.job.shape[2] > 2)
    image = lay_out(SPEC, [job])
    act, wgt = image.placed(0, "act").entry, image.placed(0, "wgt").entry
    assert act.stride == 0 < act.repeat_stride and wgt.repeat_stride == 0 < wgt.stride


def test_results_come_back_out_of_memory() -> None:
    job = Job("topk", Vector(np.arange(8), 2))
    image = lay_out(SPEC, [job])
    spec = SPEC.engine("topk").spec
    assert np.array_equal(spec.result(job.job, image.outputs(0, image.after)), spec.compute(job.job))


# --- files ---


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return dict(register_files(SPEC, "accelerator"))


def test_registers_do_not_overlap_and_have_names_of_their_own() -> None:
    assert len({r.address for r in REGISTERS}) == len({r.name for r in REGISTERS}) == len(REGISTERS)
    for register in REGISTERS:
        assert register.address % 4 == 0
        assert sum(((1 << f.width) - 1) << f.lsb for f in register.bits) == register.mask < 1 << 32
        assert sum(f.width for f in register.bits) == register.mask.bit_count()


def test_other_units_have_no_register_files() -> None:
    assert register_files(unit("mixpe").configure("tiny"), "mixpe") == {}


def test_json_has_every_register(files: dict[str, str]) -> None:
    table = json.loads(files["accelerator_regs.json"])
    assert {r["name"]: r["address"] for r in table["registers"]} == {r.name: r.address for r in REGISTERS}
    assert [e["code"] for e in table["errors"]] == list(CAUSES)
    assert [k["name"] for k in table["kinds"]] == ["copy", "gemm", "linear", "topk", "moe"]


def test_systemrdl_is_read_by_its_compiler(files: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "accelerator_regs.rdl"
    path.write_text(files[path.name])
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    found = {r.inst_name: r for r in compiler.elaborate().top.registers()}
    assert found.keys() == {r.name for r in REGISTERS}
    for register in REGISTERS:
        read = found[register.name]
        assert read.absolute_address == register.address
        fields = {f.inst_name: (f.low, f.width) for f in read.fields()}
        assert fields == {f.name.upper(): (f.lsb, f.width) for f in register.bits}
        software = {(f.is_sw_readable, f.is_sw_writable) for f in read.fields()}
        assert software == {(register.access != "wo", register.access != "ro")}


def test_markdown_has_every_register_error_and_stream(files: dict[str, str]) -> None:
    text = files["accelerator_regs.md"]
    assert all(f"| {r.name} |" in text for r in REGISTERS)
    assert all(f"| {code.name.lower()} |" in text for code in CAUSES)
    assert all(f" {e.name} | {lane.name} |" in text for e in SPEC.engines for lane in (*e.inputs, *e.outputs))


def test_c_header_compiles_and_its_records_are_those_of_the_hardware(files: dict[str, str], tmp_path: Path) -> None:
    """Every field set alone, byte by byte; and an address."""
    (tmp_path / "accelerator_regs.h").write_text(files["accelerator_regs.h"])
    fields = {f.name for port in (HEADER, ENTRY) for f in port.fields if not f.name.startswith("zero")}
    values = {name: 3 + n for n, name in enumerate(sorted(fields))}
    sets = "".join(
        f"{p.name}.{f.name} = {values[f.name]};" for p in (HEADER, ENTRY) for f in p.fields if f.name in values
    )
    (tmp_path / "main.c").write_text(f"""
#include <stdio.h>
#include <string.h>
#include "accelerator_regs.h"
int main(void) {{
    accelerator_header header;
    accelerator_entry entry;
    memset(&header, 0, sizeof header);
    memset(&entry, 0, sizeof entry);
    {sets}
    fwrite(&header, sizeof header, 1, stdout);
    fwrite(&entry, sizeof entry, 1, stdout);
    return ACCELERATOR_STATUS != 0x14u || ACCELERATOR_CAUSE_SURPLUS != 8u || ACCELERATOR_MOE_O != 0x80u;
}}
""")
    build = [toolchain.cxx(), "-x", "c", "-std=c99", "-Wall", "-Wextra", "-Werror", "main.c", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    wanted = (
        header(*(values[f] for f in ("kind", "entries", "flags"))),
        entry(Entry(**{name: values[name] for name in Entry._fields})),
    )
    assert out == b"".join(record.tobytes() for record in wanted)


def test_an_image_says_what_does_not_depend_on_time() -> None:
    """Of ``stats`` two counters do."""
    rng = np.random.default_rng(6)
    job = next(j for j in random_jobs(SPEC, rng, 40) if j.kind == "moe")
    image: Image = lay_out(SPEC, [job])
    at = image.placed(0, "stats").entry.address
    assert image.known[at : at + 16].tolist() == [True] * 8 + [False] * 8
    assert image.known.sum() == len(image.known) - 8
