"""The whole accelerator: specification of the unit ``accelerator``."""

from functools import cached_property
from typing import Any, ClassVar

from golden.axi import axi4_lite_slave, axi4_master
from golden.ports import StatusPort, StreamPort
from golden.soc import registers
from golden.soc.copy import CopySpec
from golden.soc.descriptor import ADDRESS_BITS, COUNT_BITS
from golden.soc.kinds import KINDS, Engine, Kind
from golden.spec import SpecError, UnitSpec, param

OFF, ON = "off", "on"

ROWS = 16
"""Rows of a channel whose words are under way."""

PAGE = 4096
"""Bytes; no burst crosses a multiple of them."""


def _unit(of: str, host: str = "") -> Any:
    shared = f"{host}: that of its unit, shared; " if host else ""
    return param(OFF, f"{of}: off, on; {shared}or name=value of its parameters, comma between them")


class AcceleratorSpec(UnitSpec):
    """Units behind AXI4: a list of jobs in memory, registers to start it."""

    unit: ClassVar[str] = "accelerator"

    bus: int = param(128, "bits of a word of memory: 64, 128, 256", low=64, high=256)
    burst: int = param(
        16, "words of a burst at most, a power of two; bursts do not cross multiples of it", low=2, high=256
    )
    depth: int = param(64, "words of a channel's queue, a power of two", low=4, high=1024)
    outstanding: int = param(8, "bursts under way at most, each way", low=1, high=32)
    gemm: str = _unit("mixpe", "moe")
    linear: str = _unit("kmeans_linear")
    topk: str = _unit("orizuru", "linear")
    moe: str = _unit("moe_ffn")

    def _check(self) -> None:
        for name in ("bus", "burst", "depth"):
            if getattr(self, name).bit_count() != 1:
                raise SpecError(f"{name} must be a power of two, not {getattr(self, name)}")
        if self.burst * self.bus_bytes > PAGE:
            raise SpecError(
                f"burst must be at most {PAGE // self.bus_bytes} words of {self.bus} bits, not {self.burst}"
            )
        if self.depth < self.burst:
            raise SpecError(f"depth must be at least burst = {self.burst}, not {self.depth}")
        _ = self.engines

    # --- units ---

    @cached_property
    def engines(self) -> tuple[Engine, ...]:
        """Those that are there, in the order of their numbers."""
        copy = Engine(KINDS[0], CopySpec(width=self.bus))
        given = {kind.name: getattr(self, kind.name) for kind in KINDS[1:]}
        return (copy, *(self._engine(kind, given[kind.name]) for kind in KINDS[1:] if given[kind.name] != OFF))

    def _engine(self, kind: Kind, text: str) -> Engine:
        host = kind.host
        if host is None or text != host.kind:
            return Engine(kind, _configured(kind, text))
        (other,) = (k for k in KINDS if k.name == host.kind)
        given = getattr(self, host.kind)
        if given == OFF:
            raise SpecError(f"{kind.name} must not be {text} where {text} is off")
        return Engine(kind, host.inside(_configured(other, given)), host.kind)

    def engine(self, name: str) -> Engine:
        """The unit for that kind of jobs; :class:`~golden.spec.SpecError` where there is none."""
        for engine in self.engines:
            if engine.name == name:
                return engine
        there = ", ".join(engine.name for engine in self.engines)
        raise SpecError(f"kind must be one of {there}, not {name!r}")

    @property
    def channels_in(self) -> int:
        """Channels from memory, without that of the list."""
        return max(len(engine.inputs) for engine in self.engines)

    @property
    def channels_out(self) -> int:
        """Channels to memory."""
        return max(len(engine.outputs) for engine in self.engines)

    # --- memory ---

    @property
    def bus_bytes(self) -> int:
        return self.bus // 8

    @property
    def word_bits(self) -> int:
        """Two to this are the bytes of a word."""
        return self.bus_bytes.bit_length() - 1

    @property
    def words_width(self) -> int:
        """Of the number of words in a row."""
        slot = max(lane.slot for engine in self.engines for lane in (*engine.inputs, *engine.outputs))
        return COUNT_BITS + max(slot - self.word_bits, 0) + 1

    @property
    def word_width(self) -> int:
        """Of a word's address."""
        return ADDRESS_BITS - self.word_bits

    # --- ports ---

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        memory = axi4_master("m_axi", self.bus, 1, ADDRESS_BITS)
        return (*axi4_lite_slave("s_axil", registers.ADDRESS_BITS), *memory)

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("irq", ("an event of IRQ_STATUS that IRQ_ENABLE has",), plain=True),)

    @property
    def latency(self) -> int:
        """From the write of START to the first address of a read."""
        return 5

    def figures(self) -> dict[str, int | float]:
        return {
            "latency": self.latency,
            "bytes_per_cycle": self.bus_bytes,
            "channels_from_memory": self.channels_in,
            "channels_to_memory": self.channels_out,
        }

    @property
    def constants(self) -> dict[str, int]:
        """The registers that say what was built."""
        bus, outstanding = self.word_bits, self.outstanding
        return {
            "ID": registers.IDENTIFIER,
            "VERSION": registers.VERSION,
            "UNITS": sum(1 << engine.kind.number for engine in self.engines),
            "CONFIGURATION": self.fingerprint,
            "BUILD": bus | self.channels_in << 8 | self.channels_out << 16 | outstanding << 24,
        }


def _configured(kind: Kind, text: str) -> UnitSpec:
    """A unit's specification from ``name=value,...``; what it refuses names the kind."""
    values = {}
    for part in text.split(",") if text != ON else ():
        name, equals, value = part.partition("=")
        if not (name and equals):
            words = "off, on, or" if kind.host is None else f"off, on, {kind.host.kind}, or"
            raise SpecError(f"{kind.name} must be {words} name=value with commas between them, not {text!r}")
        values[name.strip()] = value.strip()
    try:
        return kind.spec.from_values(values)
    except SpecError as e:
        raise SpecError(f"{kind.name}: {e}") from None
