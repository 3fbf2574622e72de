"""A host's end of a mailbox: the streams of a unit on a board, so that it can play a bench's cases."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.ports import StreamPort
from golden.soc.mailbox import CONFIGURATION, CONTROL, DATA, ID, IDENTIFIER, LEVEL, STATUS, MailboxSpec
from golden.spec import SpecError
from scripts.uart import Host
from tb.transactions import Case, Played

POLLS = 8
"""Of levels that show no change, after which a case is over."""


class Streams:
    """A unit behind ``host``; :class:`~golden.spec.SpecError` if the board does not have it in this configuration."""

    def __init__(self, host: Host, spec: MailboxSpec):
        self._host = host
        self.spec = spec
        found = host.read(ID), host.read(CONFIGURATION)
        if found != (IDENTIFIER, spec.inner.fingerprint):
            wanted = f"{spec.inner.unit} in this configuration ({spec.inner.fingerprint:08x})"
            raise SpecError(f"the board must have {wanted}, not {found[0]:08x} {found[1]:08x}")

    def play(self, case: Case) -> tuple[Case, Played]:
        """Play a case from reset on, and what it must come to here: a board knows no cycles and does not stall."""
        self._host.write(CONTROL, 1)
        ports = {port.name: n for n, port in enumerate(self.spec.inner.ports)}
        rest = {port.name: self.spec.pack(port, case.inputs[port.name]) for port in self._of("in")}
        came: dict[str, list[NDArray[np.uint32]]] = {port.name: [] for port in self._of("out")}
        quiet = 0
        while quiet < POLLS:
            levels = dict(zip(ports, self._host.registers(LEVEL, len(ports)), strict=True))
            moved = False
            for name, words in rest.items():
                if count := min(levels[name], len(words)):
                    self._host.push(DATA + 4 * ports[name], words[:count])
                    rest[name] = words[count:]
                    moved = True
            for name, parts in came.items():
                if levels[name]:
                    parts.append(self._host.pop(DATA + 4 * ports[name], levels[name]))
                    moved = True
            quiet = 0 if moved else quiet + 1
        return replace(case, cycles=None, stall={}), self._played(case, rest, came)

    def _of(self, direction: str) -> list[StreamPort]:
        return [port for port in self.spec.inner.ports if port.direction == direction]

    def _played(
        self, case: Case, rest: Mapping[str, NDArray[np.uint32]], came: Mapping[str, list[NDArray[np.uint32]]]
    ) -> Played:
        outputs, taken = {}, {}
        for port in self._of("out"):
            words = np.concatenate([np.zeros(0, np.uint32), *came[port.name]])
            whole = len(words) - len(words) % self.spec.words(port)
            outputs[port.name] = self.spec.unpack(port, words[:whole])
        for port in self._of("in"):
            taken[port.name] = len(case.inputs[port.name]) - -(-len(rest[port.name]) // self.spec.words(port))
        bits, status = self._host.read(STATUS), {}
        for s in self.spec.inner.status:
            status[s.signal] = bits & (1 << s.width) - 1
            bits >>= s.width
        return Played(outputs, taken, None, None, None, None, status, (), 0)


def playable(case: Case) -> bool:
    """Whether a board can: no reset in the middle, outputs that mean something, nothing that answers."""
    return case.reset_at is None and case.judged and not (case.world.answers or case.world.notes)
