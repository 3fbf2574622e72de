"""A block that stands elsewhere: its streams, as members of the block that works with it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from golden.ports import StreamPort

PREFIX = "engine_"
"""Of the members' names."""


def away(ports: Iterable[StreamPort]) -> list[StreamPort]:
    """The other ends of a block's streams."""
    return [replace(p, name=PREFIX + p.name, direction="out" if p.direction == "in" else "in") for p in ports]


class Away:
    """Has the streams of such a block under their own names."""

    def __init__(self, owner: Any):
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, PREFIX + name)
