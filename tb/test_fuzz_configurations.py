"""Configurations at random: bad ones are refused in a sentence, good ones give a product that the bench passes."""

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen.registry import UNITS, Unit
from golden.spec import LONGEST, SpecError, UnitSpec
from tb import fuzz, products
from tb.transactions import CheckFailed

PARTS = 4
"""Of the units, so that two workers share the work."""

HUGE, ROWS = 1 << 20000, "rows must be an integer between 1 and 64"

units = pytest.mark.parametrize("unit", [pytest.param(u, id=name) for name, u in UNITS.items()])


def configured_or_refused(unit: Unit, values: fuzz.Values) -> None:
    try:
        spec = unit.configure(layers=[values])
    except SpecError as e:
        sentence = str(e)
        assert len(sentence.splitlines()) == 1
        assert len(sentence) < 400
        assert "must" in sentence
        assert any(p["name"] in sentence for p in unit.spec.parameters())
        return
    assert type(spec).from_toml(spec.to_toml()) == spec
    assert {p.direction for p in spec.ports} == {"in", "out"}
    assert all(value >= 0 for value in spec.figures().values())
    assert len({s.signal for s in spec.status}) == len(spec.status)


@units
def test_any_values_are_configured_or_refused_in_a_sentence(unit: Unit) -> None:
    drawn = hypothesis.settings(max_examples=200, derandomize=True)
    drawn(given(fuzz.settings(unit))(lambda values: configured_or_refused(unit, values)))()


@pytest.mark.slow
@units
def test_any_values_are_configured_or_refused_in_a_sentence_five_thousand_times(unit: Unit) -> None:
    drawn = hypothesis.settings(max_examples=5000)
    drawn(given(fuzz.settings(unit))(lambda values: configured_or_refused(unit, values)))()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        pytest.param(
            1 << 20000,
            "rows must be an integer between 1 and 64, not a number of thousands of digits",
            id="many-digits",
        ),
        (10**99, f"{ROWS}, not 1{'0' * (LONGEST - 1)}... (100 characters)"),
        (["x" * 100], f"rows must be an integer, not ['{'x' * (LONGEST - 2)}... (104 characters)"),
    ],
)
def test_of_a_long_value_the_beginning_is_told(value: object, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        UNITS["mixpe"].configure(layers=[{"rows": value}])
    assert str(e.value) == sentence


@st.composite
def some(draw: st.DrawFn, part: int) -> UnitSpec:
    """Small configurations of every fourth unit."""
    return draw(fuzz.small(UNITS[draw(st.sampled_from(list(UNITS)[part::PARTS]))]))


def passes(spec: UnitSpec, keep: bool) -> None:
    fuzz.judge(spec, 1, keep)


@pytest.mark.parametrize("part", range(PARTS))
def test_small_configurations_are_clean_and_equal_the_golden_model(part: int) -> None:
    drawn = hypothesis.settings(fuzz.bounded(3 + 1), derandomize=True)  # the first is a preset
    drawn(given(some(part))(lambda spec: passes(spec, keep=True)))()


SMALL_LINEAR: fuzz.Values = {
    **{"act_bits": 2, "weight_bits": 2, "k_max": 16, "n_max": 8, "lanes": 2, "lines": 2, "codes": 4, "outliers": 2},
    "selector": "systolic",
}

FOUND: dict[str, fuzz.Values] = {
    "lutgemm": {"act_bits": 1, "weight_bits": 2, "lines": 1, "codes": 1, "width": 4, "k_max": 1, "n_max": 1},
    "router": {"experts": 3, "cols": 4, "k_max": 1, "act": "int4", "group": 0, "norms": False},
    "expert_cache": {"slots": 2, "keys": 5, "most": 3, "timeout": 4},
    "uart_bridge": {"bus": 32, "words": 4, "patience": 1},
    "kmeans_linear": {**SMALL_LINEAR, "selector": "radix", "out": "fp16"},
    "accelerator": {
        **{"bus": 64, "burst": 4, "depth": 8, "outstanding": 4},
        "linear": ",".join(f"{name}={value}" for name, value in SMALL_LINEAR.items()),
    },
}
"""What was wrong once: a comparison that lint complains of; jobs and pauses of a bench that were too long; the formula
of a token without outliers; rows that a unit asked for before the accelerator knew where they are."""


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_clean_and_equals_the_golden_model(name: str) -> None:
    passes(UNITS[name].configure(layers=[FOUND[name]]), keep=True)


def test_a_complaint_of_lint_and_a_wrong_bit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = UNITS["load_balance"].configure("tiny")
    with monkeypatch.context() as patched, pytest.raises(CheckFailed, match="lint says\nWIDTH"):
        patched.setattr(products, "lint", lambda *_: "WIDTH")
        fuzz.judge(spec, 1, keep=True)
    compute = type(spec).compute
    monkeypatch.setattr(type(spec), "compute", lambda self, job: -compute(self, job))
    with pytest.raises(CheckFailed, match="expected"):
        fuzz.judge(spec, 4711, keep=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_five_hundred_small_configurations_are_clean_and_equal_the_golden_model(part: int) -> None:
    drawn = hypothesis.settings(fuzz.bounded(500 // PARTS), derandomize=True)
    drawn(given(some(part))(lambda spec: passes(spec, keep=False)))()
