"""A host's end of the accelerator on a board: lists of jobs in its memory."""

import numpy as np

from golden.soc.board import NodeSpec
from golden.soc.bridge import WORD
from golden.soc.image import Image
from golden.soc.registers import ADDRESS, IDENTIFIER
from golden.spec import SpecError
from scripts.uart import Host
from tb.accelerator_host import CLEAR, DONE, ERROR, START

POLLS = 1000
"""Of the status of a list, after which it counts as stuck."""


class Lists:
    """The accelerator behind ``host``; :class:`~golden.spec.SpecError` if the board has none, or another one."""

    def __init__(self, host: Host, node: NodeSpec):
        assert node.accelerator and node.store
        self._host = host
        self._bytes = node.store.bytes
        found = {name: host.read(ADDRESS[name]) for name in node.accelerator.constants}
        if found != node.accelerator.constants:
            different = [name for name, value in node.accelerator.constants.items() if value != found[name]]
            wrong = ", ".join(f"{name} {found[name]:#x}" for name in different)
            raise SpecError(f"the board must have the accelerator in this configuration ({IDENTIFIER:#x}), not {wrong}")

    def run(self, image: Image) -> list[str]:
        """A list to its end. Returns what is wrong: the status, and bytes of memory.

        :class:`~golden.spec.SpecError` for one that the memory has no room for.
        """
        size = -(-len(image.before) // WORD) * WORD
        if image.base or size > self._bytes:
            raise SpecError(
                f"a list must fit into {self._bytes} bytes of memory from 0 on, not {size} from {image.base}"
            )
        self._host.store(0, np.pad(image.before, (0, size - len(image.before))).tobytes())
        for name, value in (
            ("CONTROL", CLEAR),
            ("LIST", image.list),
            ("LIST_HIGH", 0),
            ("LIST_RECORDS", image.records),
        ):
            self._host.write(ADDRESS[name], value)
        self._host.write(ADDRESS["CONTROL"], START)
        for _ in range(POLLS):
            status = self._host.read(ADDRESS["STATUS"])
            if status & (DONE | ERROR):
                break
        found = []
        if not status & DONE:
            code, job = self._host.read(ADDRESS["ERROR"]), self._host.read(ADDRESS["JOBS_DONE"])
            found.append(f"status {status:#x}, error {code} in job {job}")
        after = np.frombuffer(self._host.fetch(0, size), np.uint8)[: len(image.before)]
        wrong = np.flatnonzero((after != image.after) & image.known)
        if len(wrong):
            at = int(wrong[0])
            expected, got = int(image.after[at]), int(after[at])
            found.append(f"byte {at:#x}: expected {expected:#04x}, got {got:#04x} ({len(wrong)} differ)")
        return found
