"""The GEMM engine with stationary weights: what differs in specification, stream layout and time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.mixpe.formats import signed_bits
from golden.mixpe.gemm import MixPESpec, ends, listed, pad
from golden.mixpe.job import Gemm
from golden.mixpe.passes import Passes
from golden.mixpe.pe import PESpec, columns
from golden.ports import Beats, StatusPort, StreamPort
from golden.spec import SpecError


class WeightStationary(MixPESpec):
    """GEMM engine whose weights stay in the array while tokens pass: :class:`MixPESpec` with another dataflow.

    Formula     as :class:`MixPESpec`, bit for bit: the array and the accumulators below it are exact.
    Rounding    as :class:`MixPESpec`.
    Handshake   AXI4-Stream. A tile is up to ``tokens`` tokens by ``cols`` columns over any number of steps up to
                ``k_max``, in ``ceil(K / rows)`` passes. ``wgt``: one step's C codes, R beats per pass, the last pass
                filled up, tlast on a tile's last. ``act``: R consecutive activations of one token, 0 beyond K; the
                tokens in order once per pass, tlast on each pass's last. ``par``: one beat per group. ``scl``: one
                token's scale per beat, all tokens once per tile (once per group with powers of two). Results leave
                token by token, ``words`` per beat, tlast on a tile's last beat; tokens are never filled up.
    Latency     ``latency`` cycles from a token of a tile's last pass to its first result beat, where nothing waits.
    Throughput  one token per cycle. A pass's period is max(its tokens, R, the recurrence of the cross-group adder).
    Ranges      ``group`` is 0 or a multiple of ``rows``; ``lanes`` is ``cols``, ``words`` a divisor of it.
    Status      ``sts_error`` bit 0: passes of one tile with unequal numbers of tokens, or tlast of wgt inside a pass
                (where it does not end the tile); bit 1: a tile of more passes than ``k_max`` needs, or of more than
                ``tokens`` tokens. Results of such a tile are undefined. Sticky until reset; the streams go on.
    Source      MixPE (arXiv 2411.16158); weights held in the array and changed behind a wave: the usual practice.
    Not done    the activations of a tile are streamed again for each tile of columns; short passes load R steps.
    """

    def _derive(self) -> dict[str, Any]:
        least = max(4, -(-self.rows * self.cols // self.length))
        words = self._words_options()
        derived = {"lanes": self.cols, "tokens": 64, "words": next((w for w in words if w >= least), words[-1])}
        return super()._derive() | derived

    def _words_options(self) -> list[int]:
        return [w for w in range(1, self.cols + 1) if self.cols % w == 0]

    def _check_array(self) -> None:
        if self.dataflow != "weight_stationary":
            raise SpecError(f"dataflow must be weight_stationary for stationary weights, not {self.dataflow!r}")
        if self.aligned:
            raise SpecError(f"act must not be aligned for {self.dataflow}, not {self.act!r}")
        if self.scale_format.integer:
            raise SpecError(f"scale must be a floating-point format for {self.dataflow}, not {self.scale!r}")
        if columns(self.core) > 1:
            raise SpecError(f"core must be of one column for {self.dataflow}, not {self.core!r}")
        if self.group % self.rows:
            raise SpecError(
                f"group must be 0 or a multiple of rows = {self.rows} for {self.dataflow}, not {self.group}"
            )
        if self.lanes != self.cols:
            raise SpecError(f"lanes must be cols = {self.cols} for {self.dataflow}, not {self.lanes}")
        if self.words not in self._words_options():
            raise SpecError(
                f"words must be one of {listed(self._words_options())} for {self.cols} columns, not {self.words}"
            )

    # --- widths ---

    @property
    def element(self) -> PESpec:
        """The element: it sums a column's products of one pass."""
        steps = min(self.rows, self.length)
        return PESpec(weight=self.weight, act=self.act, group=steps, core=self.core, stages=self.stages)

    @property
    def pass_row_sum_width(self) -> int:
        """Bits of a pass's sum of activations."""
        steps = self.element.group
        return signed_bits(steps * self.act_format.low, steps * self.act_format.high)

    # --- time ---

    @property
    def group_passes(self) -> int:
        """Passes of a full group; 0 where a tile is one group."""
        return self.group // self.rows

    @property
    def most_passes(self) -> int:
        """Passes of the longest tile."""
        return -(-self.k_max // self.rows)

    @property
    def slots(self) -> int:
        assert self.tokens
        return self.tokens

    @property
    def passes(self) -> Passes:
        assert self.words
        return Passes(self.rows, self.cols, self.slots, self.words, self.stages, self.lane_depth, self.recurrence)

    @property
    def latency(self) -> int:
        return 2 * latency.SKID + self.passes.first

    def figures(self) -> dict[str, int | float]:
        p, k = self.passes, min(576, self.k_max)
        return {
            "latency": self.latency,
            "macs_per_cycle": self.rows * self.cols,
            "pass_period_min": p.period(1),
            "token_beats": p.beats,
            "tokens_under_way": p.places,
            f"cycles_16_tiles_k{k}": p.cycles([(self.slots, -(-k // self.rows))] * 16),
        }

    def cycles(self, *jobs: Gemm) -> int:
        return self.passes.cycles(tile for job in jobs for tile in self._tile_sizes(job))

    def _tile_sizes(self, job: Gemm) -> Iterator[tuple[int, int]]:
        for m, _ in self.tiles(job):
            yield m.stop - m.start, -(-job.shape[1] // self.rows)

    # --- streams ---

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        act, wgt, par, *scl, o = super().ports
        beats = "group" if self.act_scale == "pow2" else "tile"
        return (
            replace(act, last="pass", doc="rows consecutive activations of a token; one beat per token and pass"),
            replace(wgt, doc="one step's weight codes; rows beats per pass"),
            par,
            *(replace(p, lanes=1, doc=f"a token's {p.fields[0].name}; one beat per token and {beats}") for p in scl),
            replace(o, doc=f"results, token by token; {self.passes.beats} beats per token"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        causes = (
            "passes of a tile had unequal numbers of tokens, or tlast of wgt stood inside a pass",
            "a tile was longer than k_max or had more tokens than fit",
        )
        return (StatusPort("error", causes),)

    def _pack_act(self, x: NDArray[Any]) -> Beats:
        tokens, k = x.shape
        passes = -(-k // self.rows)
        lanes = pad(x, passes * self.rows).reshape(tokens, passes, self.rows).transpose(1, 0, 2)
        return self.port("act").pack(x=lanes.reshape(-1, self.rows), last=ends(tokens * passes, tokens))

    def _pack_wgt(self, w: NDArray[Any]) -> Beats:
        steps = -(-len(w) // self.rows) * self.rows
        w = np.pad(w, ((0, steps - len(w)), (0, 0)))
        return self.port("wgt").pack(q=pad(w, self.cols), last=ends(steps, steps))

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(-1, 1)

    def _height(self, m: slice) -> int:
        return int(m.stop - m.start)
