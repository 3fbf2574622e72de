"""Real experts without a download: the layer of :mod:`golden.fixture`, S3A3E8, from 2,048 tokens of calibration text;
and three small trained networks with biases.

The files are in ``golden/data``; its README says how they were made, and under which licence they stand.
"""

from functools import cache
from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np

from golden import fixture
from golden.moe import store
from golden.moe.biased import BiasedNetwork, RowScaled
from golden.moe.convert import Conversion
from golden.moe.pack import Packed, Stored, pack
from golden.moe.spec import ConversionSpec, preset, shape

SPEC = ConversionSpec(**preset("code") | shape("S3A3E8"))

ARRAYS, SMALL = "smollm2_l15_experts.npz", "fracast_ffn.npz"

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
    """The layer as it was."""
    f = fixture.load()
    return Stored(f.gate, f.up, f.down)


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
