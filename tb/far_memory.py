"""What stands around ``moe_resident``: a far memory that has all experts, and places on chip into which it copies them.

A case's ``world``: weights that come are those that stand at the address, in the place, that was asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from golden.moe.precision import Expert
from golden.moe.resident import MoEResidentSpec
from golden.ports import Beats
from tb.transactions import Case, CheckFailed, Gift, World

WAIT = 1_000_000
"""Cycles without a beat after which a case is over."""


@dataclass
class FarMemory(World):
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

    answers = frozenset(("dma", "fetch"))

    def __post_init__(self) -> None:
        self._far = [self.spec.ffn.memory((one,)) for one in self.experts]
        self._near = [self.spec.ffn.memory((one,)) for one in self.shared]
        self._places: dict[int, tuple[int, int]] = {}  # key, and the cycle from which it is there
        self._reads: dict[int, int] = {}  # cycle of the last beat from a place
        self._next = {"wgt": 0, "par": 0}  # cycle of the next beat
        self._free = 0
        self._step = 0

    def sees(self, cycle: int, stream: str, beat: int) -> Iterator[Gift]:
        port = self.spec.port(stream)
        data = np.frombuffer(beat.to_bytes(port.bytes, "little"), np.uint8)[None]
        fields = {name: int(v[0, 0]) for name, v in port.unpack(Beats(data, np.zeros(1, np.bool_))).items()}
        if stream == "dma":
            return self._load(cycle, **{name: fields[name] for name in ("number", "slot", "key", "length")})
        return self._fetch(cycle, fields)

    def _load(self, cycle: int, number: int, slot: int, key: int, length: int) -> Iterator[Gift]:
        if self._reads.get(slot, 0) > cycle:
            raise CheckFailed(f"place {slot} is written while expert {self._places[slot][0]} is read from it")
        self._free = max(self._free, cycle) + -(-length // self.rate)
        self._places[slot] = key, self._free + self.delay
        port = self.spec.port("fill")
        beat = port.pack(number=np.array([[number]]), ok=np.array([[1]])).data
        yield Gift("fill", beat.tobytes(), self._free + self.delay)

    def _fetch(self, cycle: int, tile: dict[str, int]) -> Iterator[Gift]:
        if tile["expert"]:
            key, there = self._places.get(tile["slot"], (0, cycle + 1))
            if there > cycle:
                raise CheckFailed(f"expert {tile['expert']} of step {self._step} is asked of a place without one")
            image = self._far[key]
        else:
            image = self._near[self._step]
            self._step += tile["final"]
        for name, at, count in (("wgt", "address", "beats"), ("par", "par", "pars")):
            rows = image[name].data[tile[at] : tile[at] + tile[count]]
            if len(rows) < tile[count]:
                raise CheckFailed(f"expert {tile['expert']} of step {self._step} has no beat {tile[at] + tile[count]}")
            first = max(self._next[name], cycle + 1)
            self._next[name] = first + len(rows)
            if tile["expert"]:
                self._reads[tile["slot"]] = max(self._reads.get(tile["slot"], 0), self._next[name] - 1)
            yield Gift(name, rows.tobytes(), first)


def answered(case: Case, memory: FarMemory) -> Case:
    """The case with weights and fills from ``memory``, in place of those that come whenever they are taken; its time is
    that of memory."""
    nothing = {name: Beats(b.data[:0], b.last[:0]) for name, b in case.inputs.items() if name in ("fill", "wgt", "par")}
    return replace(case, inputs={**case.inputs, **nothing}, world=memory, cycles=None, patience=WAIT)
