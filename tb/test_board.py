"""Boards as a host sees them: the client of the serial line, nodes in Verilator, as RTL and as netlists."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from gen.registry import unit
from golden.axi import OKAY, SLVERR
from golden.mixpe.pe import PESpec
from golden.ports import Beats
from golden.soc.board import NodeSpec
from golden.soc.bridge import ANSWER, GAP, Access, BridgeSpec, Command, Device, Status, request
from golden.soc.image import Image, lay_out
from golden.soc.mailbox import CONTROL, DATA, ID, IDENTIFIER, LEVEL, SLACK, STATUS, MailboxSpec
from golden.soc.uart import Ear, Line, levels
from golden.spec import SpecError
from hdl.soc.mailbox import Mailbox, Queue
from scripts.cli import main
from scripts.driver import SIMULATED, Driver
from scripts.streams import Streams, playable
from scripts.uart import Host, LineError, Refused
from tb.accelerator_host import random_jobs
from tb.board import Simulated, gates
from tb.faults import one_in, rewritten
from tb.mixpe_pe import bench
from tb.transactions import check

LINE = Line(divisor=4, silence=64)
UNIT = PESpec(group=16)
PE = NodeSpec(inner=UNIT, line=LINE, frame=16, queue=64, depth=64)
ACCELERATOR = NodeSpec(inner=unit("accelerator").configure("tiny"), line=LINE, frame=64, queue=64, memory=1024)


class Fake:
    """A wire to a node that is all model, which ``spoils`` what goes either way: number and value of a byte."""

    def __init__(self, spoils: Callable[[int, int], int] = lambda n, byte: byte):
        self.words: dict[tuple[bool, int], int] = {}
        self.device = Device(BridgeSpec(words=4), self._slave)
        self._spoils = spoils
        self._sent = 0
        self._out = bytearray()

    def _slave(self, access: Access) -> tuple[int, int] | None:
        key = access.memory, access.address
        if access.write:
            self.words[key] = access.data
        return self.words.get(key, 0) << 32 * (access.address // 4 % 4 if access.memory else 0), (
            SLVERR if access.address == 0x400 else OKAY
        )

    def _on_its_way(self, byte: int) -> int:
        self._sent += 1
        return self._spoils(self._sent, byte)

    def write(self, data: bytes) -> None:
        for byte in data:
            self._out += bytes(map(self._on_its_way, self.device.hear(self._on_its_way(byte))))

    def read(self, count: int) -> bytes:
        if len(self._out) < count:  # the host waits, the line is silent
            self._out += self.device.hear(GAP)
        found = bytes(self._out[:count])
        del self._out[:count]
        return found

    def settle(self) -> None:
        self.device.hear(GAP)
        self._out.clear()


def use(host: Host, memory: bool = True) -> None:
    """Registers and memory, by single words and by more than a frame has."""
    words = np.arange(11, dtype=np.uint32) * 0x01010101
    for n, word in enumerate(words.tolist()):
        host.write(0x100 + 4 * n, word)
    assert host.registers(0x100, 11) == words.tolist() and host.read(0x104) == words[1]
    host.push(0x200, words)
    assert host.pop(0x200, 6).tolist() == [words[-1]] * 6
    if memory:
        host.store(0x1000, words.tobytes())
        assert host.fetch(0x1004, 40) == words[1:].tobytes()


def test_host() -> None:
    use(Host(Fake(), 4))


@pytest.mark.parametrize("every", (53, 101, 211))
@pytest.mark.parametrize("bit", (0x01, 0x80))
def test_host_bears_a_disturbed_line(every: int, bit: int) -> None:
    """Wrong bits in requests and in replies: what is read and written is right all the same."""
    use(Host(Fake(lambda n, byte: byte ^ bit if n % every == 0 else byte), 4))


def test_host_names_what_went_wrong() -> None:
    host = Host(Fake(), 4)
    with pytest.raises(Refused) as refused:
        host.read(0x400)
    assert str(refused.value) == "address 0x400: the bus answered SLVERR" and refused.value.status == Status.SLVERR
    with pytest.raises(Refused) as refused:
        host.read(0x402)
    assert str(refused.value) == "address 0x402: the address is no multiple of 4, or beyond the last"
    with pytest.raises(LineError) as error:
        Host(Fake(lambda n, byte: byte ^ (byte == ANSWER)), 4).read(0x10)
    assert str(error.value) == "the node must reply to a request at address 0x10, 3 went without"


def test_ear() -> None:
    """The bytes of a line, from its changes; what is not over yet comes later."""
    data = [0x00, 0xFF, 0x55, 0x80, 0x01]
    line = [1] * 9 + [*levels(data, 7)] + [1] * 30 + [*levels(data, 7)] + [1]
    ear, heard = Ear(7), b""
    for cycle in range(1, len(line)):
        if line[cycle] != line[cycle - 1]:
            ear.change(cycle)
        heard += ear.bytes(cycle)
        assert len(heard) >= sum(cycle >= 9 + 70 * n for n in range(1, 6))
    assert [*heard] == data + data


def test_words_of_beats() -> None:
    """Every stream of a unit with wide beats and tlast: there and back."""
    spec = MailboxSpec(inner=unit("mixpe").configure("tiny"))
    rng = np.random.default_rng(0)
    for port in spec.inner.ports:
        fields = {f.name: rng.integers(0, 1 << min(f.width, 31), (5, port.lanes)) for f in port.fields}
        beats = port.pack(last=rng.integers(0, 2, 5) if port.last else None, **fields)
        words = spec.pack(port, beats)
        again = spec.unpack(port, words)
        assert len(words) == 5 * spec.words(port) and np.array_equal(again.data, beats.data)
        assert np.array_equal(again.last, beats.last)


@cache
def node(spec: NodeSpec, netlist: bool = False) -> Host:
    memory = spec.store.bytes if spec.store else 0
    return Host(Simulated(spec, gates(spec) if netlist else None), spec.frame, memory)


def test_a_unit_plays_its_bench_behind_a_line() -> None:
    assert PE.mailbox
    streams = Streams(node(PE), PE.mailbox)
    for case in filter(playable, bench(UNIT, 1)[1:6]):
        check(*streams.play(case))


def test_what_is_wrong_is_found() -> None:
    assert PE.mailbox
    case = bench(UNIT, 1)[2]
    case, played = Streams(node(PE), PE.mailbox).play(case)
    beats = played.outputs["o"]
    played.outputs["o"].data[0] ^= 1
    with pytest.raises(AssertionError, match="m_axis beat 0"):
        check(case, played)
    assert isinstance(beats, Beats)


def test_another_configuration_is_refused() -> None:
    with pytest.raises(SpecError) as e:
        Streams(node(PE), MailboxSpec(inner=PESpec(group=32)))
    assert str(e.value).startswith("the board must have mixpe_pe in this configuration (")


def use_registers(host: Host, spec: MailboxSpec) -> None:
    """What all registers do, and what there is none for."""
    (i, o), room = (DATA, DATA + 4), spec.depth - SLACK
    assert host.read(ID) == IDENTIFIER and host.read(STATUS) == 0 and host.read(CONTROL) == 0
    host.write(CONTROL, 1)
    assert host.registers(LEVEL, 2) == [room, 0]
    words = spec.pack(spec.inner.ports[0], bench(UNIT, 1)[0].inputs["i"])
    for address in (o, ID, STATUS, LEVEL, 0x10, 0xFFC):
        refused(host.write, address, 0)
    for address in (i, o, 0x10, 0x7C, 0xFFC):
        refused(host.read, address)
    host.push(i, words[:3])  # groups of one product, so each is a sum
    assert host.registers(LEVEL, 2) == [room, 3]
    host.push(i, words[3:8])
    assert host.registers(LEVEL, 2) == [room, 8]
    host.pop(o, 2)
    assert host.registers(LEVEL, 2) == [room, 6]
    host.write(CONTROL, 0)
    assert host.registers(LEVEL, 2) == [room, 6]
    host.write(CONTROL, 1)
    assert host.registers(LEVEL, 2) == [room, 0]
    with pytest.raises(Refused):  # nobody takes the sums
        for _ in range(2000):
            host.push(i, words[:16])
    assert host.registers(LEVEL, 1) == [0]
    host.write(CONTROL, 1)


def refused(function: Any, *arguments: Any) -> None:
    with pytest.raises(Refused, match="the bus answered SLVERR"):
        function(*arguments)


def test_registers_of_a_mailbox() -> None:
    assert PE.mailbox
    use_registers(node(PE), PE.mailbox)


def test_a_node_survives_what_is_on_the_line() -> None:
    """Noise, a break, half a request, one that the next cuts; the node does as it is told, after a gap or at once."""
    wire = Simulated(PE)
    host = Host(wire, PE.frame)
    rng = np.random.default_rng(2)
    noise = np.repeat(rng.integers(0, 2, 300, dtype=np.uint8), rng.integers(1, 12, 300))
    good = request(Command(0), ID, 1)
    broken = [noise, np.zeros(3000, np.uint8), *(levels(b, 4) for b in (good[:5], good[:7] + good, b"\xff"))]
    for level in broken:
        for settle in (True, False):
            wire.send(bytes(level.tolist()))
            if settle:
                wire.settle()
            assert host.read(ID) == IDENTIFIER


def test_jobs_of_the_accelerator_behind_a_line() -> None:
    image = jobs(1)
    memory = driver().execute(image)
    assert image.findings(memory) == []
    at = int(np.flatnonzero(image.known)[-1])
    memory = memory.copy()
    memory[at] ^= 1
    (finding,) = image.findings(memory)
    assert finding.startswith(f"memory at {at:#x}: expected ") and finding.endswith("(1 bytes differ)")


def driver(netlist: bool = False) -> Driver:
    assert ACCELERATOR.accelerator
    return Driver(ACCELERATOR.accelerator, node(ACCELERATOR, netlist), SIMULATED)


def jobs(seed: int) -> Image:
    spec, rng = ACCELERATOR.accelerator, np.random.default_rng(seed)
    assert spec
    return lay_out(spec, random_jobs(spec, rng, 4), 0, rng)


@pytest.mark.slow
def test_netlists_do_the_same() -> None:
    """The same host against ECP5 cells, block RAM and multipliers among them."""
    assert PE.mailbox
    streams = Streams(node(PE, netlist=True), PE.mailbox)
    for case in filter(playable, bench(UNIT, 1)[1:6]):
        check(*streams.play(case))
    use_registers(node(PE, netlist=True), PE.mailbox)
    image = jobs(1)
    assert image.findings(driver(netlist=True).execute(image)) == []


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["board", "mixpe_pe", "--preset", "tiny", "--board", "icebreaker", "--port", "sim", "--cases", "2"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("seed 1, 0 of 2 cases failed\n")
    arguments = ["board", "accelerator", "--preset", "tiny", "--port", "cosim", "--jobs", "2"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("seed 1, 0 of 3 cases failed\n")


REFUSED = {
    "mixpe_pe --port=cosim": "port must be sim, netlist or a serial port for mixpe_pe, not 'cosim'",
    "mixpe_pe --port=sim": "board must be one of ulx3s-85f, ulx3s-25f, ecpix5-85f, icebreaker, arty-a7-100, de10-nano,"
    " not None",
    "accelerator --port=cosim --jobs=0": "jobs must be at least 1, not 0",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refusals(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", *arguments.split()]) == 2
    assert capsys.readouterr().err == REFUSED[arguments] + "\n"


@pytest.mark.parametrize("wrong", ("a byte", "a job"))
def test_a_list_that_goes_wrong_fails(
    wrong: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte of the results that is another one; a header of a kind that there is none of."""

    def spoiled(driver: Driver, image: Image) -> None:
        data = image.before.copy()
        data[image.list] += wrong == "a job" and 0x40
        (image.after if wrong == "a byte" else data)[np.flatnonzero(image.known)[-1]] ^= 1
        driver._end.store(image.base, data.tobytes())

    monkeypatch.setattr(Driver, "place", spoiled)
    assert main(["board", "accelerator", "--preset", "tiny", "--port", "cosim", "--cases", "1"]) == 1
    told = capsys.readouterr()
    said = "expected 0x" if wrong == "a byte" else "job 0 was stopped at 0x"
    assert said in told.err and told.out.endswith("seed 1, 1 of 1 cases failed\n")


# name: block, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "room is not taken": (Queue, "elaborate", "- (less.valid & less.ready)", ""),
    "room is not given back": (Queue, "elaborate", "+ (more.valid & more.ready)", ""),
    "the last word is lost": (Queue, "__init__", "self.spec.depth - SLACK", "self.spec.depth"),
    "queues are not reset": (
        Mailbox,
        "elaborate",
        "Shared(Queue, self.spec, port, reset=renew)",
        "Shared(Queue, self.spec, port)",
    ),
    "the unit is not reset": (
        Mailbox,
        "elaborate",
        "Shared(self.unit, inner, reset=renew)",
        "Shared(self.unit, inner)",
    ),
    "writes without room": (Mailbox, "_write", "done.eq(queue.level.any())", "done.eq(1)"),
    "reads of nothing": (Mailbox, "_read", "done.eq(queue.word.valid)", "done.eq(1)"),
    "any address": (Mailbox, "_read", "m.d.comb += done.eq(0)", "m.d.comb += done.eq(1)"),
    "a word is read twice": (Mailbox, "_read", "queue.word.ready.eq(go)", "queue.word.ready.eq(go & ~r.valid)"),
    "reset at any write": (Mailbox, "_write", "go & data[0]", "go"),
}


@pytest.mark.parametrize("name", one_in(10, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, method, old, new = FAULTS[name]
    assert PE.mailbox
    monkeypatch.setattr(block, method, getattr(rewritten(block, old, new, method), method))
    host = Host(Simulated(PE, patience=20_000), PE.frame)
    with pytest.raises((AssertionError, Refused, LineError, pytest.fail.Exception)):
        use_registers(host, PE.mailbox)
        for case in bench(UNIT, 1)[1:4]:
            check(*Streams(host, PE.mailbox).play(case))
