"""A node: a unit or the accelerator behind a serial line, as it stands on an FPGA board or in a simulation of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from golden.ports import Field, StatusPort, StreamPort
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.bridge import BridgeSpec
from golden.soc.mailbox import MailboxSpec
from golden.soc.memory import MemorySpec
from golden.soc.uart import Line
from golden.spec import UnitSpec


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """``inner`` and what stands between it and the line.

    ::

        rx --> receiver --> queue --> uart_bridge --AXI4-Lite--> accelerator --AXI4--> memory
        tx <-- transmitter <------------' `------------------------AXI4-------------------'

        rx --> receiver --> queue --> uart_bridge --AXI4-Lite--> mailbox --> any other unit
        tx <-- transmitter <------------'

    ``memory`` in words of the accelerator's bus, ``depth`` of the mailbox's queues and ``queue``, the bytes that may
    come while the bridge is at work, in words of theirs.
    """

    inner: UnitSpec
    line: Line = field(default_factory=Line)
    frame: int = 128
    queue: int = 512
    depth: int = 512
    memory: int = 4096

    def __post_init__(self) -> None:
        _ = self.bridge, self.store, self.mailbox  # what they refuse is refused here

    @property
    def unit(self) -> str:
        return f"{self.inner.unit}_node"

    @property
    def accelerator(self) -> AcceleratorSpec | None:
        return self.inner if isinstance(self.inner, AcceleratorSpec) else None

    @cached_property
    def bridge(self) -> BridgeSpec:
        return BridgeSpec(bus=self.accelerator.bus if self.accelerator else 0, words=self.frame)

    @cached_property
    def store(self) -> MemorySpec | None:
        return MemorySpec(bus=self.accelerator.bus, words=self.memory) if self.accelerator else None

    @cached_property
    def mailbox(self) -> MailboxSpec | None:
        return None if self.accelerator else MailboxSpec(inner=self.inner, depth=self.depth)

    # what the players of benches ask of a specification: the line as streams

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        level = (Field("level", 1, "uint1"),)
        return (
            StreamPort("rx", "in", 1, level, "", "the line to the node, a beat per cycle; high where there is none"),
            StreamPort("tx", "out", 1, level, "", "the line from the node: a beat as it changes, to be taken at once"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return ()

    def values(self) -> dict[str, Any]:
        return {"unit": self.inner.unit, **self.inner.values()}

    def figures(self) -> Mapping[str, int | float]:
        return {}
