"""Stream ports as data: the one description from which packing, RTL signatures and manifests are made.

A stream carries beats of ``lanes`` equal lanes; a lane is one or more fields side by side, the first in the low bits.
Lane 0 sits in the low bits of the beat, lanes are packed without gaps, and the beat is padded with zeros at the top to
whole bytes::

    tdata  | 0 pad | lane n-1 | ... | lane 1 | lane 0 |        lane  | field k | ... | field 0 |
             MSB                                 LSB                                  LSB
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Field:
    """One field of a lane.

    ``format`` names the encoding: ``int<w>`` and ``uint<w>`` (two's complement and unsigned), ``fp16``, ``fp32``. Only
    ``int<w>`` is signed in hardware; float formats travel as bit patterns.
    """

    name: str
    width: int
    format: str

    @property
    def signed(self) -> bool:
        return self.format.startswith("int")

    @property
    def dtype(self) -> np.dtype[Any]:
        """What holds its values in NumPy: ``int64``, or Python's integers where that is too small."""
        return np.dtype(np.int64 if self.width + (not self.signed) <= 64 else object)

    def bits(self, values: ArrayLike) -> NDArray[np.uint8]:
        """``[..., width]``, the least significant one first."""
        a = np.asarray(values, dtype=self.dtype)
        if a.dtype == object:
            return ((a[..., None] >> np.arange(self.width, dtype=object)) & 1).astype(np.uint8)
        octets = np.ascontiguousarray(a, dtype="<i8")[..., None].view(np.uint8)
        return np.unpackbits(octets, axis=-1, count=self.width, bitorder="little")


@dataclass(frozen=True)
class Beats:
    """Beats of one stream: ``data`` is ``uint8[n, bytes]``, little-endian; ``last`` is ``bool[n]`` (tlast), all
    ``False`` on a stream that carries none."""

    data: NDArray[np.uint8]
    last: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, some: slice) -> "Beats":
        return Beats(self.data[some], self.last[some])

    @staticmethod
    def concatenate(parts: Sequence["Beats"]) -> "Beats":
        return Beats(np.concatenate([p.data for p in parts]), np.concatenate([p.last for p in parts]))


@dataclass(frozen=True)
class Pin:
    """One exported signal that carries part of a beat: bits ``lsb +: width`` of the packed beat."""

    name: str
    lsb: int
    width: int


@dataclass(frozen=True)
class StreamPort:
    """One ready/valid stream of a unit: ``s_axis_<name>`` (``direction="in"``) or ``m_axis_<name>`` (``"out"``).

    The input ``i`` and the output ``o`` are the only stream of their direction: ``s_axis`` and ``m_axis`` alone.
    ``last`` says what ``tlast`` ends ("tile", "vector"); empty where the stream carries no ``tlast``. ``timed`` names
    the fields whose value depends on when beats move, not on the beats alone; with ``ordered`` false the order of the
    beats does, too.
    """

    name: str
    direction: str
    lanes: int
    fields: tuple[Field, ...]
    last: str
    doc: str
    timed: tuple[str, ...] = ()
    ordered: bool = True

    @property
    def prefix(self) -> str:
        """What the names of the exported signals begin with."""
        side = "s_axis" if self.direction == "in" else "m_axis"
        return side if self.name == ("i" if self.direction == "in" else "o") else f"{side}_{self.name}"

    def signal(self, name: str) -> str:
        """The exported signal ``data``, ``valid``, ``ready`` or ``last``."""
        return f"{self.prefix}_t{name}"

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The exported signals that carry a beat, but for ``last``."""
        return (Pin(self.signal("data"), 0, 8 * self.bytes),)

    @property
    def lane_width(self) -> int:
        return sum(f.width for f in self.fields)

    @property
    def width(self) -> int:
        """Bits of a beat that carry data."""
        return self.lanes * self.lane_width

    @property
    def bytes(self) -> int:
        """Bytes of a packed beat: those of ``tdata``."""
        return (self.width + 7) // 8

    def lsb(self, name: str) -> int:
        """Position of a field inside its lane."""
        at = 0
        for f in self.fields:
            if f.name == name:
                return at
            at += f.width
        raise KeyError(name)

    @property
    def nothing(self) -> Beats:
        """No beats."""
        return Beats(np.zeros((0, self.bytes), np.uint8), np.zeros(0, np.bool_))

    def pack(self, last: ArrayLike | None = None, **fields: ArrayLike) -> Beats:
        """Beats from one integer array ``[n, lanes]`` per field (bit patterns; signed values in two's complement)."""
        return self._packed(fields, last)

    def _packed(self, fields: Mapping[str, ArrayLike], last: ArrayLike | None) -> Beats:
        arrays = [(f.bits(fields[f.name]), f.width) for f in self.fields]
        n = len(arrays[0][0])
        bits = np.zeros((n, self.bytes * 8), dtype=np.uint8)
        lanes = bits[:, : self.width].reshape(n, self.lanes, self.lane_width)
        at = 0
        for a, w in arrays:
            lanes[:, :, at : at + w] = a.reshape(n, self.lanes, w)
            at += w
        flags = np.zeros(n, dtype=np.bool_) if last is None else np.asarray(last, dtype=np.bool_)
        return Beats(np.packbits(bits, axis=1, bitorder="little"), flags)

    def untimed(self, beats: Beats) -> Beats:
        """The beats as far as they do not depend on time: ``timed`` fields 0, in one order if they have none."""
        fields = self.unpack(beats)
        for name in self.timed:
            fields[name][:] = 0
        made = self._packed(fields, beats.last)
        if self.ordered:
            return made
        order = np.lexsort(np.column_stack((made.last, made.data)).T)
        return Beats(made.data[order], made.last[order])

    def unpack(self, beats: Beats) -> dict[str, NDArray[Any]]:
        """Inverse of :meth:`pack`: one array ``[n, lanes]`` of the field's ``dtype`` per field, sign-extended where the
        format is signed."""
        n = len(beats)
        bits = np.unpackbits(beats.data, axis=1, bitorder="little")[:, : self.width]
        lanes = bits.reshape(n, self.lanes, self.lane_width)
        out, at = {}, 0
        for f in self.fields:
            top = (-1 if f.signed else 1) << (f.width - 1)
            weights: NDArray[Any] = np.array([*(1 << i for i in range(f.width - 1)), top], dtype=f.dtype)
            out[f.name] = lanes[:, :, at : at + f.width].astype(f.dtype) @ weights
            at += f.width
        return out


@dataclass(frozen=True)
class AxiChannel(StreamPort):
    """One channel of an AXI4 or AXI4-Lite interface, a stream of one lane (see :mod:`golden.axi`).

    ``name`` is the interface with the channel (``m_axi_ar``); a field is a signal of its own (``m_axi_araddr``), and so
    is AXI's ``last``, which is an ordinary field here. Direction ``out``: the unit drives ``valid``.
    """

    @property
    def prefix(self) -> str:
        return self.name

    def signal(self, name: str) -> str:
        return f"{self.name}{name}"

    @property
    def pins(self) -> tuple[Pin, ...]:
        return tuple(Pin(self.signal(f.name), self.lsb(f.name), f.width) for f in self.fields)

    def pack(self, last: ArrayLike | None = None, **fields: ArrayLike) -> Beats:
        """As of any stream, but that ``last`` is a field."""
        return self._packed(fields if last is None else fields | {"last": last}, None)


@dataclass(frozen=True)
class StatusPort:
    """A status output ``sts_<name>``, or ``<name>`` where ``plain``; ``causes[i]`` says what sets bit ``i``."""

    name: str
    causes: tuple[str, ...]
    plain: bool = False

    @property
    def signal(self) -> str:
        """The exported signal."""
        return self.name if self.plain else f"sts_{self.name}"

    @property
    def width(self) -> int:
        return len(self.causes)
