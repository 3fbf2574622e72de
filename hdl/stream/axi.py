"""AXI on the outside: the flat ports of an exported module around streams with structured payloads."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.ports import StatusPort, StreamPort
from hdl.stream.signature import stream_members


class AxiShell(wiring.Component):
    """``inner`` with ports of AXI4-Stream, AXI4 and AXI4-Lite: wires only, no latency.

    ``inner`` has one stream per port, under the port's name and with its :func:`hdl.stream.signature.stream_signature`,
    and an output per status port, under the name of its signal. It becomes the submodule ``core``.

    Members
    -------
    For each port in order ``<prefix>_tdata`` (whole bytes: the lanes in the low bits, the rest 0 on outputs and ignored
    on inputs), ``<prefix>_tvalid``, ``<prefix>_tready`` and, where the port has one, ``<prefix>_tlast``; for a channel
    of AXI4 or AXI4-Lite ``<prefix><field>`` of each field, ``<prefix>valid``, ``<prefix>ready``. Then the status ports.
    """

    def __init__(self, inner: wiring.Component, ports: Sequence[StreamPort], status: Sequence[StatusPort] = ()):
        self._inner = inner
        self._ports = tuple(ports)
        self._status = tuple(status)
        members: dict[str, Any] = {}
        for port in ports:
            forward, back = (In, Out) if port.direction == "in" else (Out, In)
            members |= {pin.name: forward(pin.width) for pin in port.pins}
            members[port.signal("valid")] = forward(1)
            members[port.signal("ready")] = back(1)
            if port.last:
                members[port.signal("last")] = forward(1)
        members |= {s.signal: Out(s.width) for s in status}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self._inner
        self._check(core)
        for port in self._ports:
            inside = getattr(core, port.name)
            data = Value.cast(inside.payload.data)
            pairs = [(getattr(self, p.name), data[p.lsb : p.lsb + p.width]) for p in port.pins]
            pairs.append((getattr(self, port.signal("valid")), inside.valid))
            if port.last:
                pairs.append((getattr(self, port.signal("last")), inside.payload.last))
            ready = getattr(self, port.signal("ready"))
            if port.direction == "in":
                m.d.comb += [signal.eq(outside[: len(signal)]) for outside, signal in pairs]
                m.d.comb += ready.eq(inside.ready)
            else:
                m.d.comb += [outside.eq(signal) for outside, signal in pairs]
                m.d.comb += inside.ready.eq(ready)
        for s in self._status:
            m.d.comb += getattr(self, s.signal).eq(getattr(core, s.signal))
        return m

    def _check(self, core: wiring.Component) -> None:
        """The members must be those that the specification's ports ask for, no more, no less."""
        wanted = stream_members(self._ports)
        wanted |= {s.signal: Out(s.width) for s in self._status}
        members = dict(core.signature.members)
        for name in wanted | members:
            if members.get(name) != wanted.get(name):
                raise TypeError(f"member {name} must be {wanted.get(name)} for these ports, not {members.get(name)}")
