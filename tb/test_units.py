"""Every registered unit has a bench, and every preset passes it."""

import pytest

from gen.registry import UNITS
from tb.runner import run_bulk
from tb.units import BENCHES


def test_every_unit_has_a_bench() -> None:
    assert set(BENCHES) == set(UNITS)


LONG = {
    ("expert_ffn", "smollm2"),
    ("moe_resident", "smollm2"),
    *(("accelerator", preset) for preset in ("medium", "smollm2", "fracast")),
    *(("moe_ffn", preset) for preset in ("smollm2", "square", "decode")),
}
"""Whole layers."""


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        pytest.param(name, preset, marks=pytest.mark.slow if (name, preset) in LONG else ())
        for name, u in UNITS.items()
        for preset in u.presets
    ],
)
def test_preset(name: str, preset: str) -> None:
    spec = UNITS[name].configure(preset)
    run_bulk(spec, BENCHES[name](spec, 1), 1)
