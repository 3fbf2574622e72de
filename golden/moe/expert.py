"""The experts of a feed-forward network: specification and bit-true model of the unit ``expert_ffn``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import latency, q4_1
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.moe.precision import ANY, ENTRIES, Expert, Precision, Weights, dense, plain
from golden.moe.swiglu import SiluSpec, swiglu
from golden.numerics import canonical
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]
F32 = NDArray[np.float32]

ADDRESS_BITS = 32
MATRICES = ("up", "down")

SPARE = 2
"""Lanes beyond the rows: a word per row is read while the words before are used, in so many cycles more."""


GATHER = 4
"""Cycles, beside one per row, from the beginning of a phase to its first step: the last row's word, their change."""

COUNTERS = "per batch: steps of the array, tiles fetched, cycles, those in which activations waited for codes"

FORMATS = ("uint4_min", "uint4_zero", "int4", "int8", "mixed")

SEND = 3
"""Cycles from the end of the last phase to the first result: read, queued, handed on."""


def expert(gate: q4_1.Matrix, up: q4_1.Matrix, down: q4_1.Matrix, precision: Precision | None = None) -> Expert:
    """Of matrices as they are stored: gate and up ``[m, d]``, down ``[d, m]``; with ``weight=mixed`` of
    ``Precision()``."""

    def interleaved(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return np.stack((a, b), axis=1).reshape(2 * len(a), -1).T

    codes, d, m = (interleaved(getattr(gate, name), getattr(up, name)) for name in q4_1.Matrix._fields)
    return Expert(Weights(codes, d, m, precision), Weights(down.codes.T, down.d.T, down.m.T, precision))


class Queue(NamedTuple):
    """The tokens of a routed expert, and their weights."""

    expert: int
    tokens: Int
    weights: F32


@dataclass(frozen=True, eq=False)
class ExpertBatch:
    """A job: FP16 codes ``x[T, d]``, the experts (the shared one, then the routed ones, which ``queues`` count from 0),
    and the queues in order. ``load``: the table of experts comes with the batch; without it, it is the one before.
    ``base``: the address of the first expert; ``None``: each has a place of its own, where addresses begin with 0."""

    x: Int
    experts: tuple[Expert, ...]
    queues: tuple[Queue, ...]
    load: bool = True
    base: int | None = 0

    def work(self) -> Iterator[tuple[Expert, Int, F32]]:
        """Expert after expert: its tokens and their weights; the shared one has them all."""
        everyone = np.arange(len(self.x))
        yield self.experts[0], everyone, np.ones(len(everyone), np.float32)
        for queue in self.queues:
            yield self.experts[1 + queue.expert], queue.tokens, queue.weights


class Phase(NamedTuple):
    """Half of an expert: ``tiles`` of columns, each for ``passes`` tiles of tokens, of ``steps``."""

    tiles: int
    passes: int
    steps: int


class ExpertFFNSpec(UnitSpec):
    """SwiGLU experts on one GEMM engine: a shared one for all tokens of a batch, routed ones for the tokens of their
    queues, summed up per token.

    Formula     ``y[t] = E_shared(x[t]) + sum over the queues, in order, of weight * E_e(x[t])``;
                ``E(x) = down(swiglu(gate(x), up(x)))``.
    Rounding    GEMMs as :class:`golden.mixpe.gemm.MixPESpec` with activations FP16, aligned per token and group of
                weights to ``align`` bits on a power of two; results FP32. SwiGLU as :mod:`golden.moe.swiglu`, its
                results FP16, the largest finite one where they are beyond. Products with weights and sums over experts
                are FP32, each rounded once, the shared expert first. So a token's result depends on its own experts
                alone, not on the batch that it is in.
    Formats     ``weight=mixed``: each matrix of each expert as its descriptor says
                (:class:`golden.moe.precision.Precision`): codes of 2, 3, 4, 8 bits, unsigned, signed, or indices into
                the expert's codebook (K-Means), a scale and a minimum for 1, 2, 4 ... groups or the whole column. They
                become INT8 operands on their way in; every step of the array costs the same, every bit of memory once.
    Streams     ``i``: ``lanes`` activations per beat, token after token, tlast on the batch's last. ``cfg``: one beat
                per batch: whether a table of experts comes. ``desc``: that table, the shared expert first: addresses of
                its matrices (codes and parameters of up and down), its neurons, formats; tlast on the last. ``job``:
                the queues in order: expert, first entry, entries; tlast on the last; a batch without queues gives one
                whose ``valid`` is 0. ``entry``: token and weight of each entry. ``fetch``: a tile of weights is wanted:
                whose, where its codes and parameters are and how many beats; ``wgt`` answers with so many of ``cols``
                codes (with ``mixed`` of a byte per column), ``par`` with so many of parameters. ``o``: ``words``
                results per beat, token after token, tlast on the batch's last. ``stats``: one beat per batch: steps of
                the array, tiles fetched, cycles from ``cfg`` to the last result, and how many of them activations
                waited for codes (0 where memory is fast enough).
    Memory      an expert's up matrix is ``2m / cols`` tiles of d steps, one after the other, its down matrix
                ``d / cols`` tiles of m steps; a step is a beat of ``wgt`` (with ``mixed`` b/8 of one, a column's codes
                one behind the other from its lowest bit), a group a beat of ``par`` (or 2**share groups, of a tile's
                last beat as many as there are). Every tile is fetched once per batch, none of experts without tokens.
    Latency     ``latency`` is that of a batch of one token without queues, of the largest shared expert, from its last
                beat, after ``cfg``, to its first result.
    Throughput  ``cycles``: loading, then for every expert both GEMMs, of ``passes * tiles`` tiles of the engine each,
                then the results. Weights stream in while those before are used.
    Ranges      neurons must be a multiple of ``cols / 2``, ``lanes`` and ``group``, d of ``cols``, ``lanes`` and
                ``group``. ``sts_error``: bit 0, a batch had more than ``tokens`` tokens (the rest is lost). Undefined
                until a reset after: a table of more than ``experts + 1`` experts, or none for the first batch; neurons
                that are 0, above the parameter or no such multiple; queues whose ``first`` is not the sum of the counts
                before, or with the same expert twice.
    Source      the experts of CMoE (arXiv 2502.04416); dispatch order and one reading of the weights per batch as in
                production systems (arXiv 2211.10017).
    Not done    biases; loading a batch while the one before is computed.
    """

    unit: ClassVar[str] = "expert_ffn"

    d: int = param(576, "width of the model", low=16, high=16384)
    neurons: int = param(576, "most neurons of an expert", low=16, high=16384)
    experts: int = param(5, "most routed experts", low=1, high=64)
    tokens: int = param(16, "most tokens of a batch", low=1, high=1024)
    slots: int = param(3, "most routed experts of a token", low=1, high=64)
    rows: int = param(4, "rows of the array: tokens at a time", low=1, high=64)
    cols: int = param(64, "columns of the array: outputs at a time", low=4, high=64)
    lanes: int | None = param(
        None, "activations per word of the memories; derived: the least power of two of rows + 2", low=8, high=256
    )
    weight: str = param("uint4_min", "weight format; mixed: as each expert's descriptor says", choices=FORMATS)
    group: int = param(32, "inputs that share a weight scale and an exponent of activations", low=16, high=256)
    align: int = param(8, "bits of activations: 8, 12, 16, 20, 24", low=8, high=24)
    core: str = param("booth", "product core", choices=("shift_add", "booth", "multiply"))
    scaled: bool = param(False, "experts have weights other than 1")
    reach: int = param(4, "SiLU: the table goes to two to this", low=1, high=5)
    segments: int = param(5, "SiLU: segments per unit, two to this", low=1, high=8)

    ring: int | None = param(
        None,
        "steps of weights that are kept, a power of two; derived: the least for a tile, and half of one that comes "
        "while it is used",
        low=16,
        high=65536,
    )

    def _derive(self) -> dict[str, Any]:
        lanes = max(8, 1 << (self.rows + SPARE - 1).bit_length())
        return {"lanes": lanes, "ring": 1 << (3 * max(self.d, self.neurons) // 2 - 1).bit_length()}

    def _check(self) -> None:
        for name in ("rows", "cols", "lanes", "group", "ring"):
            value = getattr(self, name)
            if value & (value - 1):
                raise SpecError(f"{name} must be a power of two, not {value}")
        assert self.lanes
        if self.lanes < self.rows + SPARE:
            raise SpecError(f"lanes must be at least {self.rows + SPARE} with {self.rows} rows, not {self.lanes}")
        if self.slots > self.experts:
            raise SpecError(f"slots must be at most experts = {self.experts}, not {self.slots}")
        for name, units in (("d", (self.cols, self.lanes, self.group)), ("neurons", self.grain)):
            for unit in units:
                if getattr(self, name) % unit:
                    raise SpecError(f"{name} must be a multiple of {unit}, not {getattr(self, name)}")
        least = max(self.d, self.neurons)
        if self.depth < least:
            raise SpecError(f"ring must be at least {least}, the steps of a tile, not {self.ring}")
        _ = self.engine, self.silu
        if self.words > self.cols:
            raise SpecError(f"cols must be at least {self.words} with {self.rows} rows, not {self.cols}")

    @property
    def mixed(self) -> bool:
        """Every expert and matrix has a :class:`~golden.moe.precision.Precision`."""
        return self.weight == "mixed"

    @property
    def grain(self) -> tuple[int, int, int]:
        """An expert's neurons are a multiple of these."""
        return self.cols // 2, self._lanes, self.group

    @cached_property
    def engine(self) -> MixPESpec:
        return MixPESpec(
            weight=ANY if self.mixed else self.weight,
            act="fp16_aligned",
            align=self.align,
            rows=self.rows,
            cols=self.cols,
            group=self.group,
            k_max=max(self.d, self.neurons),
            core=self.core,
        )

    @cached_property
    def silu(self) -> SiluSpec:
        return SiluSpec(reach=self.reach, segments=self.segments)

    @property
    def _lanes(self) -> int:
        assert self.lanes
        return self.lanes

    @property
    def words(self) -> int:
        """Results per beat."""
        assert self.engine.words
        return self.engine.words

    @property
    def depth(self) -> int:
        """Steps of weights that are kept."""
        assert self.ring
        return self.ring

    @property
    def most_tiles(self) -> int:
        """Tiles of columns of a matrix."""
        return max(2 * self.neurons, self.d) // self.cols

    @property
    def most_passes(self) -> int:
        """Tiles of tokens of a queue."""
        return -(-self.tokens // self.rows)

    @property
    def most_words(self) -> int:
        """Of a token's activations or hidden values."""
        return self.engine.k_max // self._lanes

    @property
    def entries(self) -> int:
        """Of all queues, at most."""
        return self.tokens * self.slots

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        wgt, par = self.engine.port("wgt"), self.engine.port("par")

        def uint(name: str, most: int) -> Field:
            return Field(name, most.bit_length(), f"uint{most.bit_length()}")

        def address(name: str) -> Field:
            return Field(name, ADDRESS_BITS, f"uint{ADDRESS_BITS}")

        formats = ("bits", 2), ("kind", 2), ("share", 3)
        described = (
            *(address(f"{matrix}{part}") for matrix in MATRICES for part in ("", "_par")),
            uint("neurons", self.neurons),
            *(Field(f"{matrix}_{name}", n, f"uint{n}") for matrix in MATRICES for name, n in formats if self.mixed),
            *(Field(f"code_{n}", 8, "int8") for n in range(ENTRIES if self.mixed else 0)),
        )
        tile = (
            uint("expert", self.experts),
            address("address"),
            uint("beats", self.engine.k_max),
            address("par"),
            uint("pars", self.engine.k_max // self.group),
            Field("final", 1, "uint1"),
        )
        codes = (Field("codes", 8, "uint8"),) if self.mixed else wgt.fields
        step = "codes of a column" if self.mixed else "a step's weights; up: lane 2j gate, 2j + 1 up"
        valid = Field("valid", 1, "uint1")
        queue = (uint("expert", self.experts - 1 or 1), uint("first", self.entries), uint("count", self.tokens), valid)
        weight = (Field("weight", 32, "fp32"),) if self.scaled else ()
        token = uint("token", self.tokens - 1 or 1)
        counters = tuple(Field(name, 32, "uint32") for name in ("steps", "fetches", "cycles", "stalls"))
        x, y = Field("x", 16, "fp16"), Field("y", 32, "fp32")
        return (
            StreamPort("i", "in", self._lanes, (x,), "batch", "activations, token after token"),
            StreamPort("cfg", "in", 1, (Field("load", 1, "uint1"),), "", "whether a table comes; one per batch"),
            StreamPort(
                "desc",
                "in",
                1,
                described,
                "table",
                "addresses in beats of wgt and par, shared expert first",
            ),
            StreamPort("job", "in", 1, queue, "batch", "queues; valid 0: none"),
            StreamPort("entry", "in", 1, (token, *weight), "", "entries of the queues"),
            StreamPort(
                "fetch",
                "out",
                1,
                tile,
                "",
                "where a tile's beats of wgt and of par are; expert 0: shared; final: its last tile",
            ),
            StreamPort("wgt", "in", self.cols, codes, "", step),
            StreamPort("par", "in", self.cols, par.fields, "", "a group's parameters"),
            StreamPort("o", "out", self.words, (y,), "batch", "results, token after token"),
            StreamPort("stats", "out", 1, counters, "", COUNTERS, timed=("cycles", "stalls")),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("a batch had more tokens than fit",)),)

    # --- time ---

    @property
    def latency(self) -> int:
        words = self.d // self._lanes
        return self._sent(1, words, 0, self._sizes(self.neurons, 1)) - words

    def cycles(self, *jobs: ExpertBatch) -> int:
        # the counters follow the last result; the next batch begins
        return latency.SKID + sum(self._span(job) for job in jobs) + 1

    def _span(self, job: ExpertBatch) -> int:
        """From its beginning to its counters."""
        first = self.first(job, len(job.x) * self.d // self._lanes) - latency.SKID
        return first + len(job.x) * self.d // self.words

    def first(self, job: ExpertBatch, words: int) -> int:
        """Cycles from its configuration to its first result, if its activations take so many to come."""
        table = len(job.experts) if job.load else 0
        return self._sent(latency.SKID, words, table, self.phases(job))

    def dense_cycles(self, neurons: int, tokens: int) -> int:
        """Of a network of so many neurons and no routed experts, whatever ``neurons`` and ``tokens`` of this
        configuration are: what a mixture is compared with."""
        phases = self._sizes(neurons, -(-tokens // self.rows))
        return self._sent(latency.SKID, tokens * self.d // self._lanes, 1, phases) + tokens * self.d // self.words + 1

    def _sent(self, begin: int, words: int, table: int, phases: list[Phase]) -> int:
        """The cycle of the first result of a batch that begins in cycle ``begin``."""
        start = begin + 2 + max(words, table)
        for n, phase in enumerate(phases):
            first = start + self.rows + GATHER
            stored = first + self.engine.timing.cycles([phase.steps] * phase.passes * phase.tiles, self.group) - 1
            start = stored + (self.combining + 2 if n % 2 else self.silu.swiglu_latency("fp16") + 1)
        return start - 1 + SEND

    @property
    def combining(self) -> int:
        """From a result of the array to its sum in memory: its token, its weight, the sum so far, added."""
        return 1 + latency.MULTIPLY * self.scaled + 1 + latency.ADD

    def figures(self) -> dict[str, int | float]:
        shared = self._sizes(self.neurons, self.most_passes)
        return {
            "latency": self.latency,
            "macs_per_cycle": self.rows * self.cols,
            "ring_steps": self.depth,
            f"steps_shared_{self.tokens}_tokens": sum(p.tiles * p.passes * p.steps for p in shared),
        }

    # --- arithmetic ---

    def compute(self, job: ExpertBatch) -> F32:
        if len(job.x) > self.tokens:
            raise SpecError(f"tokens must be at most {self.tokens}, not {len(job.x)}")
        y = np.zeros((len(job.x), self.d), np.float32)
        for n, (mine, tokens, weights) in enumerate(job.work()):
            part = self._gemm(self.hidden(job.x[tokens], mine), mine, mine.down)
            with np.errstate(all="ignore"):
                part = canonical(part * weights[:, None])
                y[tokens] = part if n == 0 else canonical(y[tokens] + part)
        return y

    def hidden(self, x: Int, mine: Expert) -> Int:
        """FP16 codes ``[tokens, m]``."""
        both = self._gemm(x, mine, mine.up)
        return swiglu(both[:, ::2], both[:, 1::2], self.silu, "fp16").view(np.uint16).astype(np.int64)

    def _gemm(self, x: Int, mine: Expert, weights: Weights) -> F32:
        w = self._operands(mine, weights)
        return self.engine.compute(Gemm(x=x, w=w.codes, scale=w.scale, extra=w.extra))

    def _operands(self, mine: Expert, weights: Weights) -> Weights:
        """As the engine has them; :class:`~golden.spec.SpecError` where it cannot."""
        if (weights.precision is not None) != self.mixed:
            raise SpecError(f"precision must be {'given' if self.mixed else 'None'} where weight is {self.weight}")
        return plain(weights, mine.codebook, self.group)

    # --- streams ---

    def phases(self, job: ExpertBatch) -> list[Phase]:
        """Up and down of each expert, in order."""
        sizes = (self._sizes(mine.neurons, -(-len(tokens) // self.rows)) for mine, tokens, _ in job.work())
        return [phase for both in sizes for phase in both]

    def _sizes(self, neurons: int, passes: int) -> list[Phase]:
        return [Phase(2 * neurons // self.cols, passes, self.d), Phase(self.d // self.cols, passes, neurons)]

    def addresses(self, job: ExpertBatch) -> list[dict[str, int]]:
        """Where each expert's matrices begin, codes and parameters, one expert behind the other unless apart."""
        found, at, par = [], job.base or 0, job.base or 0
        for mine in job.experts:
            places: dict[str, int] = {}
            if job.base is None:
                at = par = 0
            for name, weights, phase in zip(MATRICES, mine.matrices, self._sizes(mine.neurons, 1), strict=True):
                places |= {name: at, f"{name}_par": par}
                beats, pars = self._beats(weights, phase)
                at, par = at + phase.tiles * beats, par + phase.tiles * pars
            found.append(places)
        return found

    def _beats(self, weights: Weights, phase: Phase) -> tuple[int, int]:
        """Of a tile: of codes, of parameters."""
        groups = phase.steps // self.group
        precision = weights.precision
        return (precision.beats(phase.steps), precision.parameters(groups)) if precision else (phase.steps, groups)

    def weight_bytes(self, mine: Expert) -> int:
        """Of an expert, as ``wgt`` and ``par`` bring it."""
        size = 0
        for weights, phase in zip(mine.matrices, self._sizes(mine.neurons, 1), strict=True):
            beats, pars = self._beats(weights, phase)
            size += phase.tiles * (beats * self.port("wgt").bytes + pars * self.port("par").bytes)
        return size

    def _table(self, job: ExpertBatch) -> Beats:
        table: dict[str, list[list[int]]] = {f.name: [] for f in self.port("desc").fields}
        for mine, places in zip(job.experts, self.addresses(job), strict=True):
            values = places | {"neurons": mine.neurons}
            if self.mixed:
                for name, weights in zip(MATRICES, mine.matrices, strict=True):
                    assert weights.precision
                    values |= {f"{name}_{field}": v for field, v in weights.precision.fields().items()}
                codes = np.zeros(ENTRIES, np.int64) if mine.codebook is None else mine.codebook
                values |= {f"code_{n}": int(code) for n, code in enumerate(codes)}
            for name, value in values.items():
                table[name].append([value])
        kept = len(job.experts) if job.load else 0
        columns = {name: np.array(values)[:kept] for name, values in table.items()}
        return self.port("desc").pack(last=(np.arange(len(job.experts)) == len(job.experts) - 1)[:kept], **columns)

    def inputs(self, job: ExpertBatch) -> dict[str, Beats]:
        tiles = [self._tiles(mine, weights) for mine, _, _ in job.work() for weights in mine.matrices]
        x = job.x.reshape(-1, self._lanes)
        return {
            "i": self.port("i").pack(x=x, last=np.arange(len(x)) == len(x) - 1),
            "cfg": self.port("cfg").pack(load=[[job.load]]),
            "desc": self._table(job),
            "job": self._queues(job),
            "entry": self._entries(job),
            "wgt": Beats.concatenate([tile["wgt"] for tile in tiles]),
            "par": Beats.concatenate([tile["par"] for tile in tiles]),
        }

    def memory(self, experts: tuple[Expert, ...]) -> dict[str, Beats]:
        """``wgt`` and ``par`` of all experts, beat after beat as ``fetch`` addresses them (:meth:`addresses`)."""
        tiles = [self._tiles(mine, weights) for mine in experts for weights in mine.matrices]
        return {name: Beats.concatenate([tile[name] for tile in tiles]) for name in ("wgt", "par")}

    def _queues(self, job: ExpertBatch) -> Beats:
        sizes = [len(queue.tokens) for queue in job.queues]
        fields = {
            "expert": [queue.expert for queue in job.queues] or [0],
            "first": [sum(sizes[:i]) for i in range(len(sizes))] or [0],
            "count": sizes or [0],
            "valid": [1] * len(sizes) or [0],
        }
        number = len(fields["valid"])
        columns = {name: np.array(values)[:, None] for name, values in fields.items()}
        return self.port("job").pack(last=np.arange(number) == number - 1, **columns)

    def _entries(self, job: ExpertBatch) -> Beats:
        tokens = np.concatenate([np.zeros(0, np.int64), *(queue.tokens for queue in job.queues)])
        fields = {"token": tokens[:, None]}
        if self.scaled:
            weights = np.concatenate([np.zeros(0, np.float32), *(queue.weights for queue in job.queues)])
            fields["weight"] = weights.astype(np.float32).view(np.uint32).astype(np.int64)[:, None]
        return self.port("entry").pack(**fields)

    def _tiles(self, mine: Expert, weights: Weights) -> dict[str, Beats]:
        """All tiles of a matrix: codes and parameters, without tlast."""
        w = self._operands(mine, weights)
        nothing = np.zeros((1, len(w.codes)), np.int64)
        beats = self.engine.inputs(Gemm(x=nothing, w=w.codes, scale=w.scale, extra=w.extra))
        data = {name: beats[name].data for name in ("wgt", "par")}
        if weights.precision:
            columns = np.split(weights.codes, weights.codes.shape[1] // self.cols, axis=1)
            data["wgt"] = np.concatenate([dense(tile, weights.precision.bits) for tile in columns])
            each = data["par"].reshape(len(columns), -1, data["par"].shape[1])
            data["par"] = np.concatenate(each[:, :: 1 << weights.precision.share])
        return {name: Beats(found, np.zeros(len(found), np.bool_)) for name, found in data.items()}

    def outputs(self, job: ExpertBatch, result: F32) -> dict[str, Beats]:
        fetched = [tile for number in self.fetched(job) for tile in self.wanted(job, number)]
        wanted = np.array(fetched).T[:, :, None]
        y = result.view(np.uint32).astype(np.int64).reshape(-1, self.words)
        phases = self.phases(job)
        busy = sum(p.tiles * p.passes * p.steps for p in phases)
        counters = {"steps": [[busy]], "fetches": [[len(fetched)]], "cycles": [[self._span(job) - 2]], "stalls": [[0]]}
        return {
            "fetch": self.port("fetch").pack(
                **{f.name: values for f, values in zip(self.port("fetch").fields, wanted, strict=True)}
            ),
            "o": self.port("o").pack(y=y, last=np.arange(len(y)) == len(y) - 1),
            "stats": self.port("stats").pack(**counters),
        }

    @staticmethod
    def fetched(job: ExpertBatch) -> list[int]:
        """Places in ``job.experts``."""
        return [0, *(1 + queue.expert for queue in job.queues)]

    def wanted(self, job: ExpertBatch, number: int) -> Iterator[tuple[int, ...]]:
        """An expert's tiles, each as ``fetch`` says it."""
        mine, places = job.experts[number], self.addresses(job)[number]
        for name, weights, phase in zip(MATRICES, mine.matrices, self._sizes(mine.neurons, 1), strict=True):
            beats, pars = self._beats(weights, phase)
            for tile in range(phase.tiles):
                last = name == MATRICES[-1] and tile == phase.tiles - 1
                yield number, places[name] + tile * beats, beats, places[f"{name}_par"] + tile * pars, pars, last

    def result(self, job: ExpertBatch, outputs: Mapping[str, Beats]) -> F32:
        y = self.port("o").unpack(outputs["o"])["y"]
        return y.reshape(len(job.x), self.d).astype(np.uint32).view(np.float32)
