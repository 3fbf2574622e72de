"""The registers of the accelerator as data: the one source of hardware, driver, C header, tables and SystemRDL."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag

ADDRESS_BITS = 12
"""Of the register port."""

IDENTIFIER = int.from_bytes(b"SNBZ", "big")
VERSION = 1 << 16 | 1
"""Of this interface: major number above 16 bits of minor number."""

ACCESS = ("ro", "rw", "wo", "w1c")
"""Read only; kept as written; a pulse, read as 0; set by hardware, cleared where a 1 is written."""


@dataclass(frozen=True)
class Bits:
    """A field of a register."""

    name: str
    width: int
    doc: str
    lsb: int = 0


WHOLE = "value"
"""The name of a field that is all there is."""


def _whole(width: int) -> Bits:
    return Bits(WHOLE, width, "")


@dataclass(frozen=True)
class Register:
    """32 bits at a byte address; bits without a field are 0 and ignored."""

    name: str
    address: int
    access: str
    doc: str
    fields: tuple[Bits, ...] = ()
    reset: int = 0

    @property
    def bits(self) -> tuple[Bits, ...]:
        """Its fields; a register without has one of 32 bits."""
        return self.fields or (_whole(32),)

    @property
    def mask(self) -> int:
        """The bits that there are."""
        return sum(((1 << f.width) - 1) << f.lsb for f in self.bits)


COUNTERS = {
    "CYCLES": "cycles from the start to the end, or to the error",
    "READ_BEATS": "words that came from memory",
    "WRITE_BEATS": "words that went to memory",
    "READ_STALL": "cycles in which words were awaited and none came",
    "WRITE_STALL": "cycles in which an address or a word to be written was not taken",
    "MOVED": "cycles in which a stream of the job's unit moved",
}
"""64 bits each, two registers, the lower half first. 0 from a start on; they stand still while nothing runs."""

_COUNTERS_AT = 0x080


class Control(IntFlag):
    """Commands: bits of CONTROL."""

    START = 1
    CLEAR = 2
    RESET = 4


class State(IntFlag):
    """Bits of STATUS."""

    BUSY = 1
    DONE = 2
    ERROR = 4
    QUIET = 8


class Event(IntFlag):
    """Bits of IRQ_ENABLE and IRQ_STATUS."""

    DONE = 1
    ERROR = 2


class Error(IntEnum):
    """Why a job was stopped: the code in ERROR."""

    NONE = 0
    DESCRIPTOR = 1
    READ_SLVERR = 2
    READ_DECERR = 3
    WRITE_SLVERR = 4
    WRITE_DECERR = 5
    TIMEOUT = 6
    UNIT = 7
    SURPLUS = 8


CAUSES = {
    Error.NONE: "it was not",
    Error.DESCRIPTOR: "unknown kind or stream, a stream twice, an output without an entry, an address that is no "
    "multiple of the slot, a length of 0, a list that ends too early, a bit set that has no name",
    Error.READ_SLVERR: "memory answered a read with SLVERR",
    Error.READ_DECERR: "memory answered a read with DECERR",
    Error.WRITE_SLVERR: "memory answered a write with SLVERR",
    Error.WRITE_DECERR: "memory answered a write with DECERR",
    Error.TIMEOUT: "TIMEOUT cycles without a beat: memory does not answer, or entries that are too short or too long",
    Error.UNIT: "the unit set a status bit, and the job has the flag STOP",
    Error.SURPLUS: "the unit gave more beats than the job has places for",
}


def _flags(docs: Mapping[IntFlag, str]) -> tuple[Bits, ...]:
    return tuple(Bits(str(flag.name).lower(), 1, doc, flag.bit_length() - 1) for flag, doc in docs.items())


_EVENTS = _flags({Event.DONE: "a list of jobs is through", Event.ERROR: "a job was stopped"})

REGISTERS = (
    Register("ID", 0x000, "ro", "what this is: SNBZ"),
    Register("VERSION", 0x004, "ro", "version of these registers", (Bits("minor", 16, ""), Bits("major", 16, "", 16))),
    Register("UNITS", 0x008, "ro", "a bit for each kind of job that there is a unit for"),
    Register(
        "BUILD",
        0x00C,
        "ro",
        "how it was built",
        (
            Bits("bus", 8, "bytes of a word of memory: two to this"),
            Bits("inputs", 8, "channels from memory", 8),
            Bits("outputs", 8, "channels to memory", 16),
            Bits("outstanding", 8, "bursts under way, at most, each way", 24),
        ),
    ),
    Register(
        "CONTROL",
        0x010,
        "wo",
        "commands",
        _flags(
            {
                Control.START: "begin the list; without effect while busy and after an error",
                Control.CLEAR: "forget the last list and its error, reset the units; without effect while busy",
                Control.RESET: "the same at any time: what runs is stopped",
            }
        ),
    ),
    Register(
        "STATUS",
        0x014,
        "ro",
        "what it does",
        _flags(
            {
                State.BUSY: "a list runs, or is being stopped",
                State.DONE: "the last list is through",
                State.ERROR: "a job was stopped: see ERROR; CLEAR before the next start",
                State.QUIET: "nothing is under way on the bus",
            }
        ),
        reset=State.QUIET,
    ),
    Register("ERROR", 0x018, "ro", "why a job was stopped", (Bits("code", 4, "number of the cause"),)),
    Register("ERROR_JOB", 0x01C, "ro", "which one of its list"),
    Register("ERROR_ADDRESS", 0x020, "ro", "of the burst, else of the record: lower half"),
    Register("ERROR_ADDRESS_HIGH", 0x024, "ro", "upper half", (_whole(8),)),
    Register("LIST", 0x028, "rw", "address of the list of jobs, a multiple of 32: lower half"),
    Register("LIST_HIGH", 0x02C, "rw", "upper half", (_whole(8),)),
    Register("LIST_RECORDS", 0x030, "rw", "length of the list, in records of 32 bytes", (_whole(24),)),
    Register("JOBS_DONE", 0x034, "ro", "jobs of the list that are through"),
    Register("TIMEOUT", 0x038, "rw", "cycles without a beat after which a job is stopped; 0: never"),
    Register("IRQ_ENABLE", 0x03C, "rw", "which bits of IRQ_STATUS raise irq", _EVENTS),
    Register("IRQ_STATUS", 0x040, "w1c", "what has happened", _EVENTS),
    Register("UNIT_STATUS", 0x044, "ro", "sts_error of the units that had jobs, until CLEAR"),
    Register("CONFIGURATION", 0x048, "ro", "CRC-32 of the configuration: tells bitstreams apart"),
    *(
        Register(f"{name}{half}", _COUNTERS_AT + 8 * n + 4 * upper, "ro", f"{doc}: {('lower', 'upper')[upper]} half")
        for n, (name, doc) in enumerate(COUNTERS.items())
        for upper, half in enumerate(("", "_HIGH"))
    ),
)

ADDRESS = {register.name: register.address for register in REGISTERS}
