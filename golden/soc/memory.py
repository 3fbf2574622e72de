"""Memory on chip behind AXI4: specification of the unit ``axi_memory``."""

from typing import ClassVar

from golden.axi import DECERR, INCR, OKAY, PAGE, SLVERR, axi4_master, opposite
from golden.ports import StreamPort
from golden.soc.descriptor import ADDRESS_BITS
from golden.spec import SpecError, UnitSpec, param


class MemorySpec(UnitSpec):
    """Block RAM of one port that serves bursts of one or several masters, one burst at a time.

    Handshake   AXI4, ``s_axi`` of one master, ``s_axi0``, ``s_axi1``, ... of more. Whoever waits, be it with a read or
                a write, is passed over by each other one once at most. Answers of a master come in the order in which
                its bursts were taken.
    Latency     2 cycles from an address read to the first word; 1 from the last word written to the answer.
    Throughput  a word per cycle, from burst to burst too.
    Ranges      bursts with addresses that count up, of whole words; single transfers may be narrower. Words keep what
                they hold in a reset, and hold 0 when the device is configured.
    Errors      DECERR where the address is beyond the memory; SLVERR for bursts that wrap, stand still or are narrower.
                Nothing is written then.
    Not done    no exclusive access; ``cache`` and ``prot`` are ignored.
    """

    unit: ClassVar[str] = "axi_memory"

    bus: int = param(128, "bits of a word, a power of two", low=32, high=256)
    words: int = param(4096, "words, a power of two", low=16, high=1 << 20)
    masters: int = param(2, "masters", low=1, high=4)

    def _check(self) -> None:
        for name in ("bus", "words"):
            if getattr(self, name).bit_count() != 1:
                raise SpecError(f"{name} must be a power of two, not {getattr(self, name)}")
        if self.words * self.bus_bytes < PAGE:
            raise SpecError(f"words must be at least {PAGE // self.bus_bytes} of {self.bus} bits, not {self.words}")

    @property
    def bus_bytes(self) -> int:
        return self.bus // 8

    @property
    def bytes(self) -> int:
        return self.words * self.bus_bytes

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Of the masters' interfaces."""
        return ("s_axi",) if self.masters == 1 else tuple(f"s_axi{n}" for n in range(self.masters))

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        return tuple(p for of in self.prefixes for p in opposite(axi4_master(of, self.bus, 1, ADDRESS_BITS)))

    @property
    def latency(self) -> int:
        """From an address read to the first word."""
        return 2

    def response(self, addr: int, len: int, size: int, burst: int) -> int:
        """The answer to a burst."""
        if addr >= self.bytes:
            return DECERR
        narrow = len and 1 << size != self.bus_bytes
        return SLVERR if burst != INCR or narrow else OKAY
