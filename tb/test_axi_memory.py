"""Unit ``axi_memory``: the exported Verilog among masters that know what they wrote."""

from dataclasses import replace

import numpy as np
import pytest

from gen.export import Product, export
from golden.axi import DECERR, OKAY, SLVERR
from golden.soc.memory import MemorySpec
from golden.spec import SpecError
from hdl.soc.memory import AxiMemory
from tb import products
from tb.axi_memory import Masters, case, read, region, write
from tb.cosim import compile
from tb.faults import one_in, rewritten, turns_red
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import check
from tb.units import BENCHES

TINY = MemorySpec(bus=32, words=1024, masters=2)
MORE = [MemorySpec(bus=64, words=512, masters=1), MemorySpec(bus=256, words=4096, masters=4), MemorySpec()]


@pytest.mark.parametrize(
    "spec", [TINY, *(pytest.param(s, marks=pytest.mark.slow) for s in MORE)], ids=lambda s: f"{s.bus}x{s.masters}"
)
def test_bulk(spec: MemorySpec) -> None:
    run_bulk(spec, BENCHES["axi_memory"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["axi_memory"](TINY, 2) if c.name in ("all", "all-stalled-ar-aw-w-r-b")]
    both_see_the_same(TINY, cases, 2)


def test_latency_and_throughput() -> None:
    """A word per cycle from burst to burst. Cycle 0: the address of a write; 1 to 16: its words; 17: the answer; 18:
    the first address of reads; 20 and on: their words."""
    rng, rtl = np.random.default_rng(0), compile(TINY)
    at, lengths = region(TINY, 0).start, (16, 1, 1, 7, 16)
    reads = [replace(read(TINY, rng, at, n), more=True) for n in lengths]
    assert TINY.latency == 2
    for script, last in (([], 17), (reads[:1], 18 + 2 + 15), (reads, 18 + 2 + sum(lengths) - 1)):
        one = case(TINY, "reads", [[write(TINY, rng, at, 16), *script], []], 0)
        played = rtl.play(one)
        check(one, played)
        assert played.last_out == last
    writes = case(TINY, "writes", [[replace(write(TINY, rng, at, n), more=True) for n in lengths], []], 0)
    played = rtl.play(writes)
    check(writes, played)
    assert played.last_out == 1 + sum(lengths)


@pytest.mark.parametrize(
    ("address", "values", "resp"),
    (
        (0, {}, OKAY),
        (4096, {}, DECERR),
        (0, {"burst": 0}, SLVERR),
        (0, {"burst": 2}, SLVERR),
        (0, {"size": 1, "len": 1}, SLVERR),
        (0, {"size": 1}, OKAY),
        (4096, {"burst": 0}, DECERR),
    ),
)
def test_responses(address: int, values: dict[str, int], resp: int) -> None:
    assert TINY.response(**{"addr": address, "len": 0, "size": 2, "burst": 1, **values}) == resp


def test_refusals() -> None:
    for values, said in (
        ({"words": 1000}, "words must be a power of two, not 1000"),
        ({"bus": 128, "words": 128}, "words must be at least 256 of 128 bits, not 128"),
        ({"masters": 5}, "masters must be an integer between 1 and 4, not 5"),
    ):
        with pytest.raises(SpecError) as e:
            MemorySpec(**values)
        assert str(e.value) == said


# name: method, what stands there, what stands there instead; all of the configuration TINY
FAULTS: dict[str, tuple[str, str, str]] = {
    "all bytes are written": ("_written", "word.strb, 0", "~0, 0"),
    "errors are written": ("_written", "taken & ~now.resp.any()", "taken"),
    "an answer too early": ("_written", "with m.If(taken & last):", "with m.If(taken & now.left[0]):"),
    "an answer to the other": ("_written", "owner.eq(now.owner), resp", "owner.eq(~now.owner), resp"),
    "an answer is lost": ("_written", "~last | ~owner.any() | answered", "1"),
    "one word is the one before": ("elaborate", "now.word.eq(now.word + 1)", "now.word.eq(now.word + now.left[0])"),
    "a word too many": ("elaborate", "step & last", "step & (now.left == 255)"),
    "reads run on": ("_read", "~owner.any() | taken", "~owner.any() | 1"),
    "words to all": ("_read", "r.valid.eq(owner[n])", "r.valid.eq(owner.any())"),
    "last too late": ("_read", "ends.eq(last)", "ends.eq(0)"),
    "no number": ("_read", "number.eq(now.id)", "number.eq(0)"),
    "no decode error": ("_burst", "address.addr[spec.bytes.bit_length() - 1 :].any()", "0"),
    "any burst": ("_burst", "(address.burst != INCR) | narrow", "narrow"),
    "narrow bursts": ("_burst", "(address.burst != INCR) | narrow", "address.burst != INCR"),
    "nobody's turn": ("_next", "Mux((wants & after).any(), wants & after, wants)", "wants & after"),
    "two at once": ("_next", "one.ready.eq(free & first[n])", "one.ready.eq(free)"),
}


@pytest.mark.parametrize("name", one_in(8, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, TINY, AxiMemory, *FAULTS[name])


def test_an_unfair_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = "Mux((wants & after).any(), wants & after, wants)"
    monkeypatch.setattr(AxiMemory, "_next", rewritten(AxiMemory, turn, "wants", "_next")._next)
    with pytest.raises(AssertionError):
        take_turns(export(TINY))


def test_nobody_waits_for_ever() -> None:
    """Both masters have bursts all the time, one of them asks ahead: the other has every second turn."""
    take_turns(products.of(TINY))


def take_turns(product: Product) -> None:
    rng = np.random.default_rng(5)
    scripts = []
    for n in range(2):
        own, others = region(TINY, n).start, 40 if n == 0 else 12
        more = [replace(read(TINY, rng, own, 4), more=n == 0) for _ in range(others)]
        scripts.append([write(TINY, rng, own, 4), *more])
    one = case(TINY, "turns", scripts, 0)
    played = compile(TINY, product=product).play(one)
    check(one, played)
    assert isinstance(played.world, Masters)
    assert played.world.finished[1] < played.world.finished[0]
