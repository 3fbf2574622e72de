"""All pairs of formats in one Verilog top: every processing element that ``mixpe_pe`` can be, side by side."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import ClassVar

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import data
from numpy.typing import NDArray

from gen.elaborate import elaborate
from gen.export import Product
from gen.manifest import manifest
from gen.tidy import tidy
from golden.mixpe.formats import WEIGHTS
from golden.mixpe.pe import CORES, OPERANDS, Groups, PESpec
from golden.ports import Beats, Field, StreamPort
from golden.spec import SpecError, UnitSpec
from hdl.arith.delay import delay
from hdl.mixpe.cell_stream import CellStream
from hdl.mixpe.pe_stream import place
from hdl.shared import Shared
from hdl.stream.axi import AxiShell
from tb.cosim import compile
from tb.faults import broken
from tb.runner import run_bulk
from tb.transactions import CheckFailed, case_of, cases_of

GROUP = 16
AXES = {"weight": tuple(WEIGHTS), "act": tuple(OPERANDS), "core": CORES, "stages": (1, 2, 3)}


def _accepted() -> Iterator[PESpec]:
    for values in product(*AXES.values()):
        try:
            yield PESpec(group=GROUP, **dict(zip(AXES, values, strict=True)))
        except SpecError:
            continue


def _value_pairs(spec: PESpec) -> set[object]:
    return set(combinations(((axis, getattr(spec, axis)) for axis in AXES), 2))


def pairwise(candidates: Sequence[PESpec]) -> list[PESpec]:
    """Some of the candidates, in which every pair of two axes' values occurs that occurs in any of them."""
    candidates = random.Random(1).sample(candidates, len(candidates))  # equals are taken as they come
    missing = set[object]().union(*map(_value_pairs, candidates))
    chosen = []
    while missing:
        chosen.append(max(candidates, key=lambda spec: len(_value_pairs(spec) & missing)))
        missing -= _value_pairs(chosen[-1])
    return chosen


ELEMENTS = pairwise(list(_accepted()))


@dataclass(frozen=True)
class Codes:
    """A job: for each format its codes ``[n]``, weights ``[n, 2]``, cut into groups of ``lengths``."""

    x: Mapping[str, NDArray[np.int64]]
    w: Mapping[str, NDArray[np.int64]]
    lengths: tuple[int, ...]


class MatrixSpec(UnitSpec):
    """``ELEMENTS`` side by side: a beat has a code of every activation format and two of every weight format."""

    unit: ClassVar[str] = "matrix"

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        acts = (Field(f"x_{f.name}", f.bits, f.name) for f in OPERANDS.values())
        weights = (Field(f"w{c}_{f.name}", f.bits, f.code_format) for f in WEIGHTS.values() for c in range(2))
        sums = (Field(f"{i}_{f.name}", f.width, f.format) for i, e in enumerate(ELEMENTS) for f in e.ports[1].fields)
        return (
            StreamPort("i", "in", 1, (*acts, *weights), "group", "codes of every format"),
            StreamPort("o", "out", 1, tuple(sums), "", "the sums of every element"),
        )

    @property
    def latency(self) -> int:
        return max(e.latency for e in ELEMENTS)

    def compute(self, job: Codes) -> NDArray[np.int64]:
        sums = (e.compute(Groups(job.x[e.act], job.w[e.weight][:, : e.columns], job.lengths)) for e in ELEMENTS)
        return np.concatenate(list(sums), axis=1)

    def inputs(self, job: Codes) -> dict[str, Beats]:
        last = np.zeros(sum(job.lengths), dtype=np.bool_)
        last[np.cumsum(job.lengths) - 1] = True
        acts = {f"x_{name}": x for name, x in job.x.items()}
        weights = {f"w{c}_{name}": w[:, c] for name, w in job.w.items() for c in range(2)}
        return {"i": self.ports[0].pack(last=last, **acts, **weights)}

    def outputs(self, job: Codes, result: NDArray[np.int64]) -> dict[str, Beats]:
        port = self.ports[1]
        return {"o": port.pack(**{f.name: result[:, i] for i, f in enumerate(port.fields)})}

    def result(self, job: Codes, outputs: Mapping[str, Beats]) -> NDArray[np.int64]:
        fields = self.ports[1].unpack(outputs["o"])
        return np.concatenate([fields[f.name] for f in self.ports[1].fields], axis=1)

    def cycles(self, *jobs: Codes) -> int:
        return sum(sum(job.lengths) for job in jobs) + self.latency


class MatrixStream(CellStream):
    def cell(self, m: Module, beat: data.View, taken: Value, ends: Value) -> Value:
        sums = []
        for i, e in enumerate(ELEMENTS):
            weights = [beat[f"w{c}_{e.weight}"] for c in range(e.columns)]
            total = place(m, f"element_{i}", e, Mux(taken, beat[f"x_{e.act}"], 0), weights, ends)
            sums.append(delay(m, total, self.spec.latency - e.latency, f"sum_{i}"))
        return Cat(sums)


SPEC = MatrixSpec()


@pytest.fixture(scope="module")
def verilog() -> Product:
    shell = AxiShell(Shared(MatrixStream, SPEC), SPEC.ports, ())
    text = "\n".join(tidy(*elaborate(shell, "matrix")))
    return Product("matrix", text, manifest(SPEC, "matrix", text), "", "")


def _random(seed: int, lengths: Sequence[int]) -> Codes:
    rng, n = np.random.default_rng(seed), sum(lengths)
    x = {f.name: rng.integers(*f.codes, n, endpoint=True) for f in OPERANDS.values()}
    rare = {name: OPERANDS[name].special(codes) & (rng.random(n) < 0.9) for name, codes in x.items()}
    w = {f.name: rng.integers(f.low, f.high, (n, 2), endpoint=True) for f in WEIGHTS.values()}
    return Codes({name: np.where(rare[name], 0, codes) for name, codes in x.items()}, w, tuple(lengths))


def test_every_pair_of_values_is_there() -> None:
    assert {(e.weight, e.act) for e in ELEMENTS} == set(product(WEIGHTS, OPERANDS))
    assert set[object]().union(*map(_value_pairs, ELEMENTS)) == set[object]().union(*map(_value_pairs, _accepted()))


def test_all_elements(verilog: Product) -> None:
    groups = _random(1, [*np.random.default_rng(1).integers(1, GROUP, 200, endpoint=True)])
    singles = _random(2, [1] * 400)
    cases = [*cases_of(SPEC, "groups", [groups], seed=1), *cases_of(SPEC, "singles", [singles], seed=2, level=160)]
    for at in (1, 5, SPEC.latency + 3, 5 * GROUP + 7):
        cases += [
            case_of(SPEC, f"reset-in-cycle-{at}", [_random(at, [GROUP] * 12)], seed=3, stall={"o": 96}, reset_at=at),
            case_of(SPEC, f"after-{at}", [singles], seed=4),
        ]
    run_bulk(SPEC, cases, 1, product=verilog)


@pytest.mark.parametrize("part", range(4))
def test_every_product(verilog: Product, part: int) -> None:
    """Each a group of its own: all codes of up to 8 bits, activations by weights, beside random wider ones."""
    job = _random(part, [1] * (1 << 14))
    upper, lower = np.divmod(np.arange(part << 14, part + 1 << 14), 256)
    for f in OPERANDS.values():
        if f.bits <= 8:
            job.x[f.name][:] = f.codes[0] + upper % (1 << f.bits)
    for w in WEIGHTS.values():
        job.w[w.name][:, 0] = w.low + lower % (w.high - w.low + 1)
    assert np.array_equal(compile(SPEC, product=verilog)(job), SPEC.compute(job))


def _index(**wanted: object) -> int:
    """The first element with these values."""
    return next(i for i, e in enumerate(ELEMENTS) if all(getattr(e, k) == v for k, v in wanted.items()))


def _faulty(product: Product, element: int, pattern: str, replacement: str) -> Product:
    module = re.search(rf"^  (\w+) element_{element} \(", product.verilog, re.MULTILINE)
    assert module
    return broken(product, pattern, replacement, module=module[1])


def test_a_fault_in_one_element_is_seen_in_its_sums_alone(verilog: Product) -> None:
    """Three at once, to save two builds."""
    faults = {
        _index(core="composed", act="int8"): (" = acc + ", " = acc - "),
        _index(core="packed", stages=1): (" = acc_1 + ", " = acc_1 + 1 + "),
        _index(act="fp16", stages=2): ("if (last_product) acc <= ", "if (rst) acc <= "),
    }
    for element, fault in faults.items():
        verilog = _faulty(verilog, element, *fault)
    job = _random(1, [3, 1, 1, GROUP] * 8)
    differ = compile(SPEC, product=verilog)(job) != SPEC.compute(job)
    names = [f.name for f, wrong in zip(SPEC.ports[1].fields, differ.any(axis=0), strict=True) if wrong]
    assert {int(name.split("_")[0]) for name in names} == set(faults)
    with pytest.raises(CheckFailed):
        run_bulk(SPEC, [case_of(SPEC, "groups", [job])], 1, product=verilog)
