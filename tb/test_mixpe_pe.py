"""Unit ``mixpe_pe``: the exported Verilog against its golden model."""

import numpy as np
import pytest

from golden.mixpe.formats import ACTS, WEIGHTS
from golden.mixpe.pe import CORE_WEIGHTS, CORES, PESpec, columns
from tb import products
from tb.cosim import compile
from tb.faults import broken
from tb.mixpe_pe import act_codes, pairs, weight_codes
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import CheckFailed
from tb.units import BENCHES

GROUPS = (1, 7, 32, 128)

# Every weight format with every core of one column that takes it; every activation format with every core, stage and
# group size; then pairs of elements.
SPECS = [
    PESpec(weight=weight, act=act, core=core, stages=(i + j) % 3 + 1, group=GROUPS[(i + 2 * j) % 4])
    for i, weight in enumerate(WEIGHTS)
    for j, (core, act) in enumerate(zip(CORES, [*ACTS, *ACTS][i % len(ACTS) :], strict=False))
    if columns(core) == 1 and weight in CORE_WEIGHTS[core]
]
SPECS += [
    PESpec(weight=weight, act=act, core="packed", stages=stages, group=group)
    for weight, act, stages, group in (("int4", "int8", 1, 128), ("e2m1", "int8", 2, 7), ("uint3_zero", "int4", 3, 1))
]

# Every weight format with every activation format.
PAIRS = [
    PESpec(weight=weight, act=act, core=CORES[(i + j) % 2], stages=(i + j) % 3 + 1, group=GROUPS[(i + 2 * j) % 4])
    for i, weight in enumerate(WEIGHTS)
    for j, act in enumerate(ACTS)
]


def _id(spec: PESpec) -> str:
    return f"{spec.weight}-{spec.act}-{spec.core}-{spec.stages}-{spec.group}"


@pytest.mark.slow
@pytest.mark.parametrize("spec", PAIRS, ids=_id)
def test_every_pair_of_formats(spec: PESpec) -> None:
    run_bulk(spec, BENCHES["mixpe_pe"](spec, 1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("core", ("shift_add", "booth"))
def test_all_int4_times_all_fp16(core: str) -> None:
    """16 x 65,536 products in the RTL, each a group of its own."""
    spec = PESpec(act="fp16", core=core, group=1)
    rtl = compile(spec, optimise=True)
    for part in np.split(act_codes(spec.act_format), 4):
        job = pairs(spec, part, weight_codes(spec))
        assert (rtl(job) == spec.compute(job)).all()


# ``test_mixpe_pe_matrix`` has all formats in one build; here each has the whole bench, resets and lone streams
@pytest.mark.parametrize(
    "spec", [pytest.param(s, marks=() if i % 9 == 0 else pytest.mark.slow, id=_id(s)) for i, s in enumerate(SPECS)]
)
def test_bulk(spec: PESpec) -> None:
    run_bulk(spec, BENCHES["mixpe_pe"](spec, 1), 1)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[4], SPECS[8], SPECS[-2]], ids=_id)
def test_cocotb_sees_what_bulk_sees(spec: PESpec) -> None:
    cases = BENCHES["mixpe_pe"](spec, 2)
    both_see_the_same(spec, cases, 2)


FAULTS = {
    "one term subtracted": (" = acc + ", " = acc - ", 1),
    "sign bit of the weight counts as positive": ("_8 = _5 - _7", "_8 = _5 + _7", 1),
    "sum of the group before not cleared": ("acc <= 16'h0000;\n    else", "acc <= acc;\n    else", 1),
    "bubbles multiplied": ("_1 ? i__payload[7:0] : 8'h00", "i__payload[7:0]", 1),
    "queue fuller than it is": ("free <= 3'h5", "free <= 3'h7", 1),
    "sum one cycle early": (".w_en(arrived[1])", ".w_en(arrived[0])", 1),
    "two groups become one": ("_1 & i__payload[12]", "_1 & i__payload[12] & i__payload[8]", 1),
}


# name: (pattern, replacement) in the module of a pair
PAIR_FAULTS = {
    "the borrow is lost": (" + product[11];", " + 1'h0;"),
    "the right weight is not what was borrowed from": ("$signed({ 1'h0, w0[3] })", "$signed({ 1'h0, 1'h0 })"),
    "the left weight does not wait": ("w0[3], w0[3], w0 };", "w0[3], w0[3], w_i[3:0] };"),
    "the right sum is the left one": ("sum = { held_1, held }", "sum = { held, held }"),
    "the group before is not cleared on the right": ("acc_1 <= 19'h00000;\n    else", "acc_1 <= acc_1;\n    else"),
}


@pytest.mark.parametrize("name", PAIR_FAULTS)
def test_fault_of_a_pair_is_caught(name: str) -> None:
    spec = PESpec(core="packed")
    with pytest.raises(CheckFailed):
        product = broken(products.of(spec), *PAIR_FAULTS[name], module="mixpe_pe_pe_pair")
        run_bulk(spec, BENCHES["mixpe_pe"](spec, 1), 1, product=product)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str) -> None:
    spec = PESpec(group=16)
    with pytest.raises(CheckFailed):
        run_bulk(spec, BENCHES["mixpe_pe"](spec, 1), 1, product=broken(products.of(spec), *FAULTS[name]))
