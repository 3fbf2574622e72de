"""A unit as its streams see it: what it takes and gives in every cycle."""

from collections.abc import Mapping
from typing import Any

from golden.soc.cycles.channels import Sink, Source
from golden.soc.descriptor import Entry
from golden.soc.kinds import Lane


class Unit:
    """One job after the other."""

    def begin(self, job: Any, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        """Its streams."""
        raise NotImplementedError

    def asks(self, lane: Lane, entry: Entry, source: Source) -> None:
        """The entry of an input whose rows are those that the unit asks for, if there is such an input."""
        raise NotImplementedError

    def cycle(self, complete: bool) -> None:
        """``complete``: all entries of the job have been taken, and rows may be asked for."""
        raise NotImplementedError
