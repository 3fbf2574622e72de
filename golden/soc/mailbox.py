"""The streams of any unit as registers: what a host needs to play jobs on a unit that has no memory behind it.

Words of 32 bits. A beat is the bits of ``tdata`` and then ``tlast``, where the stream has it, from the low ones up, in
as many words as it needs. Registers, by byte address::

    000 ID            SNBU
    004 CONFIGURATION CRC-32 of the unit's name and configuration
    008 STATUS        the unit's status bits, the first port's lowest
    00C CONTROL       1: reset the unit and all queues; reads as 0
    080 + 4 n LEVEL   of stream n: words that may be written, or that are there to be read
    100 + 4 n DATA    of stream n: the next word
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.axi import axi4_lite_slave
from golden.ports import AxiChannel, Beats, StreamPort
from golden.soc import registers
from golden.spec import SpecError, UnitSpec

IDENTIFIER = int.from_bytes(b"SNBU", "big")
ID, CONFIGURATION, STATUS, CONTROL, LEVEL, DATA = 0x000, 0x004, 0x008, 0x00C, 0x080, 0x100
STREAMS = (DATA - LEVEL) // 4
WORD_BITS = 32

SLACK = 2
"""Words of a queue that are never counted as room: those on their way out of it."""


@dataclass(frozen=True, kw_only=True)
class MailboxSpec:
    """A unit behind AXI4-Lite: a queue of ``depth`` words for each of its streams.

    Handshake   a read of DATA with nothing there and a write of DATA without room are answered with SLVERR and change
                nothing, and so is any access to what is no register; so nothing here ever waits for the unit.
    Latency     1 cycle from a request to its answer.
    Ranges      units with at most 32 streams of AXI4-Stream and 32 status bits. Strobes are ignored.
    """

    inner: UnitSpec
    depth: int = 512

    def __post_init__(self) -> None:
        if any(isinstance(port, AxiChannel) for port in self.inner.ports):
            raise SpecError(f"unit must have streams alone, not AXI4 as {self.inner.unit} has")
        if len(self.inner.ports) > STREAMS:
            raise SpecError(f"unit must have at most {STREAMS} streams, not {len(self.inner.ports)}")
        if self.depth < 2 * max(self.words(port) for port in self.inner.ports) + SLACK:
            raise SpecError(f"depth must be at least two beats of every stream, not {self.depth} words")

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        return axi4_lite_slave("s_axil", registers.ADDRESS_BITS)

    @staticmethod
    def words(port: StreamPort) -> int:
        """Of a beat."""
        return -(-(port.width + bool(port.last)) // WORD_BITS)

    def pack(self, port: StreamPort, beats: Beats) -> NDArray[np.uint32]:
        """The words of beats, one after the other."""
        bits = np.zeros((len(beats), self.words(port) * WORD_BITS), np.uint8)
        bits[:, : port.width] = np.unpackbits(beats.data, axis=1, bitorder="little")[:, : port.width]
        if port.last:
            bits[:, port.width] = beats.last
        return np.packbits(bits, axis=1, bitorder="little").view("<u4").ravel()

    def unpack(self, port: StreamPort, words: NDArray[np.uint32]) -> Beats:
        """Inverse of :meth:`pack`."""
        rows = words.astype("<u4").reshape(-1, self.words(port)).view(np.uint8)
        bits = np.unpackbits(rows, axis=1, bitorder="little")
        data = np.zeros((len(rows), 8 * port.bytes), np.uint8)
        data[:, : port.width] = bits[:, : port.width]
        last = bits[:, port.width].astype(np.bool_) if port.last else np.zeros(len(rows), np.bool_)
        return Beats(np.packbits(data, axis=1, bitorder="little"), last)
