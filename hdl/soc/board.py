"""A node: a unit or the accelerator behind a serial line."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from golden.soc.board import NodeSpec
from hdl.shared import Shared
from hdl.soc.bridge import Bridge
from hdl.soc.mailbox import Mailbox
from hdl.soc.memory import AxiMemory
from hdl.soc.uart import SYMBOL, Receiver, Transmitter
from hdl.stream.fifo import BlockFIFO
from hdl.stream.signature import stream_members


class Node(wiring.Component):
    """Datasheet: :class:`golden.soc.board.NodeSpec`. ``unit`` is the component of ``spec.inner``.

    Members
    -------
    rx : In(1); tx : Out(1).
    """

    kind = "node"

    def __init__(self, spec: NodeSpec, unit: Any):
        self.spec = spec
        self.unit = unit
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.receiver = receiver = Shared(Receiver, spec.line)
        m.submodules.queue = queue = Shared(BlockFIFO, SYMBOL, spec.queue)
        m.submodules.bridge = bridge = Shared(Bridge, spec.bridge)
        m.submodules.transmitter = transmitter = Shared(Transmitter, spec.line)
        connect(m, receiver.o, queue.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            bridge.i.payload.eq(queue.o.payload),
            bridge.i.valid.eq(queue.o.valid),
            queue.o.ready.eq(bridge.i.ready),
            transmitter.i.payload.eq(bridge.o.payload),
            transmitter.i.valid.eq(bridge.o.valid),
            bridge.o.ready.eq(transmitter.i.ready),
        ]
        if spec.mailbox:
            m.submodules.mailbox = inner = Shared(Mailbox, spec.mailbox, self.unit)
        else:
            m.submodules.accelerator = inner = Shared(self.unit, spec.inner)
            m.submodules.memory = memory = Shared(AxiMemory, spec.store)
            _join(m, bridge, "m_axi", memory, "s_axi0")
            _join(m, inner, "m_axi", memory, "s_axi1")
        _join(m, bridge, "m_axil", inner, "s_axil")
        return m


def _join(m: Module, master: Any, its: str, slave: Any, at: str) -> None:
    for name in ("aw", "w", "ar", "b", "r"):
        connect(m, getattr(master, f"{its}_{name}"), getattr(slave, f"{at}_{name}"))


class LineShell(wiring.Component):
    """The node with its line as streams, for the players of benches: a level per cycle in, changes out."""

    kind = "line_shell"

    def __init__(self, spec: NodeSpec, unit: Any):
        self.spec = spec
        self.unit = unit
        super().__init__(stream_members(spec.ports))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.node = node = Shared(Node, self.spec, self.unit)
        before = Signal(init=1)
        m.d.sync += before.eq(node.tx)
        m.d.comb += [
            self.rx.ready.eq(1),
            node.rx.eq(self.rx.payload.data[0] | ~self.rx.valid),
            self.tx.valid.eq(node.tx ^ before),
            self.tx.payload.data[0].eq(node.tx),
        ]
        return m
