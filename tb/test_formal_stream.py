"""Proofs of the stream kit, and that the same proofs refute broken variants of it."""

import functools
from typing import Any

import pytest
from amaranth.hdl import Assert, Assume, Module, Signal

from hdl.stream.credit import Credit
from hdl.stream.fifo import BlockFIFO, StreamFIFO
from hdl.stream.replay import Replay
from hdl.stream.skid import Skid
from hdl.stream.width import Narrow, Widen
from tb.faults import rewritten
from tb.formal import Claim, Property, Refuted, Undecided, prove
from tb.formal.__main__ import main
from tb.formal.stream import CLAIMS, WIDTH, Bounded, Collected, HandedOut, LateQueue, Queue, Replayed


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.subject} {c.size}")
def test_proved(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved by induction, ")


FAULTS = [
    (Skid, Queue, (WIDTH,), "self.i.ready.eq(~full)", "self.i.ready.eq(1)"),  # an item is lost
    (Skid, Queue, (WIDTH,), "self.i.valid | full", "self.i.valid"),  # likewise
    (Skid, Queue, (WIDTH,), "with m.If(full):", "with m.If(~full):"),  # order
    (Skid, Queue, (WIDTH,), "~self.o.valid | self.o.ready", "1"),  # the offer changes under stall
    (StreamFIFO, Queue, (WIDTH, 3), "queue.w_en.eq(self.i.valid)", "queue.w_en.eq(1)"),  # an item from nowhere
    (StreamFIFO, Queue, (WIDTH, 3), "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)"),  # an item is lost
    (StreamFIFO, Queue, (WIDTH, 3), "(Value.cast(self.i.payload))", "(Value.cast(self.i.payload) ^ 1)"),
    (StreamFIFO, Queue, (WIDTH, 3), "self.o.valid.eq(queue.r_rdy)", "self.o.valid.eq(queue.r_rdy & queue.w_rdy)"),
    (StreamFIFO, Queue, (WIDTH, 3), "ready.eq(queue.w_rdy)", "ready.eq(queue.w_rdy & ~queue.r_rdy)"),  # half the depth
    (BlockFIFO, LateQueue, (WIDTH, 3), "queue.w_en.eq(self.i.valid)", "queue.w_en.eq(1)"),
    (BlockFIFO, LateQueue, (WIDTH, 3), "queue.r_en.eq(self.o.ready)", "queue.r_en.eq(1)"),
    (BlockFIFO, LateQueue, (WIDTH, 3), "self.o.valid.eq(queue.r_rdy)", "self.o.valid.eq(queue.r_rdy & queue.w_rdy)"),
    (Widen, Collected, (WIDTH, 3), "slot.rotate_left(1)", "slot.rotate_right(1)"),  # order
    (Widen, Collected, (WIDTH, 3), "~self.o.valid | self.o.ready", "1"),
    (Widen, Collected, (WIDTH, 3, True), "held[k].eq(0)", "held[k].eq(held[k])"),  # old items in a short beat
    (Widen, Collected, (WIDTH, 3, True), "Mux(ends, 1,", "Mux(slot[-1], 1,"),  # a short beat shifts the next
    (Widen, Collected, (WIDTH, 3, True), "self.i.valid & ends", "self.i.valid & slot[-1]"),  # a short beat is kept
    (Narrow, HandedOut, (WIDTH, 3), "(self.o.ready & slot[-1])", "self.o.ready"),  # the rest of a beat is lost
    (Narrow, HandedOut, (WIDTH, 3), "held[k + 1]", "held[k]"),  # an item is duplicated
    (Narrow, HandedOut, (WIDTH, 3), "slot.rotate_left(1)", "slot"),
    (Narrow, HandedOut, (WIDTH, 3, True), "ended & slot[-1]", "ended"),  # last with the first item
    (Replay, Replayed, (WIDTH, 3, 2), "(take & ends)", "take"),  # one round, and not all of it
    (Replay, Replayed, (WIDTH, 3, 2), "left.any() & ~coming", "left.any()"),  # words that have not come
    (Replay, Replayed, (WIDTH, 3, 2), "Mux(full, 0, write_at + 1)", "write_at + 1"),  # the next ones go elsewhere
    (Replay, Replayed, (WIDTH, 3, 2), "~there | self.o.ready", "~there | 1"),  # words are lost
    (Replay, Replayed, (WIDTH, 3, 2), "left + self.again", "left"),  # no round
    (Credit, Bounded, (3,), "free.any()", "1"),  # more work than places
    (Credit, Bounded, (3,), "+ self.give", ""),  # credits run out
    (Credit, Bounded, (3,), "init=self.depth)", "init=self.depth - 1)"),  # one place is never used
]


@pytest.mark.parametrize(("unit", "spec", "args", "old", "new"), FAULTS)
def test_refuted(unit: Any, spec: Any, args: tuple[Any, ...], old: str, new: str) -> None:
    faulty = rewritten(unit, old, new)
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(unit.__name__, "as before", "small", lambda: spec(faulty(*args))))
    with pytest.raises(Refuted, match="Signal Name"):  # seen from outside alone
        prove(Claim(unit.__name__, "as before", "small", lambda: spec(faulty(*args), False), 10))


@pytest.mark.parametrize(("unit", "spec", "args"), dict.fromkeys((unit, spec, args) for unit, spec, args, *_ in FAULTS))
def test_bounded(unit: Any, spec: Any, args: tuple[Any, ...]) -> None:
    """What the faults fail holds for the sound unit; and without an invariant it is bounded, never called proved."""
    claim = Claim(unit.__name__, "as before", "small", lambda: spec(unit(*args), False), 10)
    assert prove(claim).result == "bounded, 10 cycles"


class Counter(Property):
    """Counts from 0 to 5 and stays there; states above 5 are out of reach but count on."""

    def __init__(self, limit: int, assumption: bool = False):
        super().__init__()
        self.limit = limit
        self.assumption = assumption
        self.step = Signal()
        self.inputs.append(self.step)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(8)
        with m.If(self.step & (count != 5)):
            m.d.sync += count.eq(count + 1)
        m.d.comb += Assert(count < self.limit)
        if self.assumption:
            m.d.comb += Assume(~self.step)
        return m


def test_verdicts() -> None:
    def of(*args: Any, cycles: int | None = None) -> Claim:
        return Claim("Counter", f"stays below {args[0]}", "8 bits", functools.partial(Counter, *args), cycles)

    assert prove(of(6)).result == "proved by induction, 1"
    assert prove(of(6, cycles=7)).result == "bounded, 7 cycles"
    assert prove(of(5, cycles=4)).result == "bounded, 4 cycles"  # too short to see the fault
    with pytest.raises(Refuted, match="Counter, 8 bits: stays below 5: false\n"):
        prove(of(5))
    with pytest.raises(Refuted, match="Counter, 8 bits: stays below 5: false\n"):
        prove(of(5, cycles=6))
    assert prove(of(5, True)).result.startswith("proved")  # assumptions are heeded
    with pytest.raises(Undecided, match="Counter, 8 bits: stays below 200: no induction up to 20 steps"):
        prove(of(200))


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Credit"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\nCredit: never more than depth under way")
    assert "depth 5  proved by induction, 1, Yosys sat" in out
    assert "4 of 4 claims hold." in out
    assert main(["Kredit"]) == 2
    assert capsys.readouterr().err.startswith("subject must be one of Skid, StreamFIFO, BlockFIFO, Widen")
