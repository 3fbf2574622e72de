"""The driver of the accelerator, by all ways to it but the serial line, which ``tb/test_board.py`` has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen.registry import unit
from golden.axi import DECERR, SLVERR
from golden.moe import fixture
from golden.moe.biased import layer_batch
from golden.moe.convert import convert
from golden.moe.spec import ConversionSpec, preset, shape
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.board import NodeSpec
from golden.soc.image import Job, lay_out
from golden.soc.registers import ADDRESS, REGISTERS, Control, Error, State
from golden.spec import SpecError
from scripts.driver import SIMULATED, Driver, MemoryMapped, Stopped, Stuck
from tb import accelerator_host
from tb.axi import Memory
from tb.cosim import Session

SPEC = AcceleratorSpec(bus=64, burst=4, depth=8, outstanding=4, gemm="rows=2,cols=2")
BASE = 1 << 12
BYTES = 1 << 13


def session(**values: Any) -> Session:
    memory = Memory(SPEC.ports, np.zeros(BYTES, np.uint8), base=BASE, longest=SPEC.burst, outstanding=4, **values)
    return Session(SPEC, memory)


class FileDevice:
    """An accelerator behind a file: what is written there is done when the driver rests."""

    REGISTERS = 0

    def __init__(self, path: Path, inner: Session):
        self._inner = inner
        path.write_bytes(bytes(BASE + BYTES))
        self._file = np.memmap(path, np.uint8, "r+")
        self._words = self._file[:BASE].view("<u4")
        self._show()

    def _show(self) -> None:
        for r in REGISTERS:
            self._words[r.address // 4] = self._inner.read(r.address)
        self._file[BASE:] = self._inner.memory

    def turn(self) -> None:
        self._inner.store(BASE, self._file[BASE:].tobytes())
        for r in reversed(REGISTERS):  # CONTROL is the last one that is written
            if r.access in ("rw", "wo"):
                self._inner.write(r.address, int(self._words[r.address // 4]))
        self._inner.rest()
        self._show()


def by_file(folder: Path, inner: Session) -> MemoryMapped:
    device = FileDevice(folder / "mem", inner)
    end = MemoryMapped(str(folder / "mem"), FileDevice.REGISTERS, range(BASE, BASE + BYTES))
    end.rest = device.turn  # type: ignore[method-assign]
    return end


WAYS: dict[str, Callable[[Path, Session], Any]] = {"session": lambda folder, inner: inner, "file": by_file}
ways = pytest.mark.parametrize("way", WAYS)


def jobs(seed: int = 1) -> list[Job]:
    return accelerator_host.random_jobs(SPEC, np.random.default_rng(seed), 4)


@ways
def test_results_are_those_of_the_units(way: str, tmp_path: Path) -> None:
    """Two lists one after the other; counters are those of the last."""
    driver = Driver(SPEC, WAYS[way](tmp_path, session()), SIMULATED)
    for seed in (1, 2):
        work = jobs(seed)
        for job, found in zip(work, driver.run(work), strict=True):
            assert np.array_equal(found, SPEC.engine(job.kind).spec.compute(job.job))
        counted = driver.counters()
        assert counted["CYCLES"] > counted["READ_BEATS"] > counted["WRITE_BEATS"] > 0


@ways
@pytest.mark.parametrize(("answer", "code"), [(SLVERR, Error.READ_SLVERR), (DECERR, Error.READ_DECERR)])
def test_a_job_that_is_stopped(way: str, answer: int, code: Error, tmp_path: Path) -> None:
    """Which one, where and why; the next list runs."""
    words = [np.full((5, 8), n, np.uint8) for n in range(2)]
    image = lay_out(SPEC, [Job("copy", w) for w in words], BASE)
    at = image.placed(1, "i").entry.address
    driver = Driver(SPEC, WAYS[way](tmp_path, session(errors={range(at, at + 8): answer})), SIMULATED)
    with pytest.raises(Stopped) as stopped:
        driver.execute(image)
    assert (stopped.value.code, stopped.value.job, stopped.value.address) == (code, 1, at)
    answered = {SLVERR: "SLVERR", DECERR: "DECERR"}[answer]
    assert str(stopped.value) == f"job 1 was stopped at {at:#x}: memory answered a read with {answered}"
    assert driver.state == State.ERROR | State.QUIET
    (found,) = driver.run([Job("copy", words[1][:1])])
    assert np.array_equal(found, words[1][:1])
    with pytest.raises(Stopped):
        driver.execute(image)
    driver.clear()
    assert driver.state == State.QUIET


def test_a_list_that_does_not_end() -> None:
    """Memory is silent; the reset of the units does not help, and it is said."""
    driver = Driver(SPEC, session(silent=[range(BASE, BASE + 8)]), patience=0.1)
    image = lay_out(SPEC, jobs(), BASE)
    said = "the accelerator must come to an end within 0.1 s, not be "
    with pytest.raises(Stuck) as stuck:
        driver.execute(image)
    assert str(stuck.value) == said + "BUSY"
    with pytest.raises(Stuck) as stuck:
        driver.execute(image, timeout=100)
    assert str(stuck.value) == said + "BUSY"
    with pytest.raises(Stuck):
        driver.reset()


def test_what_runs_is_stopped_by_a_new_driver() -> None:
    inner = session(latency=400)
    driver = Driver(SPEC, inner, SIMULATED)
    image = lay_out(SPEC, jobs(), BASE)
    driver.place(image)
    driver.start(image)
    assert driver.state & State.BUSY
    assert Driver(SPEC, inner, SIMULATED).state == State.QUIET
    assert image.findings(driver.execute(image)) == []


def test_a_start_that_is_not_waited_for_can_be() -> None:
    driver = Driver(SPEC, session(), SIMULATED)
    image = lay_out(SPEC, jobs(), BASE)
    driver.place(image)
    driver.start(image)
    driver.wait()
    assert driver.state == State.DONE | State.QUIET


@pytest.mark.parametrize(
    ("other", "different"),
    [
        ({"gemm": "rows=2,cols=4"}, "CONFIGURATION"),
        ({"outstanding": 2}, "CONFIGURATION, BUILD"),
        ({"gemm": "off"}, "UNITS, CONFIGURATION, BUILD"),
    ],
)
def test_another_configuration_is_refused(other: dict[str, Any], different: str) -> None:
    wanted = AcceleratorSpec(**SPEC.values() | other)
    found = ", ".join(f"{name} {SPEC.constants[name]:#x}" for name in different.split(", "))
    with pytest.raises(SpecError) as e:
        Driver(wanted, session())
    assert str(e.value) == (
        f"the board must have the accelerator in this configuration (0x534e425a, {wanted.fingerprint:#x}), not {found}"
    )


def test_what_has_no_room_is_refused() -> None:
    driver = Driver(SPEC, session(), SIMULATED)
    for base, words in ((BASE, 1000), (0, 1)):
        image = lay_out(SPEC, [Job("copy", np.zeros((words, 8), np.uint8))], base)
        with pytest.raises(SpecError) as e:
            driver.execute(image)
        size = len(image.before)
        assert str(e.value) == f"a list must fit into 8192 bytes of memory from 0x1000 on, not {size} from {base:#x}"


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(100))
    for name in ("short", "missing"):
        with pytest.raises(SpecError) as e:
            MemoryMapped(str(tmp_path / name), 0, range(BASE, BASE + BYTES))
        assert str(e.value).startswith(
            "path must be a file with registers at 0x0 and memory at 0x1000 to 0x3000 that can be mapped, not '"
        )


def test_words_of_a_file_are_little_endian(tmp_path: Path) -> None:
    path = tmp_path / "mem"
    path.write_bytes(bytes(BASE + BYTES))
    end = MemoryMapped(str(path), 0, range(BASE, BASE + BYTES))
    end.write(ADDRESS["CONTROL"], Control.START)
    end.store(BASE + 8, b"\1\2\3\4")
    assert end.fetch(BASE + 8, 4) == b"\1\2\3\4" and end.read(ADDRESS["CONTROL"]) == 1
    assert path.read_bytes()[0x10:0x14] == b"\1\0\0\0" and path.read_bytes()[BASE + 8 :][:4] == b"\1\2\3\4"


# --- the small networks, on chip ---

X = np.random.default_rng(1).standard_normal((256, 64)).astype(np.float16).astype(np.float64)
"""The calibration tokens."""


def real_jobs(spec: AcceleratorSpec, name: str) -> list[Job]:
    """One of the networks as a mixture of a shared and 8 routed experts, 16 tokens of it; the top of 576 keys."""
    network = fixture.small()[name]
    conversion = convert(X, network.ffn(), ConversionSpec(**preset("code") | shape("S4A3E12")))
    batch = layer_batch(spec.engine("moe").spec, network, conversion, X[:16])
    vector = next(accelerator_host._vectors(spec, np.random.default_rng(1)))
    return [Job("moe", batch), Job("topk", vector)]


def on_chip() -> AcceleratorSpec:
    spec = unit("accelerator").configure("fracast")
    assert isinstance(spec, AcceleratorSpec)
    return spec


@pytest.mark.parametrize("name", fixture.SMALL_NETWORKS)
def test_a_real_network_has_its_place_on_chip(name: str) -> None:
    """``--memory 8192``: 64 KiB."""
    spec = on_chip()
    store = NodeSpec(inner=spec, memory=8192).store
    assert store and len(lay_out(spec, real_jobs(spec, name)).before) <= store.bytes == 1 << 16


@pytest.mark.slow
def test_real_networks_through_the_driver() -> None:
    spec = on_chip()
    memory = Memory(spec.ports, np.zeros(1 << 16, np.uint8), longest=spec.burst, outstanding=spec.outstanding)
    driver = Driver(spec, Session(spec, memory))
    for name in fixture.SMALL_NETWORKS:
        work = real_jobs(spec, name)
        y, top = driver.run(work)
        assert np.array_equal(y, spec.engine("moe").spec.compute(work[0].job))
        assert np.array_equal(top, spec.engine("topk").spec.compute(work[1].job))
        print(name, driver.counters())
