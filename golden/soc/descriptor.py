"""Jobs as they stand in memory: records of 32 bytes, a header and one entry per stream, as data.

A list of jobs is records one after the other: header, entries, header, entries, ... Eight little-endian words each::

           header                   entry
    word 0 kind, entries, flags     stream
         1 -                        address, lower half
         2 -                        address, upper half (8 bits)
         3 -                        beats of a row
         4 -                        rows
         5 -                        bytes from row to row
         6 -                        how often these rows
         7 -                        bytes from the first of them to that of the next time

All bits that have no name are 0. An entry says where the beats of a stream are: for each ``j < repeats``, for each
``i < rows``, a row of ``beats`` beats from ``address + j * repeat_stride + i * stride`` on. The last beat of a row
carries tlast, where the stream has it. A beat has a slot of its own: its bytes, little-endian, rounded up to a power of
two. Addresses and strides are multiples of the stream's slot.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.ports import Field, StreamPort

RECORD = 32
"""Bytes of a record."""

RECORD_SLOT = RECORD.bit_length() - 1

ADDRESS_BITS = 40
COUNT_BITS = 24
STRIDE_BITS = 32

OUTPUT = 0x80
"""Added to the numbers of output streams."""

STOP = 1
"""Flag: a status bit of the unit stops the job."""

UNNAMED = "zero"
"""What the names of fields begin with that must be 0."""


def _record(name: str, doc: str, *fields: tuple[str, int, int]) -> StreamPort:
    """Fields by name, first bit and width; between them there are some that must be 0."""
    made: list[Field] = []
    at = 0
    for field, lsb, width in (*fields, ("", 8 * RECORD, 0)):
        gaps = range(at, lsb, 32)  # no field of a beat is wider than 63 bits
        made += [Field(f"{UNNAMED}_{gap}", n, f"uint{n}") for gap in gaps if (n := min(32, lsb - gap))]
        if field:
            made.append(Field(field, width, f"uint{width}"))
        at = lsb + width
    return StreamPort(name, "in", 1, tuple(made), "", doc)


HEADER = _record(
    "header", "a job: its kind, how many entries follow", ("kind", 0, 8), ("entries", 8, 8), ("flags", 16, 16)
)

ENTRY = _record(
    "entry",
    "where the beats of a stream are",
    ("stream", 0, 8),
    ("address", 32, ADDRESS_BITS),
    ("beats", 96, COUNT_BITS),
    ("rows", 128, COUNT_BITS),
    ("stride", 160, STRIDE_BITS),
    ("repeats", 192, COUNT_BITS),
    ("repeat_stride", 224, STRIDE_BITS),
)


class Entry(NamedTuple):
    """Where the beats of a stream are; the fields are those of :data:`ENTRY`."""

    stream: int
    address: int
    beats: int
    rows: int = 1
    stride: int = 0
    repeats: int = 1
    repeat_stride: int = 0

    def starts(self) -> NDArray[np.int64]:
        """Addresses of its rows, in order."""
        inner = np.arange(self.rows, dtype=np.int64) * self.stride
        outer = np.arange(self.repeats, dtype=np.int64) * self.repeat_stride
        return (self.address + outer[:, None] + inner).ravel()


def header(kind: int, entries: int, flags: int = 0) -> NDArray[np.uint8]:
    """A header's 32 bytes."""
    return _bytes(HEADER, {"kind": kind, "entries": entries, "flags": flags})


def entry(what: Entry) -> NDArray[np.uint8]:
    """An entry's 32 bytes."""
    return _bytes(ENTRY, what._asdict())


def _bytes(port: StreamPort, values: dict[str, int]) -> NDArray[np.uint8]:
    fields = {f.name: np.array([[values.get(f.name, 0)]]) for f in port.fields}
    return port.pack(**fields).data[0]
