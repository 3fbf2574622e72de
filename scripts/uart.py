"""A host's end of the serial line: registers and memory of a node, by the frames of ``uart_bridge``."""

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from golden.soc.bridge import ANSWER, CHECK, HEAD, MEANING, WORD, Command, Status, request
from golden.spec import SpecError

TRIES = 3
"""Of a request that is not replied to as it should be, with silence between."""

FRAMING = range(Status.BEGIN, Status.CUT + 1)
"""What a disturbed line may be the cause of: nothing was done, so it is tried again."""


class Wire(Protocol):
    """Bytes to and from a node."""

    def write(self, data: bytes) -> None: ...

    def read(self, count: int) -> bytes:
        """So many bytes; fewer where the line has been silent for long."""
        ...

    def settle(self) -> None:
        """Be silent until the node has seen a gap; what comes until then is dropped."""
        ...


class LineError(RuntimeError):
    """The node does not reply, or not in a way that can be understood."""


class Refused(RuntimeError):
    """The node replied that it has not done it, or not all of it."""

    def __init__(self, status: Status, address: int):
        super().__init__(f"address {address:#x}: {MEANING[status]}")
        self.status = status


class Host:
    """Reads and writes by frames of at most ``frame`` words. ``memory``: bytes from address 0 on.

    A request without a proper reply, or that did not arrive as it was sent, is repeated after silence, at most twice:
    reads, and writes of the same words, may be done twice. After that :class:`LineError`, or :class:`Refused` where the
    node says why; that at once where the bus answers with an error.
    """

    def __init__(self, wire: Wire, frame: int, memory: int = 0):
        self.room = range(memory)
        self._wire = wire
        self._frame = frame

    def read(self, address: int) -> int:
        """A register."""
        return self._exchange(Command(0), address, 1)[0]

    def registers(self, address: int, count: int) -> list[int]:
        """Registers one after the other."""
        return [int(word) for word in self._words(Command(0), address, count)]

    def write(self, address: int, value: int) -> None:
        """A register."""
        self._exchange(Command.WRITE, address, [value])

    def pop(self, address: int, count: int) -> NDArray[np.uint32]:
        """Words one after the other from one register."""
        return self._words(Command.FIXED, address, count)

    def push(self, address: int, words: NDArray[np.uint32]) -> None:
        """Words one after the other to one register."""
        self._all(Command.WRITE | Command.FIXED, address, words)

    def fetch(self, address: int, count: int) -> bytes:
        """Bytes of memory; both multiples of 4."""
        return self._words(Command.MEMORY, address, count // WORD).astype("<u4").tobytes()

    def store(self, address: int, data: bytes | NDArray[np.uint8]) -> None:
        """Bytes to memory; address and length are multiples of 4."""
        self._all(Command.WRITE | Command.MEMORY, address, np.frombuffer(bytes(data), "<u4"))

    def rest(self) -> None:
        """Nothing: a request takes long enough."""

    def _words(self, command: Command, address: int, count: int) -> NDArray[np.uint32]:
        parts: list[int] = []
        while len(parts) < count:
            at = address if command & Command.FIXED else address + WORD * len(parts)
            parts += self._exchange(command, at, min(self._frame, count - len(parts)))
        return np.array(parts, dtype=np.uint32)

    def _all(self, command: Command, address: int, words: NDArray[np.uint32]) -> None:
        for n in range(0, len(words), self._frame):
            at = address if command & Command.FIXED else address + WORD * n
            self._exchange(command, at, words[n : n + self._frame].tolist())

    def _exchange(self, command: Command, address: int, words: Sequence[int] | int) -> list[int]:
        asked = words if isinstance(words, int) else 0
        status = None
        for _ in range(TRIES):
            self._wire.write(request(command, address, words))
            status, found = self._reply()
            if status == Status.OK and len(found) == asked:
                return found
            if status and status not in FRAMING:
                break
            self._wire.settle()
        if status:
            raise Refused(status, address)
        raise LineError(f"the node must reply to a request at address {address:#x}, {TRIES} went without")

    def _reply(self) -> tuple[Status | None, list[int]]:
        head = self._wire.read(HEAD)
        if len(head) < HEAD or head[0] != ANSWER or head[1] >= len(Status):
            return None, []
        rest = self._wire.read(WORD * head[2] + CHECK)
        if len(rest) < WORD * head[2] + CHECK or crc_hqx(head + rest, 0xFFFF):
            return None, []
        return Status(head[1]), np.frombuffer(rest[:-CHECK], "<u4").tolist()


class Serial:
    """A serial port of this machine, by pyserial."""

    def __init__(self, port: str, baud: int, silence: int):
        import serial  # only those need it who have a board

        self._quiet = silence / baud
        try:
            self._port = serial.Serial(port, baud, timeout=1.0)
        except (serial.SerialException, OSError, ValueError) as e:
            raise SpecError(f"port must be a serial port that can be opened, not {port!r}: {e}") from None
        self.settle()

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def read(self, count: int) -> bytes:
        return bytes(self._port.read(count))

    def settle(self) -> None:
        self._port.flush()
        self._port.timeout = 2 * self._quiet
        while self._port.read(4096):
            pass
        self._port.timeout = 1.0
