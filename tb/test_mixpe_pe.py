"""Unit ``mixpe_pe``: the exported Verilog against its golden model."""

import pytest

from gen.export import export
from golden.mixpe.formats import WEIGHTS
from golden.mixpe.pe import CORES, PESpec
from tb.faults import broken
from tb.runner import run_bulk, run_cocotb
from tb.transactions import CheckFailed
from tb.units import BENCHES

GROUPS = (1, 7, 32, 128)

# every weight format with every core, and every core with every number of stages and every group size
SPECS = [
    PESpec(weight=weight, core=core, stages=(i + j) % 3 + 1, group=GROUPS[(i + 2 * j) % 4])
    for i, weight in enumerate(WEIGHTS)
    for j, core in enumerate(CORES)
]


def _id(spec: PESpec) -> str:
    return f"{spec.weight}-{spec.core}-{spec.stages}-{spec.group}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: PESpec) -> None:
    run_bulk(spec, BENCHES["mixpe_pe"](spec, 1), 1)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[4], SPECS[8]], ids=_id)
def test_cocotb_sees_what_bulk_sees(spec: PESpec) -> None:
    cases = BENCHES["mixpe_pe"](spec, 2)
    cocotb, bulk = run_cocotb(spec, cases, 2), run_bulk(spec, cases, 2)
    assert [(p.first_in, p.last_out, p.ran) for p in cocotb.played] == [
        (p.first_in, p.last_out, p.ran) for p in bulk.played
    ]


FAULTS = {
    "one term subtracted": (" = acc + ", " = acc - ", 1),
    "sign bit of the weight counts as positive": ("_8 = _5 - _7", "_8 = _5 + _7", 1),
    "sum of the group before not cleared": ("acc <= 16'h0000;\n    else", "acc <= acc;\n    else", 1),
    "bubbles multiplied": ("_1 ? i__payload[7:0] : 8'h00", "i__payload[7:0]", 1),
    "queue fuller than it is": ("free <= 3'h5", "free <= 3'h7", 1),
    "sum one cycle early": (".w_en(arrived[1])", ".w_en(arrived[0])", 1),
    "two groups become one": ("_1 & i__payload[12]", "_1 & i__payload[12] & i__payload[8]", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str) -> None:
    spec = PESpec(group=16)
    with pytest.raises(CheckFailed):
        run_bulk(spec, BENCHES["mixpe_pe"](spec, 1), 1, product=broken(export(spec), *FAULTS[name]))
