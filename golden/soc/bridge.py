"""Frames of bytes to reads and writes of registers and memory: specification and bit-true model of ``uart_bridge``.

A request and its reply, one byte a column; words of 32 bits have their lowest byte first, the check its highest::

    request   A5  command  count  address (5, lowest first)  [word] * count, of a write  check (2)
    reply     5A  status   count                             [word] * count, of a read   check (2)

``command`` is a sum of :class:`Command`; the check is CRC-16 (polynomial 1021, begun with FFFF, nothing reflected) of
all before it, so that of a whole frame is 0.
"""

from binascii import crc_hqx
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.axi import DECERR, INCR, SLVERR, axi4_lite_slave, axi4_master, opposite
from golden.ports import Beats, Field, StreamPort
from golden.soc import registers
from golden.soc.descriptor import ADDRESS_BITS
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

START, ANSWER = 0xA5, 0x5A
"""First byte of a request and of a reply."""

GAP = 256
"""The symbol for silence on the line, or for what was no byte."""

WORD = 4
"""Bytes."""

HEADER, CHECK, HEAD = 8, 2, 3
"""Bytes before the words of a request, after the words, before the words of a reply."""

CACHE = 0b0011
"""Normal memory, not cached, writes may be buffered."""

SIZE = 2
"""Of an access: two to this are its bytes."""


_JUDGE, _ACCESS = 1, 4
"""Cycles to look at the check, and from word to word."""


class Command(IntFlag):
    """What a request asks for; without any: read registers."""

    WRITE = 1
    MEMORY = 2
    FIXED = 4  # all words at one address


class Status(IntEnum):
    """What a reply says. From ``BEGIN`` to ``CUT`` nothing was done; of what follows, the words before the first that
    failed were."""

    OK = 0
    BEGIN = 1
    COMMAND = 2
    COUNT = 3
    ADDRESS = 4
    CHECKSUM = 5
    CUT = 6
    SLVERR = 7
    DECERR = 8
    STUCK = 9


MEANING = {
    Status.OK: "done",
    Status.BEGIN: "the first byte was not A5",
    Status.COMMAND: "unknown command",
    Status.COUNT: "no words, or more than a frame may have",
    Status.ADDRESS: "the address is no multiple of 4, or beyond the last",
    Status.CHECKSUM: "the check is wrong",
    Status.CUT: "silence before the last byte",
    Status.SLVERR: "the bus answered SLVERR",
    Status.DECERR: "the bus answered DECERR",
    Status.STUCK: "the bus does not answer; only a reset helps",
}


@dataclass(frozen=True)
class Access:
    """One word read or written; ``data`` is 0 of a read."""

    write: bool
    memory: bool
    address: int
    data: int = 0

    @property
    def channels(self) -> tuple[str, ...]:
        """Where it is seen, and at last answered."""
        prefix = "m_axi" if self.memory else "m_axil"
        return tuple(f"{prefix}_{name}" for name in (("aw", "w", "b") if self.write else ("ar", "r")))


Slave = Callable[[Access], tuple[int, int] | None]
"""Data and response of an access; ``None`` for no answer."""


@dataclass(frozen=True, eq=False)
class Talk:
    """A job: bytes and :data:`GAP` as they come, and the answers that channel by channel are there for the accesses:
    data and response, in order. It ends with a whole request, or with a gap."""

    symbols: Int
    answers: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """A result: the replies, and the accesses."""

    replies: bytes
    accesses: tuple[Access, ...]


def request(command: Command, address: int, words: Sequence[int] | int) -> bytes:
    """The frame of a write of ``words``, or of a read of so many."""
    count, data = (words, ()) if isinstance(words, int) else (len(words), words)
    head = bytes((START, command, count)) + address.to_bytes(HEADER - 3, "little")
    return _checked(head + b"".join(int(word).to_bytes(WORD, "little") for word in data))


def reply(status: Status, words: Sequence[int] = ()) -> bytes:
    """The frame that answers."""
    return _checked(bytes((ANSWER, status, len(words))) + b"".join(w.to_bytes(WORD, "little") for w in words))


def _checked(frame: bytes) -> bytes:
    return frame + crc_hqx(frame, 0xFFFF).to_bytes(CHECK, "big")


class BridgeSpec(UnitSpec):
    """Lets a host at a serial line read and write registers and memory.

    Protocol    frames as in :mod:`golden.soc.bridge`, one request at a time and a reply to each. Nothing is done before
                all of a request is there and its check is right. One that cannot be a request is dropped up to the next
                gap, then replied to with a status; so is one that a gap cuts. Gaps between requests mean nothing.
    Streams     ``i``: a byte a beat, or a gap; ``o``: a byte a beat. AXI4-Lite ``m_axil`` to registers; to memory
                AXI4 ``m_axi``, single transfers of 4 bytes. One access at a time, the words of a request in order.
    Latency     ``latency`` cycles from the last byte of a request of one word to the first of its reply, 4 more for
                each further word, if the bus answers at once.
    Throughput  a byte per cycle in and, but for one cycle before each word and the check, out. ``cycles`` is exact.
    Ranges      1 to ``words`` words a frame; addresses of 12 bits for registers, 40 for memory.
    Errors      :class:`Status`. When the bus has not answered for ``patience`` cycles, that and every later request is
                replied to with STUCK; the access stays, so that the bus is never broken.
    Not done    no bursts, no flow control; accesses narrower than a word.
    """

    unit: ClassVar[str] = "uart_bridge"

    bus: int = param(128, "bits of a word of memory: 32, 64, 128, 256; 0 for no memory", low=0, high=256)
    words: int = param(128, "words of 32 bits that a frame may have, a power of two", low=2, high=128)
    patience: int = param(
        65535, "cycles without an answer of the bus, after which it counts as stuck", low=1, high=65535
    )

    def _check(self) -> None:
        if self.words.bit_count() != 1:
            raise SpecError(f"words must be a power of two, not {self.words}")
        if self.bus not in (0, 32, 64, 128, 256):
            raise SpecError(f"bus must be one of 0, 32, 64, 128, 256, not {self.bus}")

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        byte = Field("byte", 8, "uint8")
        return (
            StreamPort("i", "in", 1, (byte, Field("gap", 1, "uint1")), "", "bytes of requests, and gaps"),
            StreamPort("o", "out", 1, (byte,), "", "bytes of replies"),
            *opposite(axi4_lite_slave("m_axil", registers.ADDRESS_BITS)),
            *(axi4_master("m_axi", self.bus, 1, ADDRESS_BITS) if self.bus else ()),
        )

    @property
    def commands(self) -> int:
        """The bits that a command may have."""
        return sum(Command) - (0 if self.bus else Command.MEMORY)

    @property
    def latency(self) -> int:
        """Judged, taken, one access, begun."""
        return _JUDGE + 1 + _ACCESS + 1

    def lane(self, address: int) -> int:
        """Which word of 32 bits on the bus of memory."""
        return address // WORD % (self.bus // 32)

    def compute(self, job: Talk) -> Heard:
        accesses: list[Access] = []
        device = Device(self, _answering(job, accesses))
        replies = b"".join(device.hear(int(symbol)) for symbol in job.symbols)
        return Heard(replies, tuple(accesses))

    def inputs(self, job: Talk) -> dict[str, Beats]:
        gap = job.symbols == GAP
        made = {"i": self.port("i").pack(byte=np.where(gap, 0, job.symbols), gap=gap)}
        for name in self._channels("r", "b"):
            made[name] = self._rows(name, (self._answer(*answer) for answer in job.answers.get(name, ())))
        return made

    def outputs(self, job: Talk, result: Heard) -> dict[str, Beats]:
        made = {"o": self.port("o").pack(byte=np.frombuffer(result.replies, np.uint8))}
        for name in self._channels("aw", "w", "ar"):
            seen = (access for access in result.accesses if name in access.channels)
            made[name] = self._rows(name, (self._beat(name, access) for access in seen))
        return made

    def result(self, job: Talk, outputs: Mapping[str, Beats]) -> Heard:
        return Heard(outputs["o"].data[:, 0].tobytes(), ())

    def cycles(self, *jobs: Talk) -> int:
        at = end = 0  # the next symbol is taken, the last byte has left
        for job in jobs:
            accesses: list[Access] = []
            device = Device(self, _answering(job, accesses))
            for symbol in job.symbols:
                asked, was_stuck, was_wrong = len(accesses), device.stuck, device.wrong
                said = device.hear(int(symbol))
                judged = (said and symbol != GAP) or (device.wrong == Status.CHECKSUM and not was_wrong)
                at += 1 + (_JUDGE if judged else 0)
                if said:
                    late = device.stuck and not was_stuck
                    at += 1 + _ACCESS * (len(accesses) - asked) + (self.patience - 1 if late else 0)
                    at += len(said) + 1 + said[2]
                    end = at
        return end

    def _channels(self, *names: str) -> list[str]:
        return [port.name for port in self.ports[2:] if port.name.rpartition("_")[2] in names]

    def _answer(self, data: int, resp: int) -> dict[str, int]:
        return {"data": data, "resp": resp, "last": 1, "id": 0}

    def _beat(self, channel: str, access: Access) -> dict[str, int]:
        lane = self.lane(access.address) if access.memory else 0
        lanes = self.bus // 32 if access.memory else 1
        repeated = sum(access.data << 32 * n for n in range(lanes))
        fixed = {"len": 0, "size": SIZE, "burst": INCR, "cache": CACHE, "prot": 0, "id": 0, "last": 1}
        return {"addr": access.address, "data": repeated, "strb": 0xF << WORD * lane, **fixed}

    def _rows(self, name: str, rows: Iterable[dict[str, int]]) -> Beats:
        port, made = self.port(name), list(rows)
        return port.pack(**{f.name: np.array([row[f.name] for row in made], dtype=f.dtype) for f in port.fields})


def _answering(job: Talk, accesses: list[Access]) -> Slave:
    """The bus of a job; what it is asked goes to ``accesses``."""
    answers = {name: iter(of) for name, of in job.answers.items()}

    def slave(access: Access) -> tuple[int, int] | None:
        accesses.append(access)
        return next(answers.get(access.channels[-1], iter(())), None)

    return slave


class Device:
    """The bridge with a bus behind it, symbol by symbol."""

    def __init__(self, spec: BridgeSpec, slave: Slave):
        self._spec = spec
        self._slave = slave
        self._frame = bytearray()
        self.wrong: Status | None = None
        self.stuck = False

    def hear(self, symbol: int) -> bytes:
        """The reply that begins when this symbol has come."""
        if symbol == GAP:
            status = Status.CUT if self._frame and self.wrong is None else self.wrong
            self._frame.clear()
            self.wrong = None
            return b"" if status is None else reply(status)
        if self.wrong is not None:
            return b""
        self._frame.append(symbol)
        self.wrong = self._judge(self._frame)
        if self.wrong is not None or len(self._frame) < HEADER or len(self._frame) < self._length:
            return b""
        made = self._execute(bytes(self._frame))
        self._frame.clear()
        return made

    @property
    def _length(self) -> int:
        """Of the frame, whose header is there."""
        return HEADER + CHECK + (WORD * self._frame[2] if self._frame[1] & Command.WRITE else 0)

    def _judge(self, frame: bytearray) -> Status | None:
        """What the latest byte shows to be wrong."""
        match len(frame):
            case 1 if frame[0] != START:
                return Status.BEGIN
            case 2 if frame[1] & ~self._spec.commands:
                return Status.COMMAND
            case 3 if not 1 <= frame[2] <= self._spec.words:
                return Status.COUNT
            case 8 if self._address(frame) % WORD or self._address(frame) >> _bits(frame):
                return Status.ADDRESS
            case n if n > HEADER and n == self._length and crc_hqx(frame, 0xFFFF):
                return Status.CHECKSUM
        return None

    def _address(self, frame: bytes | bytearray) -> int:
        return int.from_bytes(frame[3:HEADER], "little")

    def _execute(self, frame: bytes) -> bytes:
        words: list[int] = []
        for access in self._accesses(frame):
            answer = None if self.stuck else self._slave(access)
            if answer is None:
                self.stuck = True
                return reply(Status.STUCK)
            data, resp = answer
            if resp in _FAILED:
                return reply(_FAILED[resp])
            lane = self._spec.lane(access.address) if access.memory else 0
            words.append(data >> 32 * lane & 0xFFFFFFFF)
        return reply(Status.OK, () if frame[1] & Command.WRITE else words)

    def _accesses(self, frame: bytes) -> Iterator[Access]:
        command = Command(frame[1])
        write, memory, fixed = (bool(command & c) for c in (Command.WRITE, Command.MEMORY, Command.FIXED))
        for n in range(frame[2]):
            at = HEADER + WORD * n
            data = int.from_bytes(frame[at : at + WORD], "little") if write else 0
            address = self._address(frame) + (0 if fixed else WORD * n)
            yield Access(write, memory, address % (1 << _bits(frame)), data)


_FAILED = {SLVERR: Status.SLVERR, DECERR: Status.DECERR}


def _bits(frame: bytes | bytearray) -> int:
    """Of an address."""
    return ADDRESS_BITS if frame[1] & Command.MEMORY else registers.ADDRESS_BITS
