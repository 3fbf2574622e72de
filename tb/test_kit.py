"""The bench kit itself: what it must catch, in both players, on a unit that breaks the rules when told to."""

import dataclasses
import shutil
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from gen.export import Product
from gen.manifest import manifest
from golden.mixpe.pe import PESpec
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import UnitSpec
from tb.build import Build, BuildError
from tb.cosim import Rtl, compile
from tb.faults import broken
from tb.runner import PLAYERS, replay_command, run_bulk, run_cocotb
from tb.transactions import SHY, Case, CheckFailed, Gift, Played, World, case_of, cases_of, check


@dataclass(frozen=True)
class Bytes:
    """A job of the echo unit."""

    x: NDArray[np.int64]
    fault: int = 0


class EchoSpec(UnitSpec):
    unit: ClassVar[str] = "echo"

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        fields = (Field("x", 8, "uint8"), Field("fault", 4, "uint4"))
        return (
            StreamPort("i", "in", 1, fields, "message", "bytes, and how to break"),
            StreamPort("o", "out", 1, (Field("y", 9, "uint9"),), "message", "each byte plus one"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("never", "fault 10")),)

    @property
    def latency(self) -> int:
        return 1

    def compute(self, job: Bytes) -> NDArray[np.int64]:
        return job.x + 1

    def inputs(self, job: Bytes) -> dict[str, Beats]:
        return {"i": self.ports[0].pack(x=job.x, fault=np.full_like(job.x, job.fault), last=_last(job.x))}

    def outputs(self, job: Bytes, result: NDArray[np.int64]) -> dict[str, Beats]:
        return {"o": self.ports[1].pack(y=result, last=_last(job.x))}

    def result(self, job: Bytes, outputs: Mapping[str, Beats]) -> NDArray[np.int64]:
        return self.ports[1].unpack(outputs["o"])["y"][:, 0]

    def cycles(self, *jobs: Bytes) -> int:
        return sum(len(job.x) for job in jobs) + 1


def _last(x: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.arange(len(x)) == len(x) - 1


SPEC = EchoSpec()
VERILOG = Path(__file__).with_name("echo.v").read_text()
PRODUCT = Product(top="echo", verilog=VERILOG, manifest=manifest(SPEC, "echo", VERILOG), vlt="", core="")
X = np.array([7, 255, 3, 0, 100, 9])
STALL = {"o": 128}

FAULTS: list[tuple[str, int, dict[str, int], int | None, list[str]]] = [
    ("wrong data", 1, {}, None, ["m_axis beat 2: y: expected 4, got 5 (1 of 6 differ)"]),
    ("tlast dropped", 2, {}, None, ["m_axis beat 5: tlast: expected 1, got 0"]),
    (
        "beat twice",
        3,
        {"i": 254},  # the surplus makes the count right long before the last input: that must not end the case
        None,
        [
            "m_axis beat 3: y: expected 1, got 4 (3 of 6 differ)",
            "m_axis beat 5: tlast: expected 1, got 0",
            "m_axis beat 6: expected no more beats, got 0x000a",
        ],
    ),
    (
        "beat lost",
        4,
        {},
        None,
        [
            "m_axis beat 2: y: expected 4, got 1 (3 of 5 differ)",
            "m_axis beat 4: tlast: expected 0, got 1",
            "m_axis: 5 of 6 beats came by cycle 4103",
        ],
    ),
    (
        "data not held",
        5,
        STALL,
        None,
        [
            "m_axis: data changed before ready in cycle 4",
            "m_axis beat 2: y: expected 4, got 5 (3 of 6 differ)",
        ],
    ),
    (
        "valid withdrawn",
        6,
        STALL,
        None,
        [
            "m_axis: valid was withdrawn before ready in cycle 4",
            "s_axis: 3 of 6 beats taken by cycle 4099",
            "m_axis: 2 of 6 beats came by cycle 4099",
        ],
    ),
    (
        "last not held",
        7,
        STALL,
        None,
        ["m_axis: last changed before ready in cycle 4", "m_axis beat 2: tlast: expected 0, got 1"],
    ),
    ("hang", 8, {}, None, ["s_axis: 3 of 6 beats taken by cycle 4100", "m_axis: 3 of 6 beats came by cycle 4100"]),
    ("unused bits", 9, {}, None, ["m_axis beat 2: unused bits: expected 0, got tdata 0x8004 (1 of 6 differ)"]),
    ("status", 10, {}, None, ["sts_error: expected 0x0, got 0x2"]),
    ("late", 11, {}, None, ["cycles: expected 7, got 8"]),
    ("afterwards", 13, {}, None, ["m_axis beat 6: expected no more beats, got 0x000a"]),
    (
        "endless",
        14,
        {},
        None,
        [
            "m_axis beat 3: y: expected 1, got 4 (3 of 6 differ)",
            "m_axis beat 5: tlast: expected 1, got 0",
            "m_axis beat 6: expected no more beats, got 0x0004",
            "s_axis: 3 of 6 beats taken by cycle 23",
        ],
    ),
    (
        "idle beats taken",
        15,
        {"i": 128},
        None,
        [
            "m_axis beat 2: y: expected 4, got 256 (4 of 6 differ)",
            "m_axis beat 1: tlast: expected 0, got 1",
            "m_axis beat 6: expected no more beats, got 0x0100",
        ],
    ),
    ("reset too late", 0, {}, 8, ["the job was over before the reset in cycle 8: nothing was cut"]),
    ("no reset", 12, STALL, 3, ["m_axis: valid is high after reset in cycle 4"]),
]


@pytest.mark.parametrize("player", PLAYERS)
def test_every_fault_is_named(player: str) -> None:
    cases = [
        case_of(SPEC, name, [Bytes(X, fault)], seed=1, stall=stall, reset_at=reset_at)
        for name, fault, stall, reset_at, _ in FAULTS
    ]
    with pytest.raises(CheckFailed) as failed:
        PLAYERS[player](SPEC, cases, 1, product=PRODUCT)
    assert str(failed.value).split("\n") == [f"{name}: {line}" for name, *_, lines in FAULTS for line in lines]


def test_players_agree_cycle_for_cycle() -> None:
    cases = [
        case_of(SPEC, f"{source}-{sink}", [Bytes(X), Bytes(X[:1])] * 20, seed=seed, stall={"i": source, "o": sink})
        for seed, (source, sink) in enumerate([(0, 0), (0, 200), (200, 0), (40, 90), (255, 250), (128, 128)])
    ]
    cases += [dataclasses.replace(cases[3], name=f"cut-{at}", reset_at=at) for at in (0, 1, 2, 30, 31)]
    cocotb, bulk = (run(SPEC, cases, 3, product=PRODUCT).played for run in (run_cocotb, run_bulk))
    for case, a, b in zip(cases, cocotb, bulk, strict=True):
        assert _comparable(a) == _comparable(b), case.name
    assert len({p.cycles for p in bulk[:6]}) == 6  # the stalls differ from case to case


class Ladder(World):
    """Two bytes, and for each that comes back one more, three cycles later; ``bad`` must not come back."""

    answers, notes = frozenset("o"), frozenset("i")

    def __init__(self, number: int, bad: int | None = None, fault: int = 0):
        self._number, self._bad, self._fault = number, bad, fault
        self.given, self.taken = [7, 8], list[int]()

    @property
    def over(self) -> bool:
        return len(self.given) == self._number

    def begins(self) -> list[Gift]:
        return [Gift("i", bytes([7, self._fault, 8, self._fault]), at=3, pace=5, last=True)]

    def sees(self, cycle: int, stream: str, beat: int) -> list[Gift]:
        if stream == "i":
            self.taken.append(beat & 0xFF)
            return []
        if beat == self._bad:
            raise CheckFailed(f"{beat} in cycle {cycle}")
        if self.over:
            return []
        self.given.append(beat + 1)
        return [Gift("i", bytes([beat + 1, self._fault]), cycle + 3)]

    def ends(self) -> list[str]:
        return [] if self.taken == self.given else [f"{len(self.taken)} of {len(self.given)} taken"]


def _around(name: str, number: int, ladder: Ladder, stall: int = 0) -> Case:
    beats = SPEC.ports[1].pack(y=np.arange(8, 8 + number)[:, None], last=np.arange(number) < 2)
    return Case(name, SPEC.ports, {}, {"o": beats}, {"i": stall, "o": stall}, world=ladder, patience=99)


def test_a_world_answers_in_both_players_alike() -> None:
    levels = (0, 100, 200)
    cases = [_around(f"stall-{level}", 30, Ladder(30), level) for level in levels]
    cocotb, bulk = (run(SPEC, cases, 1, product=PRODUCT).played for run in (run_cocotb, run_bulk))
    assert [_comparable(p) for p in cocotb] == [_comparable(p) for p in bulk]
    assert bulk[0].first_in == 3
    for played in (*cocotb, *bulk):
        assert isinstance(played.world, Ladder)
        assert played.world.taken == played.world.given
    assert all(isinstance(c.world, Ladder) and not c.world.taken for c in cases)  # a play has its own


@pytest.mark.parametrize("player", PLAYERS)
def test_what_a_world_finds_is_said(player: str) -> None:
    cases = [_around("bad", 30, Ladder(30, bad=9)), _around("hang", 30, Ladder(30, fault=8))]
    with pytest.raises(CheckFailed) as failed:
        PLAYERS[player](SPEC, cases, 1, product=PRODUCT)
    assert str(failed.value).split("\n") == ["bad: 9 in cycle 9", "hang: 3 of 5 taken"]


@pytest.mark.parametrize("player", PLAYERS)
def test_a_valid_that_waits_for_ready_hangs_before_sinks_that_wait_for_valid(player: str) -> None:
    waits = broken(PRODUCT, "assign m_axis_tvalid = full &", "assign m_axis_tvalid = full & m_axis_tready &")
    shy = case_of(SPEC, "shy", [Bytes(X)], stall={"o": SHY})
    PLAYERS[player](SPEC, [shy], 1, product=PRODUCT)
    others = [case_of(SPEC, "x", [Bytes(X)], stall=stall) for stall in (0, 128)]
    with pytest.raises(CheckFailed) as failed:
        PLAYERS[player](SPEC, [*others, shy], 1, product=waits)
    assert str(failed.value).split("\n") == [
        "shy: s_axis: 1 of 6 beats taken by cycle 4097",
        "shy: m_axis: 0 of 6 beats came by cycle 4097",
    ]


def test_a_seed_replays_and_another_does_not() -> None:
    rtl = compile(SPEC, product=PRODUCT)
    first, again, other = (
        [_comparable(rtl.play(case)) for case in cases_of(SPEC, "x", [Bytes(X)] * 30, seed=seed)] for seed in (5, 5, 6)
    )
    assert first == again
    assert [a == b for a, b in zip(first, other, strict=True)] == [True, False, False, False, True]


def test_a_malformed_job_must_still_end() -> None:
    rtl = compile(SPEC, product=PRODUCT)
    wrong, stuck = (dataclasses.replace(case_of(SPEC, "x", [Bytes(X, fault)]), judged=False) for fault in (1, 8))
    check(wrong, rtl.play(wrong))
    with pytest.raises(CheckFailed, match=r"^x: s_axis: 3 of 6 beats taken by cycle 4100$"):
        check(stuck, rtl.play(stuck))


def test_rtl_is_a_function_on_jobs() -> None:
    rtl = compile(SPEC, optimise=True, product=PRODUCT)
    for n in (1, 2, 1000):
        x = np.random.default_rng(n).integers(0, 256, n)
        assert (rtl(Bytes(x)) == x + 1).all()
        assert rtl.cycles == n + 1
    for fault, finding in (
        (8, "job: s_axis: 3 of 6 beats taken by cycle 4100"),
        (10, "job: sts_error: expected 0x0, got 0x2"),
        (11, "job: cycles: expected 7, got 8"),
    ):
        with pytest.raises(CheckFailed) as failed:
            rtl(Bytes(X, fault))
        assert str(failed.value) == finding


def test_rtls_come_and_go_in_any_order() -> None:
    rtls = [compile(SPEC, product=PRODUCT) for _ in range(40)]
    np.random.default_rng(1).shuffle(rtls)
    while rtls:
        del rtls[0]
        for rtl in rtls[:2]:
            assert (rtl(Bytes(X)) == X + 1).all()


def test_junit_lists_every_case_without_paths() -> None:
    xml = run_cocotb(SPEC, cases_of(SPEC, "x", [Bytes(X)]), 7, product=PRODUCT).xml
    assert xml is not None
    cases = [e.attrib for e in ET.parse(xml).iter("testcase")]
    assert [c["name"] for c in cases] == [f"play/case=x-{stall}" for stall in ("free", "back", "idle", "both", "shy")]
    assert str(Path.cwd()) not in xml.read_text()


def test_waves_on_demand() -> None:
    waves = run_cocotb(SPEC, [case_of(SPEC, "x", [Bytes(X)])], 8, waves=True, product=PRODUCT).waves
    assert waves is not None
    assert waves.stat().st_size > 1000
    if waves.suffix == ".vcd":
        assert "taken" in waves.read_text()  # a signal inside


def test_seed_is_printed_with_the_command_that_replays(capsys: pytest.CaptureFixture[str]) -> None:
    run_bulk(SPEC, [], 9, product=PRODUCT)
    assert capsys.readouterr().out == "seed 9: senbazuru sim echo --seed 9\n"
    assert (
        replay_command(PESpec(group=7, core="booth"), 3)
        == "senbazuru sim mixpe_pe --set group=7 --set core=booth --seed 3"
    )


def test_a_build_is_made_once_and_again_when_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Build(broken(PRODUCT, "module echo", f"// {uuid.uuid4()}\nmodule echo"))
    try:
        library, program = build.library(), build.program()
        assert not list(build.folder.glob("verilated*.o"))  # the runtime is linked, not compiled
        made = [f.stat().st_mtime_ns for f in (library, program)]
        assert [f.stat().st_mtime_ns for f in (build.library(), build.program())] == made

        (build.folder / "model.done").unlink()
        (build.folder / "Vtop__ALL.a").write_bytes(b"half")
        assert [f.stat().st_mtime_ns for f in (build.library(), build.program())] != made
        rtl = Rtl(SPEC, build)
        assert (rtl(Bytes(X)) == X + 1).all()
    finally:
        shutil.rmtree(build.folder)
        build.folder.with_name(f"{build.folder.name}.lock").unlink()


def test_a_design_that_does_not_compile() -> None:
    with pytest.raises(BuildError, match="syntax error"):
        Build(broken(PRODUCT, "endmodule", "endmodul")).library()


def test_a_fault_must_hit_its_target() -> None:
    with pytest.raises(ValueError, match=r"^pattern must occur 1 time\(s\) in the Verilog, not 0: 'nowhere'$"):
        broken(PRODUCT, "nowhere", "")
    with pytest.raises(ValueError, match=r"^pattern must occur 1 time\(s\) in the Verilog, not 3: 'twice <= '$"):
        broken(PRODUCT, "twice <= ", "")
    assert broken(PRODUCT, "twice <= ", "held <= ", count=3).verilog.count("held <= ") == 5


def _comparable(played: Played) -> tuple[object, ...]:
    beats = {name: (b.data.tobytes(), b.last.tobytes()) for name, b in played.outputs.items()}
    return beats, *(getattr(played, f.name) for f in dataclasses.fields(played) if f.compare and f.name != "outputs")
