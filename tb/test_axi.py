"""Memory and host around a unit with AXI ports: what they must find, in both players, on a unit that breaks the rules
when told to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from gen.export import Product
from gen.manifest import manifest
from gen.registry import UNITS
from golden.axi import DECERR, SLVERR, axi4_lite_slave, axi4_master
from golden.ports import StatusPort, StreamPort
from golden.spec import UnitSpec
from tb.axi import Access, AxiWorld, Host, Memory, Poll, Read, Write
from tb.axi_bridge import UNIT, BridgeSpec
from tb.cosim import AccessError, Session
from tb.runner import PLAYERS, run_bulk, run_cocotb
from tb.transactions import Case, CheckFailed

SOURCE, TARGET, LENGTH, CONTROL, FAULT = 0x00, 0x04, 0x08, 0x0C, 0x10
BUSY, DONE, ERROR = 1, 2, 4
BASE, SIZE = 0x10000, 0x4000
PASSED = DONE | ERROR | BUSY


class DmaSpec(UnitSpec):
    unit: ClassVar[str] = "dma"

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        return (*axi4_lite_slave("s_axil", 12), *axi4_master("m_axi", 64, 2, 40))

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("irq", ("done",), plain=True),)

    def figures(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Copy:
    source: int
    target: int
    length: int

    def script(self, fault: int = 0, status: int = DONE) -> list[Access]:
        """Beginning, waiting, and what the registers show then."""
        return [
            Write(address=FAULT, value=fault),
            Write(address=SOURCE, value=0xAABBCCDD),
            Write(address=SOURCE, value=self.source & 0xFFFF, strobes=0b0011),
            Write(address=SOURCE, value=self.source, strobes=0b1100),
            Write(address=TARGET, value=self.target),
            Write(address=LENGTH, value=self.length),
            Read(address=TARGET, value=self.target),
            Write(address=CONTROL, value=1),
            Poll(address=CONTROL, value=0, mask=BUSY, limit=100),
            Read(address=CONTROL, value=status, mask=PASSED),
        ]

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The memory afterwards; behind it there are zeros."""
        after, before = image.copy(), np.pad(image, (0, 64))
        source, target = self.source - BASE, self.target - BASE
        after[target : target + self.length] = before[source : source + self.length]
        return after


SPEC = DmaSpec()
VERILOG = Path(__file__).with_name("dma.v").read_text()
PRODUCT = Product(top="dma", verilog=VERILOG, manifest=manifest(SPEC, "dma", VERILOG), vlt="", core="")
IMAGE = np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8)
COPY = Copy(BASE + 0x0FC8, BASE + 0x2FE0, 301)  # both cross 4 KiB, the last word is partial
SHORT = Copy(BASE + 0x0100, BASE + 0x0400, 21)
PLACE = Copy(BASE + 0x0800, BASE + 0x0800, 45)
BAD = {range(BASE + 0x1000, BASE + 0x1008): SLVERR}


def case_of(
    name: str,
    copy: Copy = COPY,
    fault: int = 0,
    *,
    more: Sequence[Access] = (),
    stall: Mapping[str, int] | int = 0,
    status: int = DONE,
    seed: int = 1,
    reset_at: int | None = None,
    **memory: Any,
) -> Case:
    levels = dict.fromkeys([p.name for p in SPEC.ports], stall) if isinstance(stall, int) else dict(stall)
    around: dict[str, Any] = {
        "expected": copy.of(IMAGE),
        "base": BASE,
        "longest": 8,
        "outstanding": 2,
        "latency": 5,
    } | memory
    world = AxiWorld(
        Memory(SPEC.ports, IMAGE, seed=seed, **around), Host(SPEC.ports, [*copy.script(fault, status), *more])
    )
    irq = {"irq": 0 if reset_at is not None else 1}
    return Case(name, SPEC.ports, {}, {}, levels, seed, None, irq, reset_at, world=world)


def good() -> list[Case]:
    stalls = {
        "free": {},
        **{p.name: {p.name: 200} for p in SPEC.ports},
        "all": dict.fromkeys([p.name for p in SPEC.ports], 128),
        "nearly-stuck": dict.fromkeys([p.name for p in SPEC.ports], 230),
    }
    return [
        *(case_of(f"{name}-stalls", stall=stall, jitter=9) for name, stall in stalls.items()),
        *(case_of(f"latency-{n}", latency=n) for n in (1, 2, 60)),
        *(case_of(f"pace-{n}", pace=n, latency=1, stall={"m_axi_r": 40}) for n in (2, 7)),
        *(case_of(f"length-{n}", Copy(BASE, BASE + 0x1F00, n), stall=64) for n in (1, 7, 8, 9, 63, 64, 65, 600)),
        case_of("in-place", PLACE),
        case_of("last-word-of-memory", Copy(BASE, BASE + SIZE - 16, 16)),
        case_of("slverr", status=DONE | ERROR, errors=BAD),
        case_of(
            "decerr-outside",
            Copy(BASE + SIZE, BASE, 16),
            status=DONE | ERROR,
            errors={range(BASE + SIZE, BASE + SIZE + 64): DECERR},
        ),
        case_of(
            "slverr-of-a-write",
            SHORT,
            status=DONE | ERROR,
            errors={range(SHORT.target, SHORT.target + 8): SLVERR},
            expected=np.concatenate((IMAGE[:0x408], SHORT.of(IMAGE)[0x408:])),
        ),
        case_of("unknown-register", more=[Read(address=0x44, resp=SLVERR), Write(address=0x40, value=1, resp=SLVERR)]),
        *(case_of(f"reset-in-cycle-{n}", stall=64, reset_at=n) for n in (0, 30, 55, 100)),
    ]


@pytest.mark.parametrize("player", PLAYERS)
def test_a_good_unit_passes(player: str) -> None:
    PLAYERS[player](SPEC, good(), 1, product=PRODUCT)


def test_both_players_see_the_same() -> None:
    cocotb, bulk = (run(SPEC, good(), 1, product=PRODUCT).played for run in (run_cocotb, run_bulk))
    for a, b in zip(cocotb, bulk, strict=True):
        assert a.ran == b.ran
        assert a.taken == b.taken
        assert [(x.data.tobytes(), s) for s, x in a.outputs.items()] == [
            (x.data.tobytes(), s) for s, x in b.outputs.items()
        ]
        assert isinstance(a.world, AxiWorld) and isinstance(b.world, AxiWorld)
        assert np.array_equal(a.world.memory.image, b.world.memory.image)
        assert a.world.host.seen == b.world.host.seen
    assert len({p.ran for p in bulk}) > 20


POLLED = "s_axil access 8, Poll of 0x00c: expected 0x0, is 0x1 in cycle 1700"
HELD = {"stall": {"m_axi_ar": 200, "m_axi_w": 128, "s_axil_r": 128}}
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("crosses", {"fault": 1}, "m_axi_ar: burst 0 at 0x10fc8 in cycle 15: 64 bytes must not cross 4096"),
    ("last early", {"fault": 2}, "m_axi_w: word 3 of 4 at 0x12ff0 in cycle 27: last must be 0, not 1"),
    ("all strobes", {"fault": 3}, "memory at 0x1310d: expected 0x9d, got 0x64 (3 bytes differ)"),
    ("valid withdrawn", {"fault": 4, **HELD}, "m_axi_ar: valid was withdrawn before ready in cycle 16"),
    (
        "address changes",
        {"fault": 5, **HELD},
        "m_axi_ar: data changed before ready in cycle 16\n"
        "m_axi_ar: burst 1 at 0x10ff0 in cycle 53: 24 bytes must not cross 4096",
    ),
    ("too many", {"fault": 6}, "m_axi_ar: burst 2 at 0x10fc8 in cycle 17: at most 2 may be under way"),
    (
        "outside",
        {"fault": 7},
        "m_axi_ar: burst 0 at 0x110fc8 in cycle 15: 32 bytes must be in memory, 0x10000 to 0x13fff",
    ),
    ("a word more", {"fault": 8}, "m_axi_w: a word in cycle 29 that no burst has announced"),
    ("a word less", {"fault": 9}, POLLED),
    ("wraps", {"fault": 10}, "m_axi_ar: burst 0 at 0x10fc8 in cycle 15: type must be INCR (1), not 2"),
    ("narrow", {"fault": 11}, "m_axi_ar: burst 0 at 0x10fc8 in cycle 15: size must be 3 (8 bytes), not 2"),
    ("long", {"fault": 12}, "m_axi_ar: burst 2 at 0x11000 in cycle 51: words must be at most 8, not 16"),
    ("unaligned", {"fault": 13}, "m_axi_ar: burst 0 at 0x10fcc in cycle 15: address must be a multiple of 8"),
    (
        "data changes",
        {"fault": 14, **HELD},
        "m_axi_w: data changed before ready in cycle 37\nmemory at 0x12fe8: expected 0x13, got 0x14 (17 bytes differ)",
    ),
    ("strobes dropped", {"fault": 15}, "memory at 0x13108: expected 0x9c, got 0xfc (5 bytes differ)"),
    ("done early", {"fault": 16}, "m_axi_aw: the burst at 0x130d8 is under way at the end, 7 of 7 words passed"),
    ("never done", {"fault": 17}, POLLED),
    ("answers twice", {"fault": 18}, "s_axil_r: an answer in cycle 14 to what was not asked"),
    ("answers early", {"fault": 19}, "s_axil_r: an answer in cycle 12 to what was not asked"),
    (
        "error lost",
        {"fault": 20, "errors": BAD, "status": DONE | ERROR},
        "s_axil access 9, Read of 0x00c: expected 0x6, got 0x2 in cycle 172",
    ),
    (
        "reads too early",
        {"fault": 21, "copy": PLACE},
        "m_axi_ar: burst 1 at 0x10800 in cycle 27: what it reads is being written",
    ),
    (
        "unknown is there",
        {"fault": 22, "more": [Write(address=0x44, value=0, resp=SLVERR)]},
        "s_axil access 10, Write of 0x044: expected response 2, got 0 in cycle 174",
    ),
    ("wrong register", {"fault": 23}, "s_axil access 6, Read of 0x004: expected 0x12fe0, got 0x10fc8 in cycle 13"),
    ("value changes", {"fault": 24, **HELD}, "s_axil_r: data changed before ready in cycle 18"),
    (
        "not reset",
        {"fault": 25, "stall": {"m_axi_ar": 255}, "reset_at": 100},
        "m_axi_ar: valid is high after reset in cycle 101",
    ),
    ("never answered", {"silent": list(BAD)}, POLLED),
    ("write never answered", {"silent": [range(COPY.target, COPY.target + 8)]}, POLLED),
]


def broken() -> list[Case]:
    return [case_of(name, **values) for name, values, _ in FAULTS]


@pytest.mark.parametrize("player", PLAYERS)
def test_every_fault_is_named(player: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        PLAYERS[player](SPEC, broken(), 1, product=PRODUCT)
    assert str(failed.value).split("\n") == [
        f"{name}: {line}" for name, _, lines in FAULTS for line in lines.split("\n")
    ]


def test_a_session_is_used_step_by_step() -> None:
    session = Session(SPEC, Memory(SPEC.ports, IMAGE, base=BASE), product=PRODUCT)
    assert session.read(CONTROL) == 0
    session.memory[COPY.source - BASE :][:3] = 1, 2, 3
    for address, value in ((SOURCE, COPY.source), (TARGET, COPY.target), (LENGTH, COPY.length), (CONTROL, 1)):
        session.write(address, value)
    before = session.cycle
    assert session.read(CONTROL) == BUSY
    session.step(1000)
    assert before + 1000 < session.cycle < before + 1020
    assert session.status == {"irq": 1}
    assert session.read(CONTROL) == DONE
    after = IMAGE.copy()
    after[COPY.source - BASE :][:3] = 1, 2, 3
    assert np.array_equal(session.memory, COPY.of(after))
    with pytest.raises(AccessError, match=r"^Read of 0x044 was answered with SLVERR$"):
        session.read(0x44)
    session.write(FAULT, 3)  # the session goes on after an error


def test_a_session_finds_what_a_case_finds() -> None:
    """A beat against the rules, a beat that is not held: time passes in a write, too."""
    for fault, finding in ((1, "64 bytes must not cross 4096"), (5, "data changed before ready")):
        session = Session(SPEC, Memory(SPEC.ports, IMAGE, base=BASE), stall=128, seed=1, product=PRODUCT)
        for address, value in ((SOURCE, COPY.source), (TARGET, COPY.target), (LENGTH, COPY.length), (FAULT, fault)):
            session.write(address, value)
        with pytest.raises(CheckFailed, match=finding):
            session.write(CONTROL, 1)
            session.step(1000)


def test_who_does_not_answer_ends_a_session() -> None:
    session = Session(SPEC, product=PRODUCT)
    session.write(FAULT, 26)
    with pytest.raises(CheckFailed, match=r"^s_axil access 0, Read of 0x000: not answered$"):
        session.read(0)


@pytest.mark.parametrize("player", PLAYERS)
def test_an_exported_unit_is_played(player: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its channels are wires through the shell: each access to a register is one of memory."""
    monkeypatch.setitem(UNITS, "axi_bridge", UNIT)
    spec, image = BridgeSpec(), np.arange(256, dtype=np.uint8)
    script = [
        Read(address=0x10, value=0x13121110),
        Write(address=0x10, value=0xAABBCCDD, strobes=0b0110),
        Read(address=0x10, value=0x13BBCC10),
        Write(address=0x80, value=0, resp=SLVERR),
        Read(address=0x84, value=0x87868584, resp=DECERR),
    ]
    expected = np.concatenate((image[:0x11], [0xCC, 0xBB], image[0x13:])).astype(np.uint8)
    errors = {range(0x80, 0x84): SLVERR, range(0x84, 0x88): DECERR}
    memory = Memory(spec.ports, image, expected, longest=1, outstanding=1, errors=errors)
    levels = [{}, {p.name: 100 for p in spec.ports if not p.name.endswith("aw")}]  # or data would overtake the address
    world = AxiWorld(memory, Host(spec.ports, script))
    cases = [Case("bridge", spec.ports, {}, {}, stall, 1, status={"irq": 0}, world=world) for stall in levels]
    PLAYERS[player](spec, cases, 1)
