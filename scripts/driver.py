"""The driver of the accelerator: lists of jobs from Python, by any way to its registers and memory.

::

    Driver --BackEnd--> tb.cosim.Session    its RTL in Verilator
                        scripts.uart.Host   a board, or a simulated one, over its serial line
                        MemoryMapped        /dev/mem, or a file like it
"""

import mmap
import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.image import Bytes, Image, Job, lay_out
from golden.soc.registers import ADDRESS, ADDRESS_BITS, CAUSES, COUNTERS, IDENTIFIER, Control, Error, State
from golden.spec import SpecError

PATIENCE, SIMULATED = 60.0, 3600.0
"""Seconds that a list may take on a board, in a simulation."""

WORD = 4
"""Bytes."""


class BackEnd(Protocol):
    """A way to an accelerator's registers and to its memory; addresses are those that the accelerator sees, multiples
    of 4, and so are lengths."""

    @property
    def room(self) -> range:
        """Of memory; it begins at a multiple of 32."""
        ...

    def read(self, address: int) -> int:
        """A register."""
        ...

    def write(self, address: int, value: int) -> None:
        """A register."""
        ...

    def fetch(self, address: int, count: int) -> bytes:
        """Bytes of memory."""
        ...

    def store(self, address: int, data: bytes) -> None:
        """Bytes to memory."""
        ...

    def rest(self) -> None:
        """Let some time pass before the next look at a register."""
        ...


class Stopped(RuntimeError):
    """A job was stopped. Nothing runs until :meth:`Driver.clear`, which the next start does by itself."""

    def __init__(self, code: Error, job: int, address: int):
        super().__init__(f"job {job} was stopped at {address:#x}: {CAUSES[code]}")
        self.code, self.job, self.address = code, job, address


class Stuck(RuntimeError):
    """The accelerator does not come to an end."""


class Driver:
    """The accelerator ``spec`` behind a back end. What runs there is stopped.

    :class:`~golden.spec.SpecError` if there is none, or another one. ``patience`` in seconds: so long a list may take,
    then it is :class:`Stuck`.
    """

    def __init__(self, spec: AcceleratorSpec, end: BackEnd, patience: float = PATIENCE):
        self.spec = spec
        self._end = end
        self._patience = patience
        found = {name: self._read(name) for name in spec.constants}
        different = [f"{name} {value:#x}" for name, value in found.items() if value != spec.constants[name]]
        if different:
            raise SpecError(
                f"the board must have the accelerator in this configuration ({IDENTIFIER:#x}, "
                f"{spec.fingerprint:#x}), not {', '.join(different)}"
            )
        if self.state & State.BUSY:
            self.reset()

    @property
    def state(self) -> State:
        return State(self._read("STATUS"))

    def run(self, jobs: Sequence[Job], timeout: int = 0) -> list[Any]:
        """The jobs' results, as the units have left them in memory.

        :class:`Stopped`, :class:`Stuck`; :class:`~golden.spec.SpecError` for jobs that cannot be laid out, and without
        room. ``timeout`` in clock cycles, of hardware (0: none).
        """
        image = lay_out(self.spec, jobs, self._end.room.start)
        memory = self.execute(image, timeout)
        return [self.spec.engine(job.kind).spec.result(job.job, image.outputs(n, memory)) for n, job in enumerate(jobs)]

    def execute(self, image: Image, timeout: int = 0) -> Bytes:
        """Memory behind a list, as it is from ``image.base`` on."""
        self.place(image)
        self.start(image, timeout)
        self.wait()
        return np.frombuffer(self._end.fetch(image.base, len(image.before)), np.uint8)

    def place(self, image: Image) -> None:
        """List and streams into memory."""
        room, needed = self._end.room, range(image.base, image.base + len(image.before))
        if needed.start < room.start or needed.stop > room.stop:
            raise SpecError(
                f"a list must fit into {len(room)} bytes of memory from {room.start:#x} on, not {len(needed)} from "
                f"{needed.start:#x}"
            )
        self._end.store(image.base, image.before.tobytes())

    def start(self, image: Image, timeout: int = 0) -> None:
        """Begin a list that is in memory; tables that units have stay, unless the last list was stopped."""
        if self.state & State.ERROR:
            self.clear()
        for name, value in (image.settings | {"TIMEOUT": timeout, "CONTROL": Control.START}).items():
            self._write(name, value)

    def wait(self) -> None:
        """To the end of the list."""
        if self._settled() & State.ERROR:
            address = self._read("ERROR_ADDRESS") | self._read("ERROR_ADDRESS_HIGH") << 32
            raise Stopped(Error(self._read("ERROR")), self._read("ERROR_JOB"), address)

    def clear(self) -> None:
        """Forget the last list and its error; units are reset, tables that they had are gone."""
        self._write("CONTROL", Control.CLEAR)
        self._settled()

    def reset(self) -> None:
        """The same, and whatever runs is stopped."""
        self._write("CONTROL", Control.RESET)
        self._settled()

    def counters(self) -> dict[str, int]:
        """Of the last list: :data:`golden.soc.registers.COUNTERS`."""
        return {name: self._read(name) | self._read(f"{name}_HIGH") << 32 for name in COUNTERS}

    def _settled(self) -> State:
        """The first state that is not busy."""
        end = time.monotonic() + self._patience
        while True:
            self._end.rest()
            state = self.state
            if not state & State.BUSY:
                return state
            if time.monotonic() > end:
                raise Stuck(f"the accelerator must come to an end within {self._patience:g} s, not be {state.name}")

    def _read(self, name: str) -> int:
        return self._end.read(ADDRESS[name])

    def _write(self, name: str, value: int) -> None:
        self._end.write(ADDRESS[name], value)


class MemoryMapped:
    """Registers and memory as ranges of a file of physical addresses: ``/dev/mem``, or one like it.

    ``registers``: where ID is; ``room``: the memory, which the accelerator sees at the same addresses. Both begin at
    multiples of a page, and are accessed by little-endian words of 32 bits. :class:`~golden.spec.SpecError` for what
    cannot be mapped.
    """

    PAUSE = 0.001
    """Seconds."""

    def __init__(self, path: str, registers: int, room: range):
        self.room = room
        try:
            file = os.open(path, os.O_RDWR | os.O_SYNC)
            try:
                self._registers = _mapped(file, range(registers, registers + (1 << ADDRESS_BITS)))
                self._memory = _mapped(file, room)
            finally:
                os.close(file)
        except (OSError, ValueError, OverflowError) as e:
            where = f"registers at {registers:#x} and memory at {room.start:#x} to {room.stop:#x}"
            raise SpecError(f"path must be a file with {where} that can be mapped, not {path!r}: {e}") from None

    def read(self, address: int) -> int:
        return int(self._registers[address // WORD])

    def write(self, address: int, value: int) -> None:
        self._registers[address // WORD] = value

    def fetch(self, address: int, count: int) -> bytes:
        at = (address - self.room.start) // WORD
        return self._memory[at : at + count // WORD].tobytes()

    def store(self, address: int, data: bytes) -> None:
        at = (address - self.room.start) // WORD
        self._memory[at : at + len(data) // WORD] = np.frombuffer(data, "<u4")

    def rest(self) -> None:
        time.sleep(self.PAUSE)


def _mapped(file: int, span: range) -> NDArray[np.uint32]:
    return np.frombuffer(mmap.mmap(file, len(span), offset=span.start), "<u4")
