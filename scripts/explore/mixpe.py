"""The sweep of the GEMM engine ``mixpe``: SQNR on real layers against the cost of its processing element."""

import numpy as np

from golden import fixture, q4_1
from golden.mixpe import layer
from golden.mixpe.formats import SOURCES
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.pe import PESpec
from golden.spec import SpecError
from scripts.explore.study import Quality, Study

MATRICES = ("gate", "up")

TOKENS = 16
"""As many as ``senbazuru run`` takes."""

WEIGHTS = ("int2", "int3", "int4", "int8", "uint4_zero", "uint4_min", "e2m1")
ACTS = ("int4", "int8", "int16", "e4m3", "e5m2", "fp16")

GRIDS = (
    {"weight": WEIGHTS, "act": ACTS, "group": (32,), "core": ("booth",)},
    # the same elements: a power of two per token and group costs nothing in them
    {"weight": WEIGHTS, "act": ("int4", "int8", "int16"), "group": (32,), "core": ("booth",), "act_scale": ("pow2",)},
    {"weight": ("int4", "int8", "e2m1"), "act": ("int8", "fp16"), "group": (64, 128), "core": ("booth",)},
    {"weight": ("int4", "uint4_min"), "act": ("int8", "fp16"), "group": (32,), "core": ("shift_add", "two_term")},
    {"weight": ("int4", "uint4_min"), "act": ("int8",), "group": (32,), "core": ("shift_add",), "act_scale": ("pow2",)},
    {"weight": ("int4", "int8", "uint4_min"), "act": ("int8", "fp16"), "core": ("booth",), "stages": (2,)},
    {"weight": ("int4", "uint4_min"), "act": tuple(SOURCES), "align": (8, 12, 16, 24), "core": ("booth",)},
)


def refuse(spec: MixPESpec) -> None:
    """:class:`~golden.spec.SpecError` where the real layers cannot be had in the formats of ``spec``."""
    if spec.pe.columns > 1:
        raise SpecError(f"core must make one product per element to be compared, not {spec.core!r}")
    f = fixture.load()
    one = q4_1.Matrix(f.gate.codes[:1], f.gate.d[:1], f.gate.m[:1])
    layer.gemm(spec, f.x[:1], one)


def accuracy(spec: MixPESpec) -> dict[str, float]:
    """SQNR in dB, as of ``senbazuru run``: the golden model against float32 of the stored weights, real tokens; of each
    matrix, and of all outputs together."""
    f = fixture.load()
    x = f.x[:TOKENS]
    pairs = {}
    for name in MATRICES:
        matrix = getattr(f, name)
        pairs[name] = (x @ q4_1.dequantise(*matrix).T, spec.compute(layer.gemm(spec, x, matrix)))
    real, got = (np.concatenate(side) for side in zip(*pairs.values(), strict=True))
    return {"SQNR": layer.sqnr(real, got)} | {f"SQNR {name}": layer.sqnr(*pair) for name, pair in pairs.items()}


def element(spec: MixPESpec) -> tuple[PESpec, str]:
    """What an engine has rows x cols of."""
    return spec.pe, "pe"


STUDY = Study(
    unit="mixpe",
    axes=("weight", "act", "align", "group", "scale", "act_scale", "core", "stages"),
    grids=GRIDS,
    check=refuse,
    quality=Quality("SQNR", "dB", ("weight", "act", "align", "group", "scale", "act_scale"), accuracy, ("golden",)),
    element=element,
    dependent={"align": "act"},
)
