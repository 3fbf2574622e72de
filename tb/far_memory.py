"""What stands around ``moe_resident``: a far memory that has all experts, and places on chip into which it copies them.

Played by the cocotb player as a case's ``world``: it sees beats of output streams and puts beats on input streams, so
that weights that come are those that stand at the address, in the place, that was asked for.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from golden.moe.precision import Expert
from golden.moe.resident import MoEResidentSpec
from golden.ports import Beats, StreamPort
from tb.transactions import Case, CheckFailed

WAIT = 1_000_000
"""Cycles without a beat after which a case is over."""

Beat = tuple[str, bytes, bool]


@dataclass
class FarMemory:
    """One load after another: a beat of ``length`` takes ``1 / rate`` cycles, and a load ``delay`` more, which hide
    behind the load before it. ``experts`` by key; ``shared`` of each step, which are always there.

    Places give a beat of codes and one of parameters per cycle. :class:`~tb.transactions.CheckFailed` for a tile of a
    place that is empty, not filled yet, or filled anew before its last beat.
    """

    spec: MoEResidentSpec
    experts: list[Expert]
    shared: list[Expert]
    rate: int
    delay: int

    def __post_init__(self) -> None:
        self._far = [self.spec.ffn.memory((one,)) for one in self.experts]
        self._near = [self.spec.ffn.memory((one,)) for one in self.shared]
        self._places: dict[int, int | None] = {}  # key, or that one is on its way
        self._fills: deque[tuple[int, int, int, int]] = deque()  # when, number, slot, key
        self._tiles: dict[str, deque[tuple[int | None, int | None, bytes]]] = {"wgt": deque(), "par": deque()}
        self._free = 0
        self._step = 0

    def sees(self, cycle: int, stream: str, beat: int) -> None:
        """A beat of an output stream."""
        if stream not in ("dma", "fetch"):
            return
        port = self.spec.port(stream)
        data = np.frombuffer(beat.to_bytes(port.bytes, "little"), np.uint8)[None]
        fields = {name: int(v[0, 0]) for name, v in port.unpack(Beats(data, np.zeros(1, np.bool_))).items()}
        if stream == "dma":
            self._load(cycle, **{name: fields[name] for name in ("number", "slot", "key", "length")})
        else:
            self._fetch(fields)

    def _load(self, cycle: int, number: int, slot: int, key: int, length: int) -> None:
        self._free = max(self._free, cycle) + -(-length // self.rate)
        self._places[slot] = None
        self._fills.append((self._free + self.delay, number, slot, key))

    def _fetch(self, tile: dict[str, int]) -> None:
        slot: int | None = None
        key: int | None = None
        if tile["expert"]:
            slot, key = tile["slot"], self._places.get(tile["slot"])
            if key is None:
                raise CheckFailed(f"expert {tile['expert']} of step {self._step} is asked of a place without one")
            image = self._far[key]
        else:
            image = self._near[self._step]
            self._step += tile["final"]
        for name, at, count in (("wgt", "address", "beats"), ("par", "par", "pars")):
            rows = image[name].data[tile[at] : tile[at] + tile[count]]
            if len(rows) < tile[count]:
                raise CheckFailed(f"expert {tile['expert']} of step {self._step} has no beat {tile[at] + tile[count]}")
            self._tiles[name].extend((slot, key, row.tobytes()) for row in rows)

    def gives(self, cycle: int) -> Iterator[Beat]:
        """Beats of input streams that are there from this cycle on."""
        while self._fills and self._fills[0][0] <= cycle:
            _, number, slot, key = self._fills.popleft()
            self._places[slot] = key
            yield from _packed(self.spec.port("fill"), number=number, ok=1)
        for name, rows in self._tiles.items():
            if rows:
                place, expert, row = rows.popleft()
                if place is not None and self._places[place] != expert:
                    raise CheckFailed(f"place {place} is written while expert {expert} is read from it")
                yield name, row, False


def _packed(port: StreamPort, **values: int) -> Iterator[Beat]:
    beats = port.pack(**{name: np.array([[value]]) for name, value in values.items()})
    yield port.name, beats.data[0].tobytes(), False


def answered(case: Case, memory: FarMemory) -> Case:
    """The case with weights and fills from ``memory``, in place of those that come whenever they are taken; its time is
    that of memory."""
    nothing = {name: Beats(b.data[:0], b.last[:0]) for name, b in case.inputs.items() if name in ("fill", "wgt", "par")}
    return replace(case, inputs={**case.inputs, **nothing}, world=memory, cycles=None, patience=WAIT)
