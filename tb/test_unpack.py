"""Weights of experts in formats of their own: what a code is worth, how memory holds it, how it comes out again."""

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given
from hypothesis import strategies as st

from golden.moe.expert import ExpertBatch, ExpertFFNSpec
from golden.moe.precision import BITS, ENTRIES, KINDS, Expert, Precision, Weights, dense, plain
from golden.spec import SpecError
from hdl.moe.unpack import Spread, Unpack
from tb.expert_ffn import random_batch
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.unpack import CLAIMS, Spreads, Unpacked

FORMATS = [(bits, kind) for bits in BITS for kind in KINDS if bits < 8 or kind == "signed"]
COLS = 8


@pytest.mark.parametrize(("bits", "kind"), FORMATS)
def test_every_code_at_every_place_of_every_lane(bits: int, kind: str) -> None:
    """Each code follows each other one, so that it stands wherever in a byte it can; each lane begins with another."""
    precision = Precision(bits, kind)
    low, high = precision.codes
    line = np.concatenate([[a, b] for a in range(low, high + 1) for b in range(low, high + 1, 1 if bits < 8 else 17)])
    line = np.pad(line, (0, -len(line) % 8), constant_values=low)
    codes = np.stack([np.roll(line, lane) for lane in range(COLS)], axis=1)
    codebook = np.random.default_rng(bits).integers(-128, 127, ENTRIES, endpoint=True)
    scale = np.ones((1, COLS), np.float16)
    wanted = plain(Weights(codes, scale, scale, precision), codebook, len(codes)).codes
    assert np.array_equal(_unpacked(codes, precision, codebook), wanted)


def _unpacked(codes: np.ndarray, precision: Precision, codebook: np.ndarray) -> np.ndarray:
    dut = Unpack(COLS, len(codes))
    found: list[np.ndarray] = []

    async def bench(ctx: Any) -> None:
        tile = dut.tile.payload
        fields = precision.fields()
        packed = int.from_bytes(codebook.astype(np.int8).tobytes(), "little")
        values = {"steps": len(codes), "bits": fields["bits"], "kind": fields["kind"], "codebook": packed}
        for name, value in values.items():
            ctx.set(tile[name], value)
        beats = [int.from_bytes(row.tobytes(), "little") for row in dense(codes, precision.bits)]
        ctx.set(dut.tile.valid, 1)
        await ctx.tick()
        ctx.set(dut.tile.valid, 0)
        while len(found) < len(codes):
            ctx.set(dut.i.valid, bool(beats))
            ctx.set(dut.i.payload, beats[0] if beats else 0)
            if ctx.get(dut.i.ready) and beats:
                beats.pop(0)
            await ctx.tick()
            if ctx.get(dut.valid):
                found.append(np.frombuffer(ctx.get(dut.o).to_bytes(COLS, "little"), np.int8))
        assert not beats

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return np.stack(found)


@given(st.sampled_from([b for b in BITS if b < 8]), st.integers(0, 2), st.integers(0, 99))
def test_wider_codes_of_the_same_numbers_give_the_same_bits(bits: int, share: int, seed: int) -> None:
    """An expert of 8 bits, its scales repeated, equals the narrow one."""
    spec = ExpertFFNSpec(d=32, neurons=32, experts=1, tokens=3, slots=1, rows=2, cols=4, group=16, weight="mixed")
    rng = np.random.default_rng(seed)
    narrow = Precision(bits, "unsigned", share)

    def matrix(k: int, n: int) -> Weights:
        shape = narrow.parameters(k // 16), n
        scale, least = (rng.normal(0, 0.05, shape).astype(np.float16) for _ in range(2))
        return Weights(rng.integers(0, 1 << bits, (k, n)), scale, least, narrow)

    found = Expert(matrix(32, 64), matrix(32, 32))
    up, down = (plain(m, None, 16)._replace(precision=Precision(8, "signed")) for m in found.matrices)
    wide = Expert(up, down)
    x = random_batch(spec, rng, 3).x
    assert np.array_equal(spec.hidden(x, found), spec.hidden(x, wide))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bits": 5}, "bits must be one of 2, 3, 4, 8, not 5"),
        ({"kind": "float"}, "kind must be one of unsigned, signed, lookup, not 'float'"),
        ({"bits": 8, "kind": "lookup"}, "kind must be signed with 8 bits, not 'lookup'"),
        ({"share": 8}, "share must be an integer between 0 and 7, not 8"),
    ],
)
def test_bad_precisions_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        Precision(**values)
    assert str(e.value) == sentence


@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, marks=[pytest.mark.slow] if "steps" in c.size else []) for c in CLAIMS],
    ids=lambda c: c.size,
)
def test_proved(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved by induction")


BROKEN: dict[Any, Any] = {Unpack: lambda unit: Unpacked(unit(1, 16)), Spread: lambda unit: Spreads(unit(2, 7))}


@pytest.mark.parametrize(
    ("unit", "method", "old", "new"),
    [
        (Spread, "elaborate", "full | last, 0, same", "last, 0, same"),
        (Spread, "elaborate", "take & (full | last)", "take & full"),
        (Unpack, "_bytes", "(after <= 8) | self.i.valid", "1"),
        pytest.param(Unpack, "_bytes", "(take & (after >= 8))", "take", marks=pytest.mark.slow),
        pytest.param(Unpack, "_operand", "code[-1].replicate(missing)", "C(0, missing)", marks=pytest.mark.slow),
        pytest.param(Unpack, "_operand", 'KINDS.index("lookup")', "3", marks=pytest.mark.slow),
    ],
)
def test_broken_ones_are_refuted(unit: Any, method: str, old: str, new: str) -> None:
    faulty = rewritten(unit, old, new, method)
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(unit.__name__, "as before", "as before", lambda: BROKEN[unit](faulty), 12))


SMALL: dict[str, Any] = {
    "d": 16,
    "neurons": 16,
    "experts": 1,
    "tokens": 1,
    "slots": 1,
    "rows": 1,
    "cols": 4,
    "group": 16,
}
NARROW = Weights(np.ones((16, 32), np.int64), *(np.ones((1, 32), np.float16),) * 2, Precision(2))
BOOK = np.arange(ENTRIES)


@pytest.mark.parametrize(
    ("changed", "codebook", "sentence"),
    [
        ({"precision": None}, None, "precision must be given where weight is mixed"),
        ({"precision": Precision(2, "lookup")}, None, "codebook must be given where kind is lookup"),
        ({"precision": Precision(2, "lookup")}, BOOK[:4], "codebook must have 16 numbers, not shape [4]"),
        ({"codes": 4 * NARROW.codes}, None, "codes must lie between 0 and 3, not 4..4"),
        ({"scale": np.ones((2, 32), np.float16)}, None, "scale must have shape [1, 32], not [2, 32]"),
        ({"extra": None}, None, "extra must have shape [1, 32], not None"),
    ],
)
def test_weights_that_are_not_of_their_precision(changed: dict[str, Any], codebook: Any, sentence: str) -> None:
    assert _refusal("mixed", NARROW._replace(**changed), codebook) == sentence


def test_a_precision_where_all_have_one_format() -> None:
    assert _refusal("int8", NARROW, None) == "precision must be None where weight is int8"


def _refusal(weight: str, up: Weights, codebook: Any) -> str:
    spec = ExpertFFNSpec(**SMALL, weight=weight)
    job = ExpertBatch(np.zeros((1, 16), np.int64), (Expert(up, NARROW, codebook),), ())
    said = []
    for use in (spec.compute, spec.inputs):
        with pytest.raises(SpecError) as e:
            use(job)
        said.append(str(e.value))
    assert said[0] == said[1]
    return said[0]
