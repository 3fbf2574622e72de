"""What travels inside the accelerator."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from golden.ports import StreamPort
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ADDRESS_BITS, COUNT_BITS, ENTRY, HEADER
from hdl.stream.signature import lane_shape


def record(port: StreamPort) -> data.StructLayout:
    """The fields of a record."""
    layout = lane_shape(port)
    assert isinstance(layout, data.StructLayout)
    return layout


HEADER_LAYOUT, ENTRY_LAYOUT = record(HEADER), record(ENTRY)

ROW = data.StructLayout({"address": ADDRESS_BITS, "beats": COUNT_BITS})
"""Beats one after the other, from a byte address on."""


def extent(spec: AcceleratorSpec) -> data.StructLayout:
    """A row as words of memory: the first one, how many, and the row's first and last byte in the first and last."""
    edge = unsigned(spec.word_bits)
    return data.StructLayout({"word": spec.word_width, "words": spec.words_width, "first": edge, "end": edge})


def burst(spec: AcceleratorSpec) -> data.StructLayout:
    """Words of one transaction."""
    return data.StructLayout({"word": spec.word_width, "length": spec.burst.bit_length()})


def bounds(spec: AcceleratorSpec) -> data.StructLayout:
    """Which bytes of a word are a row's, and whether the word is its last."""
    return data.StructLayout({"first": spec.word_bits, "end": spec.word_bits, "last": 1})


def bounded(spec: AcceleratorSpec) -> data.StructLayout:
    """A word and its bounds."""
    return data.StructLayout({"data": spec.bus, "bounds": bounds(spec)})


def stored(spec: AcceleratorSpec) -> data.StructLayout:
    """A word to be written, and which bytes of it."""
    return data.StructLayout({"data": spec.bus, "strobe": spec.bus_bytes})


def grant(spec: AcceleratorSpec, channels: int) -> data.StructLayout:
    """A burst and its channel."""
    return data.StructLayout({"channel": range(max(channels, 2)), "burst": burst(spec)})
