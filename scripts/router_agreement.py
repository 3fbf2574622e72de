"""How often the unit ``router`` selects the experts that float64 selects: ``python -m scripts.router_agreement``.

Tokens and layer of the fixture, split as ``--moe`` says, calibrated on the same tokens (the partition is not what is
judged here), and the router in several formats. The golden model computes, so the hardware gives the same.

same set        share of tokens whose selected experts are the same
median, worst   of all scores: the distance from float64, relative to the largest score of the token
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from golden import fixture, q4_1
from golden.moe import clusters, router
from golden.moe.convert import Conversion, convert
from golden.moe.ffn import Ffn
from golden.moe.scoring import RouterSpec, real_tokens
from golden.moe.spec import ConversionSpec, shape
from golden.spec import SpecError
from scripts.resumable import aligned

FORMATS: Mapping[str, Mapping[str, Any]] = {
    "fp16 aligned to 16 bits x q4_1": {},
    "fp16 aligned to 12 bits x q4_1": {"align": 12},
    "fp16 aligned to 8 bits x q4_1": {"align": 8},
    "fp16 exact x q4_1": {"act": "fp16"},
    "bf16 aligned to 16 bits x q4_1": {"act": "bf16_aligned"},
    "int8 per token x q4_1": {"act": "int8"},
    "int8 per token x int8 per 32": {"act": "int8", "weight": "int8"},
    "int8 per token x int8 per row": {"act": "int8", "weight": "int8", "group": 0},
}


class Agreement(NamedTuple):
    """Of a format with float64."""

    same: float
    median: float
    worst: float


def main(argv: Sequence[str]) -> int:
    text = "how often the unit router selects the experts that float64 selects"
    parser = argparse.ArgumentParser(prog="python -m scripts.router_agreement", description=text)
    parser.add_argument("--moe", metavar="NAME", default="S3A3E8", help="shared, active, experts (default: S3A3E8)")
    try:
        conversion = converted(parser.parse_args(argv).moe)
        found = {name: agreement(conversion, values) for name, values in FORMATS.items()}
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    rows = [[name, f"{a.same:.4f}", f"{a.median:.1e}", f"{a.worst:.1e}"] for name, a in found.items()]
    print(aligned([["router", "same set", "median", "worst"], *rows]))
    return 0


def ffn() -> Ffn:
    """That of the fixture, in float64."""
    f = fixture.load()
    return Ffn(*(q4_1.dequantise(*matrix).astype(np.float64) for matrix in (f.gate, f.up, f.down)))


def converted(moe: str) -> Conversion:
    """The fixture's layer."""
    return convert(fixture.load().x.astype(np.float64), ffn(), ConversionSpec(**shape(moe)))


def agreement(conversion: Conversion, values: Mapping[str, Any]) -> Agreement:
    """Of the router with those values."""
    f, of = fixture.load(), conversion.spec
    spec = RouterSpec(experts=of.routed, score=of.score, norms=of.rows == "unit", **values)
    got = spec.compute(real_tokens(spec, f.x, f.gate, f.up, conversion.representatives)).astype(np.float64)
    true = router.scores(f.x.astype(np.float64), ffn().part(conversion.representatives), of)
    error = np.abs(got - true) / np.abs(true).max(axis=1, keepdims=True)
    chosen = [np.sort(clusters.first(-v, of.active), axis=1) for v in (got, true)]
    return Agreement(float((chosen[0] == chosen[1]).all(axis=1).mean()), float(np.median(error)), float(error.max()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
