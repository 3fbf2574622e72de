"""Unit ``kmeans_quantizer``: the exported Verilog against its golden model, and that against real arithmetic."""

from typing import Any

import numpy as np
import pytest

from golden.fixture import WIDTH, load
from golden.kmeans import token
from golden.kmeans.codebook import Codebook
from golden.kmeans.quantizer import QuantizerSpec, Token
from golden.quantize import float_codes
from golden.spec import SpecError
from hdl.kmeans.cluster import Align, Cluster, Search
from hdl.kmeans.memory import TokenMemory
from hdl.kmeans.quantizer import Quantizer
from hdl.kmeans.scale import Exponent, Magnitude, MeanScale, TokenScales
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

ODD = QuantizerSpec(bits=3, k_max=50, lanes=7)
SPECS = [
    QuantizerSpec(bits=2, k_max=16, lanes=2),
    ODD,
    QuantizerSpec(bits=1, k_max=9, lanes=1),
    QuantizerSpec(bits=4, k_max=576, lanes=16),
]
FINITE = np.concatenate([np.arange(0x7C00), np.arange(0x8000, 0xFC00)])
"""All finite FP16 codes."""


def _id(spec: QuantizerSpec) -> str:
    return f"{spec.bits}-{spec.k_max}-{spec.lanes}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: QuantizerSpec) -> None:
    run_bulk(spec, BENCHES["kmeans_quantizer"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["kmeans_quantizer"](ODD, 2) if c.name in ("lengths", "mixed-both", "short-back")]
    both_see_the_same(ODD, cases, 2)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_latency(spec: QuantizerSpec) -> None:
    """From the beat that ends a token to its first indices."""
    job = Token(np.full(spec.k_max, 0x3C00), Codebook(np.arange(1 << spec.bits)), 3)
    played = compile(spec).play(case_of(spec, "one", [job]))
    assert played.first_out is not None and played.last_in is not None
    exponent_first = spec.latency - spec.path  # e leaves when reading begins
    assert played.first_out - played.last_in == exponent_first
    assert played.last_out is not None
    assert played.last_out - played.last_in == spec.latency + spec.rows - 1


def test_every_activation_through_the_rtl() -> None:
    """All finite FP16 numbers, under three scales, each among random centroids."""
    spec, rng = SPECS[-1], np.random.default_rng(0)
    codes = np.pad(FINITE, (0, -len(FINITE) % spec.k_max)).reshape(-1, spec.k_max)
    jobs = []
    for shift in (14, 19, 25):
        book = Codebook(np.sort(rng.integers(-128, 127, 16, endpoint=True)))
        jobs += [Token(row, book, shift) for row in codes]
    run_bulk(spec, [case_of(spec, "all", jobs)], 0)


def test_all_real_tokens() -> None:
    """The inputs of a real layer, every token of the text."""
    spec = SPECS[-1]
    book = Codebook(np.array([-117, -75, -51, -36, -25, -16, -8, -2, 4, 10, 17, 25, 36, 52, 75, 118]))
    codes = float_codes(load().x.astype(np.float64), "fp16")
    assert codes.shape[1] == WIDTH
    run_bulk(spec, [case_of(spec, "tokens", [Token(row, book, 14) for row in codes])], 0)


@pytest.mark.parametrize("e", [-24, -9, 0, 11])
def test_indices_are_those_of_the_definition(e: int) -> None:
    """Every finite activation, against the boundaries as real numbers."""
    rng = np.random.default_rng(e + 30)
    x = FINITE.astype(np.uint16).view(np.float16).astype(np.float64)
    for _ in range(20):
        book = Codebook(np.sort(rng.integers(-128, 127, 16, endpoint=True)))
        limits = (book.centroids[:-1] + book.centroids[1:]) / 2
        index = token.indices(FINITE[None], np.array([e]), book)[0]
        assert np.array_equal(index, np.searchsorted(limits, x / 2.0**e, side="right"))
        assert np.array_equal(
            token.residuals(FINITE[None], np.array([e]), book)[0] * 2.0**-24, x - 2.0**e * book.centroids[index]
        )


def test_indices_are_of_the_nearest_centroid() -> None:
    """Where no activation is as near to two of them."""
    book = Codebook(np.array([-100, -31, 2, 77]))
    x = FINITE.astype(np.uint16).view(np.float16).astype(np.float64)
    distance = np.abs(x[:, None] - book.centroids)
    unique = (distance == distance.min(axis=1)[:, None]).sum(axis=1) == 1
    index = token.indices(FINITE[None], np.array([0]), book)[0]
    assert np.array_equal(index[unique], distance.argmin(axis=1)[unique])
    assert token.indices(np.array([[0x5640 + 0]]), np.array([0]), Codebook(np.array([99, 101])))[0, 0] == 1  # 100


def test_the_scale_is_that_of_the_sum() -> None:
    x = float_codes(load().x.astype(np.float64), "fp16")
    total = np.abs(load().x.astype(np.float64)).sum(axis=1)
    for shift in (0, 9, 13, 31):
        wanted = np.clip(np.floor(np.log2(total)) - shift, -24, 11)
        assert np.array_equal(token.exponents(x, shift), wanted)


def test_one_entry_alone_decides_nothing() -> None:
    """An activation a thousand times the others moves the exponent by the logarithm of the mean alone."""
    x = np.full((1, 4096), 1.0)
    assert token.exponents(float_codes(x, "fp16"), 12)[0] == 0
    x[0, 0] = 4096
    assert token.exponents(float_codes(x, "fp16"), 12)[0] == 0


@pytest.mark.parametrize(
    ("centroids", "sentence"),
    [
        (np.arange(3), "codebook must hold 2, 4, 8, ... 256 centroids, not an array of shape (3,)"),
        (np.arange(4) * 50, "centroids must be integers between -128 and 127, not 0 to 150"),
        (np.array([0.5, 1.0]), "centroids must be integers between -128 and 127, not 0.5 to 1.0"),
        (np.array([2, 1]), "centroids must be in ascending order, not [2, 1]"),
    ],
)
def test_bad_codebooks_are_refused(centroids: Any, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        Codebook(centroids)
    assert str(e.value) == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bits": 5}, "bits must be an integer between 1 and 4, not 5"),
        ({"lanes": 65}, "lanes must be an integer between 1 and 64, not 65"),
        ({"k_max": 7}, "k_max must be an integer between 8 and 32768, not 7"),
    ],
)
def test_bad_values_are_refused(values: dict[str, int], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        QuantizerSpec(**values)
    assert str(e.value) == sentence


TINY = SPECS[0]

# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[QuantizerSpec, Any, str, str, str]] = {
    "a boundary goes down": (TINY, Search, "elaborate", "value >= limit", "value > limit"),
    "the search goes the wrong way": (ODD, Search, "elaborate", "choose(mine, BOUNDARY_BITS, found)", "mine[:9]"),
    "rounds towards zero": (TINY, Align, "elaborate", "Cat(C(0, bits), value).as_signed()", "Cat(C(0, bits), value)"),
    "subnormals have a hidden bit": (TINY, Align, "elaborate", "normal = field.any()", "normal = C(1)"),
    "no saturation": (TINY, Align, "elaborate", "fits = top.all() | ~top.any()", "fits = C(1)"),
    "subnormals count twice": (TINY, Magnitude, "elaborate", "field - normal", "field"),
    "the token before is in the sum": (TINY, MeanScale, "elaborate", "Mux(ended, 0, total)", "total"),
    "a scale above the largest": (TINY, Exponent, "elaborate", "above > most", "0"),
    "a scale below the smallest": (TINY, Exponent, "elaborate", "(above > 0)", "1"),
    "missing activations count": (TINY, TokenScales, "elaborate", "Mux(lane.valid, magnitude.o, 0)", "magnitude.o"),
    "scales are mixed up": (TINY, TokenScales, "elaborate", "logs[self.bank]", "logs[0]"),
    "boundaries of the next token": (TINY, Cluster, "elaborate", "go=self.go & first", "go=self.go"),
    "the next token reads too early": (TINY, Quantizer, "_read", "& (row >= spec.bits)", ""),
    "the scale a cycle early": (TINY, Quantizer, "_read", 'delay(m, held[0], 1, "above_then", go=go)', "held[0]"),
    "a token over the one that waits": (
        TINY,
        TokenMemory,
        "elaborate",
        "self.i.ready.eq(~self.full.bit_select(self.bank, 1))",
        "self.i.ready.eq(1)",
    ),
    "rows of the other token": (TINY, TokenMemory, "elaborate", "Cat(self.read_row, self.read_bank)", "self.read_row"),
    "what is too much is kept": (TINY, TokenMemory, "elaborate", "accept & ~over", "accept"),
    "a wait of the sink is not seen": (TINY, Quantizer, "_read", "~o.valid | o.ready", "~o.valid | 1"),
}


@pytest.mark.parametrize("name", one_in(6, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
