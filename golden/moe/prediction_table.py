"""Predicted experts of a batch, layer by layer: specification and bit-true model of the unit ``expert_table``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

BATCH_BITS = 8
BANKS = 2

BEGIN = 1
"""Cycles from a request to its first beat: the layer's place is looked up."""


class Entry(NamedTuple):
    """An expert of a token: FP32 bit pattern of its weight, how certain it is."""

    expert: int
    weight: int
    confidence: int


class Request(NamedTuple):
    """``batch``, counted from the job's; what is wanted of a layer; hints of a confidence of ``least`` or more."""

    layer: int
    entries: bool = True
    hints: bool = True
    least: int = 0
    batch: int = 0
    wait: bool = True
    release: bool = False


@dataclass(frozen=True, eq=False)
class Predicted:
    """A job: a batch's number, ``layers[layer][token]`` its entries, and the requests; the last of them releases it."""

    number: int
    layers: Sequence[Sequence[Sequence[Entry]]]
    requests: Sequence[Request]


class Told(NamedTuple):
    """The result of a job, a row per beat, columns as the fields of ``o`` and ``hint``, then tlast."""

    entries: Int
    hints: Int


class ExpertTableSpec(UnitSpec):
    """The experts that a predictor names for the tokens of a batch, kept for all layers, told layer by layer.

    Streams     ``i``: layer after layer, token after token: an entry a beat, tlast on a token's last; a token without
                entries is a beat with ``valid`` 0; ``final``, looked at with tlast: the layer's last token. After
                ``layers`` layers the batch is complete; batches are numbered from 0 modulo 256. ``request``: what is
                wanted of a layer of a batch. ``o``, with ``entries``: its entries as they came, tlast on a token's
                last, ``final`` on the layer's last token: what ``route`` of ``moe_ffn`` takes. ``hint``, with
                ``hints``: the layer's experts as keys ``layer * experts + expert``, each once, in order of first use,
                those with a confidence of ``least`` or more; tlast on the last: what ``expert_cache`` takes.
    Batches     two are kept: one is filled while the one before is told. ``release``, of the oldest batch, after which
                its place is filled anew. A request waits for a batch that may still come (the oldest that is not
                released and the one after it); with ``wait`` 0 it is answered at once. What is not there gives an empty
                list: one beat whose ``valid`` is 0.
    Latency     ``latency`` cycles from a request to the first entry, of an idle unit whose batch is complete.
    Throughput  a beat per cycle in and out; a cycle between requests, one more after hints.
    Memory      two banks of ``layers * tokens * slots`` entries.
    Ranges      bits of ``sts_error``: 0: more than ``slots`` entries of a token, 1: more than ``tokens`` tokens of a
                layer: what is too much takes the place of the last; 2: no such expert: as ``valid`` 0; 3: a batch that
                is released, or cannot be there yet; 4: not complete, and ``wait`` was 0; 5: no such layer; 6: a release
                of what is not the oldest batch, or not there: ignored.
    Source      hash tables of SiDA-MoE (arXiv 2310.18859), a queue of batches.
    Not done    predicting; more than two batches; ordering hints by how many tokens name them.
    """

    unit: ClassVar[str] = "expert_table"

    layers: int = param(30, "layers with experts", low=1, high=256)
    experts: int = param(14, "experts of a layer", low=1, high=256)
    tokens: int = param(16, "most tokens of a batch", low=1, high=1024)
    slots: int = param(2, "most entries of a token", low=1, high=64)
    confidence: int = param(8, "bits of a confidence", low=1, high=16)

    def _check(self) -> None:
        if self.slots > self.experts:
            raise SpecError(f"slots must be at most experts = {self.experts}, not {self.slots}")

    @property
    def depth(self) -> int:
        """Entries of a bank."""
        return self.layers * self.tokens * self.slots

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        bits = {
            "expert": max(1, (self.experts - 1).bit_length()),
            "layer": max(1, (self.layers - 1).bit_length()),
            "key": max(1, (self.layers * self.experts - 1).bit_length()),
            "confidence": self.confidence,
            "least": self.confidence,
            "batch": BATCH_BITS,
        }

        def fields(*names: str) -> tuple[Field, ...]:
            return tuple(
                Field(n, 32, "fp32") if n == "weight" else Field(n, bits.get(n, 1), f"uint{bits.get(n, 1)}")
                for n in names
            )

        entry = fields("expert", "weight", "confidence", "valid", "final")
        request = fields("layer", "batch", "least", "entries", "hints", "wait", "release")
        return (
            StreamPort("i", "in", 1, entry, "token", "predicted experts, layer after layer"),
            StreamPort("request", "in", 1, request, "", "a layer of a batch is wanted"),
            StreamPort("o", "out", 1, entry, "token", "the layer's entries"),
            StreamPort("hint", "out", 1, fields("key", "valid"), "layer", "the layer's experts, each once"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        causes = ("too many entries of a token", "too many tokens", "no such expert", "a batch that is not there")
        return (StatusPort("error", (*causes, "a batch that is not complete", "no such layer", "no such release")),)

    @property
    def latency(self) -> int:
        return latency.SKID + BEGIN + latency.SKID

    def figures(self) -> dict[str, int | float]:
        return {"latency": self.latency, "memory_bits": BANKS * self.depth * (self.port("i").width + 1)}

    def compute(self, job: Predicted) -> Told:
        stored, _ = self._stored(job)
        entries: list[tuple[int, ...]] = []
        hints: list[tuple[int, int, int]] = []
        for request, there in zip(job.requests, self._there(job), strict=True):
            rows = stored[request.layer] if there else [(0, 0, 0, 0, 1, 1)]
            if request.entries:
                entries += rows
            if request.hints:
                hints += self._union(request, rows)
        return Told(np.array(entries, np.int64).reshape(-1, 6), np.array(hints, np.int64).reshape(-1, 3))

    def _stored(self, job: Predicted) -> tuple[list[list[tuple[int, ...]]], int]:
        """Beats of each layer, with tlast; what is wrong with what came."""
        errors, layers = 0, []
        for layer in job.layers:
            rows: list[tuple[int, ...]] = []
            for number, token in enumerate(layer):
                final = number == len(layer) - 1
                errors |= 2 * (number >= self.tokens)
                for slot, entry in enumerate(token or [Entry(0, 0, 0)]):
                    known = bool(token) and entry.expert < self.experts
                    errors |= (slot >= self.slots) | 4 * (bool(token) and not known)
                    if slot >= self.slots or number >= self.tokens:
                        rows.pop()
                    rows.append((*entry, known, final, slot == max(1, len(token)) - 1))
            layers.append(rows)
        return layers, errors

    def _union(self, request: Request, rows: Sequence[tuple[int, ...]]) -> list[tuple[int, int, int]]:
        experts = [row[0] for row in rows if row[3] and row[2] >= request.least]
        keys = [request.layer * self.experts + expert for expert in dict.fromkeys(experts)]
        return [(key, 1, 0) for key in keys[:-1]] + [(keys[-1], 1, 1) if keys else (0, 0, 1)]

    def _there(self, job: Predicted) -> list[bool]:
        """Of each request: the batch is there, the layer is."""
        _, begins, complete = self._played([job])
        released, there = False, []
        for request, begin in zip(job.requests, begins, strict=True):
            mine = request.batch == 0 and not released and begin >= complete[0]
            there.append(mine and request.layer < self.layers)
            released |= mine and request.release
        return there

    def errors(self, job: Predicted) -> int:
        """The bits of ``sts_error`` that a batch sets."""
        _, errors = self._stored(job)
        _, begins, complete = self._played([job])
        released = False
        for request, begin in zip(job.requests, begins, strict=True):
            absent = request.batch != 0 or released
            early = not absent and begin < complete[0]
            mine = not absent and not early
            errors |= 8 * absent | 16 * early | 32 * (request.layer >= self.layers)
            errors |= 64 * (request.release and not mine)
            released |= mine and request.release
        return errors

    def inputs(self, job: Predicted) -> dict[str, Beats]:
        rows = [
            (*entry, bool(token), number == len(layer) - 1, slot == max(1, len(token)) - 1)
            for layer in job.layers
            for number, token in enumerate(layer)
            for slot, entry in enumerate(token or [Entry(0, 0, 0)])
        ]
        *fields, last = np.array(rows, np.int64).T
        i, request = self.port("i"), self.port("request")
        asked = {f.name: np.array([getattr(r, f.name) for r in job.requests], np.int64) for f in request.fields}
        asked["batch"] = (asked["batch"] + job.number) % (1 << BATCH_BITS)
        return {
            "i": i.pack(**{f.name: column for f, column in zip(i.fields, fields, strict=True)}, last=last),
            "request": request.pack(**asked),
        }

    def outputs(self, job: Predicted, result: Told) -> dict[str, Beats]:
        made = {}
        for name, rows in (("o", result.entries), ("hint", result.hints)):
            columns = {f.name: rows[:, n] for n, f in enumerate(self.port(name).fields)}
            made[name] = self.port(name).pack(**columns, last=rows[:, -1])
        return made

    def result(self, job: Predicted, outputs: Mapping[str, Beats]) -> Told:
        rows = []
        for name in ("o", "hint"):
            columns = list(self.port(name).unpack(outputs[name]).values())
            rows.append(np.concatenate([*columns, outputs[name].last[:, None].astype(np.int64)], axis=1))
        return Told(*rows)

    def cycles(self, *jobs: Predicted) -> int:
        last, _, _ = self._played(jobs)
        return last + latency.SKID + 1

    def _played(self, jobs: Sequence[Predicted]) -> tuple[int, list[int], list[int]]:
        """Between the skid buffers: when the last beat goes out, when each request begins, when each batch is there."""
        filled, turn, last = latency.SKID, latency.SKID, 0
        begins: list[int] = []
        complete: list[int] = []
        free = [0] * BANKS  # of each batch before: from when on its place is
        for job in jobs:
            layers, _ = self._stored(job)
            beats = sum(max(1, len(token)) for layer in job.layers for token in layer)
            filled = max(filled, free[-BANKS]) + beats
            complete.append(filled)
            released = False
            for request in job.requests:
                mine = request.batch == 0 and not released
                begin = max(turn, filled) if mine and request.wait else turn
                begins.append(begin)
                mine &= begin >= filled
                told = len(layers[request.layer]) if mine and request.layer < self.layers else 1
                hints = request.hints
                last = max(last, begin + told * request.entries, (begin + told + 1) * hints)
                turn = begin + told + 1 + hints
                if mine and request.release:
                    released = True
                    free.append(begin + told + 1)
        return last, begins, complete
