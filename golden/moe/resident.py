"""A mixture-of-experts layer whose experts do not all fit on chip: specification and bit-true model of the unit
``moe_resident``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.moe.cache import ExpertCacheSpec, Run
from golden.moe.layer import LayerBatch, MoEFFNSpec, MoEParameters
from golden.moe.residency import POLICIES, KeyList
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, param

Int = NDArray[np.int64]
F32 = NDArray[np.float32]

STOPPED = "an expert could not be loaded: stopped"


@dataclass(frozen=True, eq=False)
class Step:
    """A batch in a layer (its ``base`` ``None``: a routed expert is in some place), and the keys that are hinted at
    behind it: what later ones may need."""

    batch: LayerBatch
    layer: int
    hints: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class ResidentRun:
    """A job: ``far[keys, 2]``, address and length of each expert in far memory, and the steps in order."""

    far: Int
    steps: tuple[Step, ...]


class MoEResidentSpec(MoEParameters):
    """``moe_ffn`` with ``expert_cache``: layers of a network one after the other, their routed experts brought into
    ``places`` before they are computed with.

    Formula     that of ``moe_ffn`` for each batch, whatever is hinted at and however long memory takes.
    Keys        ``layer * experts + expert``; the shared experts have places of their own and are never loaded.
    Streams     those of ``moe_ffn``, with ``layer`` in ``cfg``, and ``slot`` in ``fetch``: where the expert is whose
                tile it is (``expert`` 0, the shared one: undefined, 0); addresses in ``desc`` are those within a
                place. A tile of a routed expert is asked for when its expert is there. ``far`` (``desc`` of
                ``expert_cache``): where all experts are in far memory; it begins a run. ``hint``: a list of keys per
                batch, taken behind the batch's own needs: what the next ones may need; without keys one beat with
                ``valid`` 0; ``final`` ends the run. A batch without live tokens has no needs and takes no hints.
                ``dma``, ``fill``, ``cache`` (its ``stats``): of ``expert_cache``.
    Latency     ``latency`` is that of ``moe_ffn``, of a token without routed experts.
    Throughput  as of ``moe_ffn``, as long as experts are there in time (``on_time``); ``stats.stalls`` counts what
                memory costs.
    Errors      ``sts_error``: bits of ``moe_ffn``, bits of ``expert_cache``, and the last: an expert could not be
                loaded (``sts_key`` says which); nothing more is fetched, and the batch gives no result, until a reset.
    Source      SiDA-MoE (arXiv 2310.18859): prefetch by prediction with the router's own choice, exact; with
                ``routing=table`` the prediction is the choice.
    """

    unit: ClassVar[str] = "moe_resident"

    layers: int = param(30, "layers of the network", low=1, high=256)
    places: int = param(7, "experts that fit on chip beside the shared ones", low=1, high=64)
    policy: str = param("lru", "whose place is taken", choices=POLICIES)
    outstanding: int = param(2, "loads that memory works at, at most", low=1, high=8)
    timeout: int = param(0, "cycles after which a load counts as failed; 0: never", low=0, high=1 << 30)

    def _check(self) -> None:
        super()._check()
        _ = self.cache

    @cached_property
    def moe(self) -> MoEFFNSpec:
        return MoEFFNSpec(**{field["name"]: getattr(self, field["name"]) for field in MoEFFNSpec.parameters()})

    @cached_property
    def cache(self) -> ExpertCacheSpec:
        return ExpertCacheSpec(
            slots=self.places,
            keys=self.layers * self.experts,
            most=self.experts,
            policy=self.policy,
            outstanding=self.outstanding,
            timeout=self.timeout,
        )

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        moe = {port.name: port for port in self.moe.ports}
        cache = {port.name: port for port in self.cache.ports}

        def more(port: StreamPort, name: str, bits: int) -> StreamPort:
            added = Field(name, bits, f"uint{bits}")
            return StreamPort(port.name, port.direction, port.lanes, (*port.fields, added), port.last, port.doc)

        def renamed(port: StreamPort, name: str, without: tuple[str, ...] = ()) -> StreamPort:
            kept = tuple(f for f in port.fields if f.name not in without)
            return StreamPort(name, port.direction, 1, kept, port.last, port.doc, port.timed, port.ordered)

        moe["cfg"] = more(moe["cfg"], "layer", self.layer_bits)
        moe["fetch"] = more(moe["fetch"], "slot", self.cache.slot_bits)
        return (
            *moe.values(),
            renamed(cache["desc"], "far"),
            renamed(cache["i"], "hint", ("need",)),
            cache["fill"],
            cache["dma"],
            renamed(cache["stats"], "cache"),
        )

    @property
    def layer_bits(self) -> int:
        return max(1, (self.layers - 1).bit_length())

    @property
    def status(self) -> tuple[StatusPort, ...]:
        (moe,), (cache, key) = self.moe.status, self.cache.status
        return (StatusPort("error", (*moe.causes, *cache.causes, STOPPED)), key)

    # --- arithmetic ---

    def compute(self, job: ResidentRun) -> list[F32]:
        return [self.moe.compute(step.batch) for step in job.steps]

    def requests(self, job: ResidentRun) -> Run:
        """What the cache is asked for: the needs of each batch that has live tokens, then its hints."""
        lists = []
        for step in job.steps:
            if not 0 <= step.layer < self.layers:
                raise SpecError(f"layer must be an integer between 0 and {self.layers - 1}, not {step.layer}")
            if not self.moe.live(step.batch).any():
                continue
            needs = [step.layer * self.experts + queue.expert for queue in self.moe.work(step.batch).queues]
            lists += [KeyList(needs), KeyList(step.hints, need=False)]
        return Run(job.far, tuple(lists))

    def errors(self, job: ResidentRun) -> int:
        """The bits of ``sts_error`` that a job sets, if its tokens fit and its experts are loaded."""
        routed = [self.moe.errors(step.batch) for step in job.steps]
        bits = len(self.moe.status[0].causes)
        return int(np.bitwise_or.reduce(routed)) | self.cache.errors(self.requests(job))["sts_error"] << bits

    # --- streams ---

    def inputs(self, job: ResidentRun) -> dict[str, Beats]:
        parts = [self.moe.inputs(step.batch) for step in job.steps]
        beats = {name: Beats.concatenate([part[name] for part in parts]) for name in parts[0]}
        layers = np.array([[step.layer] for step in job.steps])
        beats["cfg"] = self.port("cfg").pack(**self.moe.port("cfg").unpack(beats["cfg"]), layer=layers)
        cache = self.cache.inputs(self.requests(job))
        asked = self.cache.port("i").unpack(cache["i"])
        hinted = asked.pop("need")[:, 0] == 0
        hints = {name: values[hinted] for name, values in asked.items()}
        return beats | {
            "far": cache["desc"],
            "hint": self.port("hint").pack(last=cache["i"].last[hinted], **hints),
            "fill": cache["fill"],
        }

    def outputs(self, job: ResidentRun, result: list[F32]) -> dict[str, Beats]:
        pairs = zip(job.steps, result, strict=True)
        parts = [self.moe.outputs(step.batch, y) for step, y in pairs]
        beats = {name: Beats.concatenate([part[name] for part in parts]) for name in parts[0]}
        asked = self.requests(job)
        served = self.cache.compute(asked)
        fetch = self.moe.port("fetch").unpack(beats["fetch"])
        slots = np.array(list(self._slots(fetch["expert"][:, 0], served.grants)))
        beats["fetch"] = self.port("fetch").pack(**fetch, slot=slots[:, None])
        cache = self.cache.outputs(asked, served)
        return beats | {"dma": cache["dma"], "cache": cache["stats"]}

    @staticmethod
    def _slots(experts: Int, grants: Int) -> Iterator[int]:
        """Of each tile: a grant serves all tiles of its expert."""
        granted = iter([slot for _, slot, valid, *_ in grants.tolist() if valid])
        before, slot = 0, 0
        for expert in experts.tolist():
            if expert != before:
                slot = next(granted) if expert else 0
            before = expert
            yield slot

    def result(self, job: ResidentRun, outputs: Mapping[str, Beats]) -> list[F32]:
        y = self.port("o").unpack(outputs["o"])["y"].reshape(-1, self.d).astype(np.uint32).view(np.float32)
        ends = np.cumsum([len(step.batch.x) for step in job.steps])
        return np.split(y, ends[:-1])

    # --- time ---

    @property
    def latency(self) -> int:
        return self.moe.latency

    def cycles(self, *jobs: ResidentRun) -> int:
        """Of runs whose experts are there in time: that of ``moe_ffn``."""
        return self.moe.cycles(*(step.batch for job in jobs for step in job.steps))

    def on_time(self, job: ResidentRun) -> bool:
        """Whether experts are certain to be there when the shared one is through, memory being immediate: routing,
        then all decisions."""
        deciding = 2 * self.experts * (2 * self.places + 3) + 4 * self.places + 64
        return all(self.moe.hidden(step.batch, deciding) for step in job.steps)

    def figures(self) -> dict[str, int | float]:
        return self.moe.figures() | {f"cache_{name}": value for name, value in self.cache.figures().items()}
