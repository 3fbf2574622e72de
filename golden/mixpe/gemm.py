"""The GEMM engine ``mixpe``: specification, stream layout and bit-true model."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.formats import FLOATS, OUTPUTS, ROUNDINGS, IntegerOutput, NumberFormat
from golden.mixpe import model, schedule
from golden.mixpe.formats import (
    ACTS,
    ALIGNED,
    EXPONENTS,
    SOURCES,
    WEIGHTS,
    ActFormat,
    WeightFormat,
    signed_bits,
    sum_range,
)
from golden.mixpe.job import Gemm
from golden.mixpe.pe import CORES, STAGES, PESpec, columns
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

DATAFLOWS = ("output_stationary", "weight_stationary")


class MixPESpec(UnitSpec):
    """Mixed-precision GEMM engine: a systolic array of MixPE elements, dequantised once per group.

    Formula     ``A[m,n,g] = sum over k in g of q[k,n]*x[m,k]``, ``S[m,g] = sum over k in g of x[m,k]``, both exact, of
                values of integer codes and of floating-point ones;
                ``y[m,n] = x_scale[m] * sum over g of scale[g,n]*(A - zero[g,n]*S)``, for ``uint4_min`` of
                ``scale[g,n]*A + min[g,n]*S``.
                Activations ``..._aligned`` are rounded to significands on their group's largest exponent
                (:func:`golden.mixpe.formats.align`). With scales of uint8 the sum is times the channel's scale too.
    Rounding    ``accumulate=exact``: the sum over groups is an exact integer (grid 2^-24, 2^-40 with power-of-two
                activation scales), rounded once to FP32, then multiplied by the token's scale with one rounding.
                ``accumulate=fp32``: A and S to FP32, then every product and sum rounded to FP32, groups ascending,
                ``acc = acc + (scale*A + min*S)`` from +0. Always to nearest even, subnormals included. Powers of two
                are exact factors of A and S and replace the token's scale.
                Results of another format are rounded once more, from FP32; ``int32`` and ``int64`` are the exact sums,
                of e2m1 in halves.
                NaN and infinity follow IEEE 754; every NaN leaves as 0x7FC00000 (0x7E00, 0x7FC0). With zero points or
                minima a NaN or infinite activation makes the row NaN.
    Dataflow    what follows is ``output_stationary``; the other is :class:`golden.mixpe.stationary.WeightStationary`.
    Handshake   AXI4-Stream. ``act``: one step's R activations; ``wgt``: the same step's C codes; both mark a tile's
                last step with tlast. ``par``: one beat per group, column c's parameters in lane c. ``scl``: the tokens'
                scales, one beat per tile (one per group with powers of two); ``chn``: the channels', one per tile. A
                tile is R x C results over any number of steps up to ``k_max``; the last group of a tile may be short.
                Tiles follow one another without a gap; activations are streamed again for each tile of columns. Results
                leave row-major, ``words`` per beat, tlast on a tile's last beat.
    Latency     ``latency`` cycles from the step that ends a tile to its first result beat, ``cycles(job)`` for all.
    Throughput  one step per cycle. A group's period is max(its length, ceil(R*C/lanes), the recurrence of the
                cross-group adder); with groups no shorter than that, and results that leave in the tile's time, one
                tile every K cycles.
    Ranges      accumulator widths are derived: no overflow for tiles of up to ``k_max`` steps.
    Status      ``sts_error`` bit 0: tlast of act and wgt disagreed (the tile ended at the earlier one); bit 1: a tile
                longer than ``k_max`` (its results are undefined). Sticky until reset; the streams go on. (Aligned
                activations without their tlast are aligned with those of the next tile.)
    Source      MixPE (arXiv 2411.16158): dequantisation after the group sum, shift-and-add products. The minimum is
                that of the Q4_1 file format.
    Not done    code -8 of ``int4_sym`` is outside the contract; no bias.
    """

    unit: ClassVar[str] = "mixpe"

    weight: str = param("uint4_min", "weight format", choices=tuple(WEIGHTS))
    act: str = param("int8", "activation format", choices=(*ACTS, *SOURCES))
    rows: int = param(16, "rows of the array: tokens of a tile", low=1, high=64)
    cols: int = param(16, "columns of the array: output channels of a tile", low=1, high=64)
    group: int = param(32, "steps that share a scale, 16 to 256; 0: one scale per channel", low=0, high=256)
    k_max: int = param(4096, "largest number of steps of a tile; sets the accumulator widths", low=1, high=65536)
    scale: str = param("fp16", "format of weight scales and minima", choices=tuple(FLOATS))
    accumulate: str | None = param(
        None,
        "sum over groups: exact (derived for integer activations and scales fp16, e4m3, uint8) or fp32",
        choices=("exact", "fp32"),
    )
    act_scale: str | None = param(
        None,
        "activation scale: FP32 per token (derived for integers), power of two per token and group, none (for floats)",
        choices=("token", "pow2", "none"),
    )
    align: int | None = param(None, "bits of aligned activations: 8, 12, 16, 20, 24; derived: 16, or 0", low=0, high=24)
    out: str = param("fp32", "format of the results; int32, int64: the sums of integers", choices=tuple(OUTPUTS))
    rounding: str = param("half_even", "where ties go in results of int8 and int8_sym", choices=ROUNDINGS)
    core: str = param("shift_add", "product core", choices=CORES)
    stages: int = param(1, STAGES, low=1, high=3)
    dataflow: str = param("output_stationary", "what stays in the array", choices=DATAFLOWS)
    tokens: int | None = param(
        None,
        "tokens of a tile; derived: rows, or 64 of stationary weights, which alone leave a choice",
        low=1,
        high=1024,
    )
    lanes: int | None = param(
        None, "dequantiser lanes; derived: the fewest that drain a group in its own time", low=1, high=schedule.MOST
    )
    words: int | None = param(
        None, "result words per output beat; derived: at least 4 and no fewer than lanes", low=1, high=schedule.MOST
    )

    def __new__(cls, **values: Any) -> "MixPESpec":
        """``MixPESpec(dataflow="weight_stationary")`` is a :class:`~golden.mixpe.stationary.WeightStationary`."""
        from golden.mixpe.stationary import WeightStationary

        stationary = cls is MixPESpec and values.get("dataflow") == "weight_stationary"
        return super().__new__(WeightStationary if stationary else cls)

    def _derive(self) -> dict[str, Any]:
        options = self._grids
        floating = self.stream_format.floating
        derived: dict[str, Any] = {
            "accumulate": "exact" if self.scale_format.exact and not floating else "fp32",
            "act_scale": "none" if floating or self.raw else "token",
            "align": 16 if self.aligned else 0,
            "tokens": self.rows,
        }
        if self.group:
            derived["lanes"] = next((n for n in options if n * self.group >= self.rows * self.cols), None)
        lanes = self.lanes or derived.get("lanes")
        if lanes in options:
            words = schedule.words_options(options[lanes])
            derived["words"] = next((w for w in words if w >= max(4, lanes)), words[-1])
        return derived

    def _check(self) -> None:
        if 0 < self.group < 16:
            raise SpecError(f"group must be 0 or an integer between 16 and 256, not {self.group}")
        for name, coarse in (("scale", not self.scale_format.exact), ("act", self.act == "bf16_aligned")):
            if self.accumulate == "exact" and coarse:
                raise SpecError(f"accumulate must be fp32 where {name} is {getattr(self, name)}, not 'exact'")
        if self.aligned and self.align not in ALIGNED:
            raise SpecError(f"align must be one of {listed(ALIGNED)}, not {self.align}")
        if not self.aligned and self.align:
            raise SpecError(f"align must not be given where act is {self.act}, not {self.align}")
        if self.rounding != "half_even" and self.out not in ("int8", "int8_sym"):
            raise SpecError(f"rounding must be half_even where out is {self.out}, not {self.rounding!r}")
        if self.raw:
            self._check_raw()
        if self.act_scale == "pow2" and self.stream_format.floating:
            raise SpecError(f"act_scale must be token or none where act is {self.act}, not 'pow2'")
        if self.weight_format.correction == "min" and not self.scale_format.signed:
            raise SpecError(f"scale must have a sign for the minima of {self.weight}, not {self.scale!r}")
        factor = self.scale_significand_bits if self.accumulate == "exact" else 0
        if self.corrected_width + factor > 63:
            raise SpecError(
                f"group must be shorter for {self.weight}, {self.act} and accumulate {self.accumulate}, "
                f"not {self.length} steps: their sum would have {self.corrected_width + factor} bits, the most are 63"
            )
        if self.cols % self.pe.columns:  # the element refuses what no element can do
            raise SpecError(f"cols must be even for core {self.core}, not {self.cols}")
        self._check_array()

    def _check_array(self) -> None:
        """Rules of the dataflow."""
        if self.tokens != self.rows:
            raise SpecError(f"tokens must be rows = {self.rows} for {self.dataflow}, not {self.tokens}")
        options = self._grids
        shape = f"a {self.rows} x {self.cols} array"
        if self.lanes is None:
            where = f"none drain a group of {self.group} steps in its own time" if self.group else "group is 0"
            raise SpecError(f"lanes must be given where {where}; {shape} can have {listed(options)}")
        if self.lanes not in options:
            raise SpecError(f"lanes must be one of {listed(options)} for {shape}, not {self.lanes}")
        words = schedule.words_options(self.grid)
        if self.words not in words:
            raise SpecError(
                f"words must be one of {listed(words)} for {shape} with {self.lanes} lanes, not {self.words}"
            )
        word = self.pe.sum_width + self.row_sum_width + 2 * self.special_width
        readout = self.rows * self.grid.lane_cols * word
        if readout > 65000:
            raise SpecError(
                f"lanes must be fewer than {self.lanes} for {shape}: its read-out would have {readout} bits"
            )

    def _check_raw(self) -> None:
        """Sums that leave as integers: nothing but integers goes into them."""
        if self.stream_format.floating:
            raise SpecError(f"act must be an integer format where out is {self.out}, not {self.act!r}")
        for name, needed in (("scale", "uint8"), ("accumulate", "exact"), ("act_scale", "none")):
            if getattr(self, name) != needed:
                raise SpecError(f"{name} must be {needed} where out is {self.out}, not {getattr(self, name)!r}")
        if self.total_width > self.out_format.bits:
            raise SpecError(
                f"out must have at least {self.total_width} bits for tiles of k_max = {self.k_max}, not {self.out!r}"
            )

    # --- formats and widths ---

    @property
    def weight_format(self) -> WeightFormat:
        return WEIGHTS[self.weight]

    @property
    def aligned(self) -> bool:
        """Whether activations are aligned to the largest exponent of their group."""
        return self.act in SOURCES

    @property
    def act_format(self) -> ActFormat:
        """Activations as the elements see them."""
        return ALIGNED[self.align or 16] if self.aligned else ACTS[self.act]

    @property
    def stream_format(self) -> ActFormat:
        """Activations as they come."""
        return SOURCES.get(self.act) or ACTS[self.act]

    @property
    def scale_format(self) -> NumberFormat:
        return FLOATS[self.scale]

    @property
    def out_format(self) -> NumberFormat | IntegerOutput:
        return OUTPUTS[self.out]

    @property
    def raw(self) -> bool:
        """Whether results are the exact sums themselves."""
        return isinstance(self.out_format, IntegerOutput) and self.out_format.raw

    @property
    def channel_scaled(self) -> bool:
        """Whether each output channel has an FP32 scale of its own, beside those of its groups."""
        return self.scale_format.integer and not self.raw

    @property
    def length(self) -> int:
        """Steps of the longest group."""
        return min(self.group or self.k_max, self.k_max)

    @property
    def pe(self) -> PESpec:
        """The processing element of this engine."""
        act = self.act_format.name
        return PESpec(weight=self.weight, act=act, group=self.length, core=self.core, stages=self.stages)

    @property
    def row_sum_width(self) -> int:
        """Bits of S, a group's sum of activations."""
        return signed_bits(self.length * self.act_format.low, self.length * self.act_format.high)

    @property
    def _reach(self) -> tuple[int, int]:
        """Smallest and largest weight, in units of the scale, that an activation meets: q, q - zero or q again."""
        f = self.weight_format
        return {"none": f.operands, "zero": (f.low - f.high, f.high - f.low), "min": (f.low, f.high)}[f.correction]

    @property
    def special_width(self) -> int:
        """Bits that mark a sum as infinite or NaN."""
        return self.pe.special_width

    @property
    def corrected_width(self) -> int:
        """Bits of the integer that the scale multiplies: A less the zero point's share, or A of unsigned codes."""
        return signed_bits(*sum_range(self._reach, (self.act_format.low, self.act_format.high), self.length))

    @property
    def sum_exponent(self) -> int:
        """A group's sum is an integer times two to this, and to the exponent of the group's activations."""
        return self.act_format.exponent + self.weight_format.exponent

    @property
    def exponents(self) -> tuple[int, int]:
        """Range of the exponents that activations have per token and group; 0 and 0 where they have none."""
        if self.aligned:
            source = self.stream_format
            low = source.exponent + source.fraction_bits + 2 - self.act_format.significand_bits
            return low, low + source.max_shift
        return EXPONENTS if self.act_scale == "pow2" else (0, 0)

    @property
    def exponent_bits(self) -> int:
        """Bits of such an exponent, counted from the smallest."""
        return (self.exponents[1] - self.exponents[0]).bit_length()

    @property
    def scale_significand_bits(self) -> int:
        """Bits of the signed significand of a scale."""
        return self.scale_format.fraction_bits + 2

    @property
    def grid_exponent(self) -> int:
        """The exact sum over groups is an integer times two to this."""
        return self.scale_format.least_exponent + self.sum_exponent + self.exponents[0]

    @property
    def total_width(self) -> int:
        """Bits of the exact sum over groups."""
        f = self.weight_format
        per_step = max(abs(v) for v in sum_range(self._reach, (self.act_format.low, self.act_format.high), 1))
        if f.correction == "min":
            per_step += -self.act_format.low
        largest = ((1 << (self.scale_format.fraction_bits + 1)) - 1) << self.scale_format.max_shift
        largest <<= self.exponents[1] - self.exponents[0]
        return signed_bits(-largest * per_step * self.k_max, largest * per_step * self.k_max)

    # --- time ---

    @property
    def grid(self) -> schedule.Grid:
        assert self.lanes
        return self._grids[self.lanes]

    @property
    def _grids(self) -> dict[int, schedule.Grid]:
        return schedule.grids(self.rows, self.cols, columns(self.core))

    @property
    def slots(self) -> int:
        """Results whose sums over groups a lane keeps."""
        return self.grid.depth

    @property
    def dequant_latency(self) -> int:
        """Cycles through the dequantiser: correction 1; then exact: multiply 1, shift 1, add 1, accumulate 1 (there are
        the raw results), magnitude 1 and rounding; or fp32: magnitude 1, rounding, multiply, (add the minimum's share,)
        accumulate."""
        if self.raw:
            return 5
        if self.accumulate == "exact":
            return 6 + latency.ROUND
        add_min = latency.ADD if self.weight_format.correction == "min" else 0
        return 2 + latency.ROUND + latency.MULTIPLY + add_min + latency.ADD

    @property
    def finish_latency(self) -> int:
        """Cycles from a dequantised sum to its result: times the channel's scale and the token's, converted."""
        scaled = latency.MULTIPLY * (self.channel_scaled + (self.act_scale == "token"))
        return scaled + (0 if self.out == "fp32" or self.raw else latency.CONVERT)

    @property
    def lane_depth(self) -> int:
        """A lane reads a sum in two cycles (row, lane), dequantises and finishes it."""
        return 2 + self.dequant_latency + self.finish_latency

    @property
    def recurrence(self) -> int:
        """Smallest distance, in cycles, of two groups of one result."""
        return 2 if self.accumulate == "exact" else latency.ADD + 2

    @property
    def timing(self) -> schedule.Timing:
        assert self.words
        align = latency.BLOCK_QUEUE + 2 if self.aligned else 0
        return schedule.Timing(self.grid, self.pe.depth, self.lane_depth, self.recurrence, self.words, align)

    @property
    def latency(self) -> int:
        return 2 * latency.SKID + self.timing.first

    def figures(self) -> dict[str, int | float]:
        t = self.timing
        return {
            "latency": self.latency,
            "macs_per_cycle": self.rows * self.cols,
            "group_period_min": t.period,
            "tile_beats": t.beats,
            "tiles_under_way": t.tiles,
            f"cycles_16_tiles_k{min(576, self.k_max)}": t.cycles([min(576, self.k_max)] * 16, self.group),
        }

    def cycles(self, *jobs: Gemm) -> int:
        lengths = [job.shape[1] for job in jobs for _ in self.tiles(job)]
        return self.timing.cycles(lengths, self.group)

    def steps(self, job: Gemm) -> int:
        """Cycles in which the array takes activations: those of a job without a bubble."""
        return sum(len(self._pack_act(job.x[m])) for m, _ in self.tiles(job))

    # --- arithmetic ---

    def compute(self, job: Gemm) -> NDArray[Any]:
        return model.compute(self, job)

    # --- streams ---

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        f, x = self.weight_format, self.stream_format
        bits = self.scale_format.bits
        par = [Field("scale", bits, self.scale)]
        if f.correction == "zero":
            par.append(Field("zero", f.bits, f.code_format))
        elif f.correction == "min":
            par.append(Field("min", bits, self.scale))
        if self.act_scale == "pow2":
            scl, doc = Field("exponent", 5, "int5"), "exponents of the tokens' powers of two; one beat per group"
        else:
            scl, doc = Field("scale", 32, "fp32"), "the tokens' scales; one beat per tile"
        scales = [] if self.act_scale == "none" else [StreamPort("scl", "in", self.rows, (scl,), "", doc)]
        if self.channel_scaled:
            doc = "the output channels' scales; one beat per tile"
            scales.append(StreamPort("chn", "in", self.cols, (Field("scale", 32, "fp32"),), "", doc))
        assert self.words
        beats = self.rows * self.cols // self.words
        integer = f"int{self.out_format.bits}"
        result = Field("y", self.out_format.bits, integer if self.out.startswith("int") else self.out)
        return (
            StreamPort(
                "act",
                "in",
                self.rows,
                (Field("x", x.bits, x.name),),
                "tile",
                "one step's activations; K beats per tile",
            ),
            StreamPort(
                "wgt",
                "in",
                self.cols,
                (Field("q", f.bits, f.code_format),),
                "tile",
                "one step's weight codes; K beats per tile",
            ),
            StreamPort("par", "in", self.cols, tuple(par), "", "the columns' parameters; one beat per group"),
            *scales,
            StreamPort("o", "out", self.words, (result,), "tile", f"results, row-major; {beats} beats per tile"),
        )

    @property
    def step_port(self) -> StreamPort:
        """Inside: one step's activations as they are fed, behind the aligner where there is one."""
        if not self.aligned:
            return self.port("act")
        significand = Field("x", self.act_format.bits, f"uint{self.act_format.bits}")
        fields = (significand, Field("up", self.exponent_bits, f"uint{self.exponent_bits}"))
        return StreamPort("act", "in", self.rows, fields, "tile", "one step's activations and their group's exponents")

    @property
    def column_width(self) -> int:
        """Inside: bits of a column's parameters, its channel's scale among them."""
        return self.port("par").lane_width + (32 if self.channel_scaled else 0)

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("tlast of act and wgt disagreed", "a tile was longer than k_max")),)

    def inputs(self, job: Gemm) -> dict[str, Beats]:
        model.check(self, job)
        act, wgt, par, *scales, _ = self.ports
        scale, extra = self.scale_format.code(job.scale), job.extra
        if extra is not None and self.weight_format.correction == "min":
            extra = self.scale_format.code(extra)
        beats: dict[str, list[Beats]] = {p.name: [] for p in (act, wgt, par, *scales)}
        for m, n in self.tiles(job):
            beats["act"].append(self._pack_act(job.x[m]))
            beats["wgt"].append(self._pack_wgt(job.w[:, n]))
            fields = {"scale": pad(scale[:, n], self.cols)}
            if extra is not None:
                fields[par.fields[1].name] = pad(extra[:, n], self.cols)
            beats["par"].append(par.pack(**fields))
            for port in scales:
                if port.name == "chn":
                    assert job.channel is not None
                    values = pad(_bits(job.channel[None, n]), self.cols)
                else:
                    assert job.x_scale is not None
                    values = self._spread(_bits(job.x_scale[m]).reshape(len(job.x[m]), -1).T)
                beats[port.name].append(port.pack(**{port.fields[0].name: values}))
        return {name: Beats.concatenate(parts) for name, parts in beats.items()}

    def _pack_act(self, x: NDArray[Any]) -> Beats:
        """One tile's activations, ``[tokens, K]``."""
        return self.port("act").pack(x=self._spread(x.T), last=ends(x.shape[1], x.shape[1]))

    def _pack_wgt(self, w: NDArray[Any]) -> Beats:
        """One tile's weights, ``[K, columns]``."""
        return self.port("wgt").pack(q=pad(w, self.cols), last=ends(len(w), len(w)))

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """One tile's values, ``[n, tokens]``, on the lanes of their stream."""
        return pad(values, self.rows)

    def _height(self, m: slice) -> int:
        """Rows of results that a tile of the tokens ``m`` delivers."""
        return self.rows

    def outputs(self, job: Gemm, result: NDArray[Any]) -> dict[str, Beats]:
        port = self.ports[-1]
        edge = model.padding(self, job, result)
        parts = []
        for m, n in self.tiles(job):
            tile = _edge_pad(edge[m.start : m.stop + 1, n.start : n.stop + 1], self._height(m), self.cols)
            words = self.out_format.code(tile).reshape(-1, port.lanes)
            parts.append(port.pack(y=words, last=ends(len(words), len(words))))
        return {"o": Beats.concatenate(parts)}

    def result(self, job: Gemm, outputs: Mapping[str, Beats]) -> NDArray[Any]:
        words = self.out_format.value(self.ports[-1].unpack(outputs["o"])["y"])
        y = np.empty((job.shape[0], job.shape[2]), dtype=words.dtype)
        rows, at = words.reshape(-1, self.cols), 0
        for m, n in self.tiles(job):
            out = y[m, n]
            out[...] = rows[at : at + out.shape[0], : out.shape[1]]
            at += self._height(m)
        if at != len(rows):
            raise ValueError(f"results must be {at} rows of words, not {len(rows)}")
        return y

    def tiles(self, job: Gemm) -> Iterator[tuple[slice, slice]]:
        """Tokens and columns of each tile, in the order in which a job streams them."""
        m, _, n = job.shape
        assert self.tokens
        for i in range(0, m, self.tokens):
            for j in range(0, n, self.cols):
                yield slice(i, min(i + self.tokens, m)), slice(j, min(j + self.cols, n))


def ends(beats: int, every: int) -> NDArray[np.bool_]:
    """tlast of ``beats`` beats: one in ``every``."""
    return np.arange(1, beats + 1) % every == 0


def pad(beats: NDArray[Any], lanes: int) -> NDArray[Any]:
    """``[n, used]`` to ``[n, lanes]``: zeros in the lanes that a partial tile leaves unused."""
    return np.pad(beats, ((0, 0), (0, lanes - beats.shape[1])))


def _edge_pad(values: NDArray[Any], rows: int, cols: int) -> NDArray[Any]:
    """First ``rows x cols`` of ``values``, whose last row and column repeat as far as needed."""
    grow = ((0, max(0, rows - values.shape[0])), (0, max(0, cols - values.shape[1])))
    return np.pad(values, grow, mode="edge")[:rows, :cols]


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Bit patterns of floats, integers as they are."""
    return values.view(f"u{values.itemsize}") if values.dtype.kind == "f" else values


def listed(options: Any) -> str:
    return ", ".join(map(str, options))
