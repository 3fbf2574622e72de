"""Small trained networks with biases, INT8, as mixtures of experts on the unit ``moe_ffn``: all calibration tokens
through the RTL, and against float64."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from golden.mixpe.layer import sqnr
from golden.moe import fixture
from golden.moe.biased import BiasedNetwork, RowScaled, layer_batch
from golden.moe.convert import Conversion, convert
from golden.moe.forward import moe_forward
from golden.moe.layer import LayerBatch, MoEFFNSpec
from golden.moe.precision import Weights
from golden.moe.spec import ConversionSpec, preset, shape
from golden.spec import SpecError
from tb import products
from tb.runner import run_bulk
from tb.transactions import CheckFailed, case_of

Array = Any

X = np.random.default_rng(1).standard_normal((256, 64)).astype(np.float16).astype(np.float64)
"""The calibration tokens."""

BATCH = 48
"""Tokens, the last batch excepted."""

SIZES = {"d": 80, "neurons": 64, "experts": 5, "tokens": BATCH, "cols": 16, "group": 16, "weight": "int8"}
SPECS = {
    "code": MoEFFNSpec(**SIZES, rows=4, align=8),
    "paper": MoEFFNSpec(**SIZES, rows=2, align=16, score="signed", norms=False),
}
BUDGET = {"code": 36, "paper": 66}
"""dB. With activations of 8 bits they decide, with 16 the scales, rounded to FP16."""

MODES: dict[str, dict[str, Any]] = {
    "topk": {},
    "all": {"active": 5},
    "threshold": {"selection": "threshold"},
}
VARIANTS = pytest.mark.parametrize("variant", SPECS)
NETWORKS = pytest.mark.parametrize("name", fixture.SMALL_NETWORKS)
WAYS = pytest.mark.parametrize("mode", MODES)


@cache
def conversion(variant: str, name: str) -> Conversion:
    return convert(X, fixture.small()[name].ffn(), ConversionSpec(**preset(variant) | shape("S3A3E8")))


def whole(variant: str, name: str, mode: str) -> LayerBatch:
    """All tokens."""
    return layer_batch(SPECS[variant], fixture.small()[name], conversion(variant, name).with_router(**MODES[mode]), X)


def batches(job: LayerBatch) -> list[LayerBatch]:
    """Its tokens in batches that fit; the tables come with the first."""
    return [replace(job, x=job.x[i : i + BATCH], load=i == 0) for i in range(0, len(job.x), BATCH)]


@cache
def computed(variant: str, name: str, mode: str) -> tuple[Array, Array]:
    """By the golden model, batch by batch: results without those beyond the width, and who was chosen."""
    spec, job = SPECS[variant], whole(variant, name, mode)
    y = np.concatenate([spec.compute(batch) for batch in batches(job)])
    assert not y[:, 64:].any()
    mask = np.zeros((len(job.x), spec.experts), np.bool_)
    token, expert, _ = spec.choose(job).T
    mask[token, expert] = True
    return y[:, :64], mask


@VARIANTS
@pytest.mark.parametrize(
    "mode", ["topk", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("all", "threshold"))]
)
def test_all_tokens_through_the_rtl(variant: str, mode: str) -> None:
    """Every network, every token: each bit, every cycle. A code that is off by one is seen."""
    spec, product = SPECS[variant], products.of(SPECS[variant])
    jobs = {name: batches(whole(variant, name, mode)) for name in fixture.SMALL_NETWORKS}
    run_bulk(spec, [case_of(spec, name, each) for name, each in jobs.items()], 1, product)
    first = jobs["core"][0]
    case = case_of(spec, "wrong", [first])
    first.experts[0].down.codes[0, 0] ^= 1
    with pytest.raises(CheckFailed, match="wrong: m_axis beat 0: lane 0 y: "):
        run_bulk(spec, [replace(case, inputs=spec.inputs(first))], 1, product)


@VARIANTS
@NETWORKS
@WAYS
def test_against_float64(variant: str, name: str, mode: str) -> None:
    """The experts are those of float64, but for the token whose score is the threshold."""
    real, routing = moe_forward(X, fixture.small()[name].ffn(), conversion(variant, name).with_router(**MODES[mode]))
    y, chosen = computed(variant, name, mode)
    same = (chosen == routing.chosen).all(axis=1)
    assert (~same).sum() <= (mode == "threshold")
    assert sqnr(real[same], y[same]) > BUDGET[variant]


@VARIANTS
@NETWORKS
def test_all_experts_are_the_dense_network(variant: str, name: str) -> None:
    y, chosen = computed(variant, name, "all")
    assert chosen.all() and sqnr(fixture.small()[name].ffn()(X), y) > BUDGET[variant]


@VARIANTS
@NETWORKS
@WAYS
def test_what_was_not_chosen_is_as_if_its_neurons_were_zero(variant: str, name: str, mode: str) -> None:
    ffn, owner = fixture.small()[name].ffn(), conversion(variant, name).owner
    y, chosen = computed(variant, name, mode)
    used = (owner < 0) | chosen[:, owner]
    assert sqnr(ffn.hidden(X) * used @ ffn.down.T + ffn.down_bias, y) > BUDGET[variant]


@VARIANTS
@NETWORKS
def test_what_the_mapping_alone_costs(variant: str, name: str) -> None:
    """In real arithmetic: the rounding of scales and biases."""
    assert sqnr(fixture.small()[name].ffn()(X), real_valued(variant, whole(variant, name, "all"))) > 67


def real_valued(variant: str, job: LayerBatch) -> Array:
    """All experts of a job in float64."""
    x, y = job.x.astype(np.uint16).view(np.float16).astype(np.float64), np.zeros((len(job.x), 80))
    for one in job.experts:
        both = x @ values(one.up)
        y += both[:, ::2] / (1 + np.exp(-both[:, ::2])) * both[:, 1::2] @ values(one.down)
    return y[:, :64]


def values(w: Weights) -> Array:
    return w.codes * np.repeat(w.scale.astype(np.float64), 16, axis=0)


@VARIANTS
def test_constants_are_exact(variant: str) -> None:
    """The neuron of down's bias is 1, those that fill up are 0; biases are their FP16 numbers."""
    spec, job, network = SPECS[variant], whole(variant, "core", "all"), fixture.small()["core"]
    hidden = spec.ffn.hidden(job.x, job.experts[0])
    assert (hidden[:, 48] == 0x3C00).all() and not hidden[:, 36:48].any() and not hidden[:, 49:].any()
    for one in job.experts[1:]:
        assert one.neurons == 16 and not spec.ffn.hidden(job.x, one)[:, 12:].any()
    nothing = replace(job, x=np.where(np.arange(80) < 64, 0, job.x[:1]))
    silu = network.gate_bias / (1 + np.exp(-network.gate_bias.astype(np.float64)))
    real = network.down.values() @ (silu * network.up_bias) + network.down_bias
    assert sqnr(real, spec.compute(nothing)[0, :64]) > BUDGET[variant]


def exchanged(n: BiasedNetwork) -> BiasedNetwork:
    return replace(n, gate=n.up, up=n.gate, gate_bias=n.up_bias, up_bias=n.gate_bias)


def without(field: str) -> Any:
    return lambda n: replace(n, **{field: np.zeros_like(getattr(n, field))})


@pytest.mark.parametrize(
    "wrong",
    [*map(without, ("gate_bias", "up_bias", "down_bias")), exchanged],
    ids=["no gate bias", "no up bias", "no down bias", "exchanged"],
)
@VARIANTS
@NETWORKS
def test_the_budget_can_be_missed(variant: str, name: str, wrong: Any) -> None:
    network = fixture.small()[name]
    c = conversion(variant, name).with_router(active=5)
    y = SPECS[variant].compute(layer_batch(SPECS[variant], wrong(network), c, X[:BATCH]))
    assert sqnr(network.ffn()(X[:BATCH]), y[:, :64]) < BUDGET[variant] - 1


def large(n: BiasedNetwork) -> BiasedNetwork:
    return replace(n, down=RowScaled(n.down.codes, n.down.scale * np.float32(1e8)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"weight": "int4"}, "weight must be int8 for this conversion, not int4"),
        ({"experts": 4}, "experts must be 5 for this conversion, not 4"),
        ({"score": "signed"}, "score must be abs for this conversion, not signed"),
        ({"norms": False}, "norms must be True for this conversion, not False"),
        ({"scaled": True}, "scaled must be False for this conversion, not True"),
        ({"d": 64}, "d must be at least 80 for 64 and a bias, not 64"),
        ({"neurons": 48}, "neurons must be at least 64 for 36 and a bias, not 48"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(values: dict[str, Any], sentence: str) -> None:
    spec = MoEFFNSpec(**SPECS["code"].values() | values | {"slots": None})
    with pytest.raises(SpecError) as e:
        layer_batch(spec, fixture.small()["core"], conversion("code", "core"), X)
    assert str(e.value) == sentence


def test_numbers_that_do_not_fit_are_refused() -> None:
    def refused(network: BiasedNetwork, x: Array) -> str:
        with pytest.raises(SpecError) as e:
            layer_batch(SPECS["code"], network, conversion("code", "core"), x)
        return str(e.value)

    network = fixture.small()["core"]
    assert refused(network, X[:, :63]) == "activations must be tokens of 64 values, not of shape (256, 63)"
    assert refused(network, X * np.nan) == "activations must be finite, not nan"
    assert refused(large(network), X).startswith("scales and biases must be between -65504 and 65504, not 4")


def test_a_wider_array_leaves_room_between() -> None:
    """The bias stays in the group behind the inputs, wherever the width ends; results are the same."""
    network, c = fixture.small()["future"], conversion("code", "future")
    specs = [MoEFFNSpec(**SIZES | {"d": d, "neurons": d, "cols": cols}) for d, cols in ((80, 16), (128, 64))]
    narrow, wide = (spec.compute(layer_batch(spec, network, c, X[:BATCH]))[:, :64] for spec in specs)
    assert np.array_equal(narrow.view(np.uint32), wide.view(np.uint32))
