"""Real experts without a download: the layer of :mod:`golden.fixture`, S3A3E8, from 2,048 tokens of calibration text;
three consecutive layers, S2A2E16; and three small trained networks with biases.

The files are in ``golden/data``; its README says how they were made, and under which licence they stand.
"""

from functools import cache
from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import fixture, q4_1
from golden.moe import store
from golden.moe.biased import BiasedNetwork, RowScaled
from golden.moe.convert import Conversion
from golden.moe.pack import Packed, Stored, pack
from golden.moe.spec import ConversionSpec, preset, shape

SPEC = ConversionSpec(**preset("code") | shape("S3A3E8"))

ARRAYS, SMALL = "smollm2_l15_experts.npz", "fracast_ffn.npz"

LAYERS = (15, 16, 17)
"""Consecutive ones, as :data:`FINE`."""

FINE = ConversionSpec(**preset("code") | shape("S2A2E16"))

MORE, MORE_EXPERTS = "smollm2_l16_l17.npz", "smollm2_l15_l17_experts.npz"

SMALL_NETWORKS = ("core", "decoder", "future")


class Experts(NamedTuple):
    """A real layer, converted. Its real inputs are ``golden.fixture.load().x``, none of them a calibration token."""

    conversion: Conversion
    packed: Packed


@cache
def load() -> Experts:
    """The converted layer; the arrays are read-only, since every caller gets the same ones."""
    with as_file(files("golden") / "data" / ARRAYS) as path:
        conversion = store.load(path).conversions[fixture.LAYER]
    packed = pack(dense(), conversion)
    for a in (conversion.shared, conversion.experts, conversion.representatives, packed.image, packed.order):
        a.flags.writeable = False
    return Experts(conversion, packed)


def dense() -> Stored:
    """The layer of :mod:`golden.fixture` as it was."""
    f = fixture.load()
    return Stored(f.gate, f.up, f.down)


class Layer(NamedTuple):
    """One of several layers."""

    dense: Stored
    conversion: Conversion
    x: NDArray[np.float32]
    """``[tokens, 576]``: its inputs while the dense model reads the fixture's text"""


@cache
def layers() -> tuple[Layer, ...]:
    """:data:`LAYERS`, each converted by itself, all others being dense."""
    data = files("golden") / "data"
    with as_file(data / MORE) as path, np.load(path) as npz:
        raw = {name: npz[name] for name in npz.files}
    with as_file(data / MORE_EXPERTS) as path:
        conversions = store.load(path).conversions
    f = fixture.load()
    sizes = {
        "gate": (fixture.FFN, fixture.WIDTH),
        "up": (fixture.FFN, fixture.WIDTH),
        "down": (fixture.WIDTH, fixture.FFN),
    }

    def more(number: int) -> Layer:
        weights = (q4_1.unpack(raw[f"{name}_{number}"], *size) for name, size in sizes.items())
        return Layer(Stored(*weights), conversions[number], raw[f"x_{number}"].astype(np.float32))

    found = [more(number) for number in LAYERS[1:]]
    return (Layer(dense(), conversions[fixture.LAYER], f.x[: len(found[0].x)]), *found)


@cache
def small() -> dict[str, BiasedNetwork]:
    """Three SwiGLU networks of 64 inputs and 96 neurons, with biases, as stored."""
    with as_file(files("golden") / "data" / SMALL) as path, np.load(path) as npz:
        raw = {name: npz[name] for name in npz.files}

    def network(name: str) -> BiasedNetwork:
        gate, up = zip(*(np.split(raw[f"{name}_up{part}"], 2) for part in ("", "_scale", "_bias")), strict=True)
        down = RowScaled(raw[f"{name}_down"], raw[f"{name}_down_scale"])
        return BiasedNetwork(RowScaled(*gate[:2]), RowScaled(*up[:2]), down, gate[2], up[2], raw[f"{name}_down_bias"])

    return {name: network(name) for name in SMALL_NETWORKS}
