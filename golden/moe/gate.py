"""Selection of a token's experts: specification and bit-true model of the unit ``gate``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.moe import softmax
from golden.moe.fp32 import ONE, add, multiply
from golden.orizuru.engine import RANKED, OrizuruSpec
from golden.orizuru.keys import KEYS
from golden.orizuru.timing import Load
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

LEAST_KEYS = 8
"""The engine's smallest vector."""

READ = 1
"""A score out of its memory."""

EXPONENTIAL = latency.ADD + 6
"""From a score to its exponential: difference, to fixed point, to base 2, table, two of interpolation, shift."""

PROBABILITY = softmax.QUOTIENT + 2
"""Cycles per probability: a bit each, and one to begin."""


@dataclass(frozen=True, eq=False)
class Table:
    """Of each expert, FP32 bit patterns ``[experts]``: what is added to its score, and the slope of its weight."""

    b: Int
    u: Int


@dataclass(frozen=True, eq=False)
class Token:
    """The scores of all experts and the threshold, FP32 bit patterns; how many are wanted at least and at most."""

    scores: Int
    k_min: int
    k_max: int
    tau: int = 0


@dataclass(frozen=True, eq=False)
class Group:
    """A job: tokens with one table. The unit without bias and scale has none."""

    tokens: tuple[Token, ...]
    table: Table | None = None


class GateSpec(UnitSpec):
    """The experts of a token: the best by biased score, by number, by threshold or both, and their weights.

    Formula     ``s = v`` or, with ``softmax``, ``s = softmax(v)`` over all scores of the token
                (:mod:`golden.moe.softmax`: error of a probability below 1.5e-7). ``key_j = s_j + b_j`` with ``bias``,
                else ``s_j``. Experts are ranked by key, falling, then by index, rising. Of the first ``k_max`` ranks
                those are selected that are below ``k_min`` or have ``s_j >= tau``. So k_min = k_max is a fixed number,
                k_min = 0 and k_max = experts a threshold alone. ``weight_j = 1 + s_j * u_j`` with ``scaled``, else 1.
                Every operation is rounded once in FP32.
    Order       ``-NaN < -inf < ... < -0 < +0 < ... < +inf < +NaN``, of keys and for ``tau``: NaN is selected first.
    Streams     ``i``: scores of a token, expert ``beat * lanes + lane``, tlast on the last. ``cfg``: a beat per token;
                ``load`` 1: it begins a new table, 0: that of the token before. ``table``: b and u of experts 0, 1, ...,
                a beat each, taken when the token of that ``cfg`` is the next and the one before is out; the first token
                after a reset always takes one. Without ``bias`` and ``scaled`` there is neither. ``o``: a beat per
                selected expert, best first, tlast on the last; a token without any gives one beat, all 0 (``valid``).
    Latency     ``latency`` cycles from the beat that ends a token of all experts to its first selected expert when two
                or more are, k_min = k_max, on an idle unit, cfg being there.
    Throughput  one token at a time, while the next one's scores come in: a cycle per expert, a step of the selector per
                rank of ``k_max``, ``latency``; with ``softmax`` a cycle more per expert and 30 for its probability.
                ``cycles`` is exact.
    Ranges      bits of ``sts_error``: 0: a token had more beats than experts need, the rest is lost; 1: fewer: experts
                without a score are not selected; 2: ``k_max`` above ``experts``, counts as that; 3, with ``softmax``:
                a score was not finite.
    Source      router of CMoE (arXiv 2502.04416): bias for balance, weight ``1 + p u``, threshold or top-k.
    Not done    selected weights are not normalised to a sum of 1.
    """

    unit: ClassVar[str] = "gate"

    experts: int = param(8, "experts to select from", low=1, high=64)
    lanes: int = param(1, "scores per beat", low=1, high=64)
    bias: bool = param(True, "a number per expert is added to its score before ranking")
    scaled: bool = param(True, "weight 1 + score * u; false: 1")
    softmax: bool = param(False, "scores are probabilities: softmax of what comes")
    selector: str = param("queue", "variant of the top-k engine", choices=RANKED)

    def _check(self) -> None:
        if self.lanes > self.experts:
            raise SpecError(f"lanes must be at most experts = {self.experts}, not {self.lanes}")

    @property
    def engine(self) -> OrizuruSpec:
        """The selector: a key per cycle."""
        n = max(LEAST_KEYS, self.experts)
        return OrizuruSpec(n=n, key="fp32", k_max=self.experts, lanes=1, sides="largest", variant=self.selector)

    @property
    def parameters_of_experts(self) -> tuple[str, ...]:
        """What an entry of the table has."""
        return ("b",) * self.bias + ("u",) * self.scaled

    @property
    def rows(self) -> int:
        """Beats of a token."""
        return -(-self.experts // self.lanes)

    @property
    def count_bits(self) -> int:
        return self.experts.bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        index = max(1, (self.experts - 1).bit_length())
        expert, valid = Field("expert", index, f"uint{index}"), Field("valid", 1, "uint1")
        score, weight, tau, *entry = (
            Field(name, 32, "fp32") for name in ("score", "weight", "tau", *self.parameters_of_experts)
        )
        counts = [Field(name, self.count_bits, f"uint{self.count_bits}") for name in ("k_min", "k_max")]
        load = [Field("load", 1, "uint1")] if entry else []
        streams = [
            StreamPort("i", "in", self.lanes, (score,), "token", "scores, expert after expert"),
            StreamPort("cfg", "in", 1, (*load, *counts, tau), "", "how many, and the threshold; one per token"),
        ]
        if entry:
            streams.append(StreamPort("table", "in", 1, tuple(entry), "", f"of experts 0 to {self.experts - 1}"))
        return (*streams, StreamPort("o", "out", 1, (expert, weight, valid), "token", "selected experts, best first"))

    @property
    def status(self) -> tuple[StatusPort, ...]:
        causes = ("a token had too many scores", "a token had too few scores", "k_max was above experts")
        return (StatusPort("error", (*causes, "a score was not finite") if self.softmax else causes),)

    @property
    def depth(self) -> int:
        """Cycles from a score to its key and its weight."""
        return max(latency.ADD * self.bias, (latency.MULTIPLY + latency.ADD) * self.scaled)

    def keys(self, n: int) -> int:
        """Cycles from the one in which a token of ``n`` scores begins to its last key at the selector."""
        if not self.softmax:
            return n + READ + self.depth
        exponentials = n + READ + n + READ + EXPONENTIAL
        return exponentials + n * PROBABILITY + 1 + latency.ROUND + self.depth

    @property
    def latency(self) -> int:
        """Skid buffer, written, begin; keys; selected; the next one is known, skid buffer."""
        return latency.SKID + 1 + self.keys(self.experts) + self.engine.latency + self.engine.timing.step + latency.SKID

    def figures(self) -> dict[str, int | float]:
        token = Token(np.zeros(self.experts, np.int64), self.experts, self.experts)
        return {"latency": self.latency, f"cycles_k{self.experts}": self._span(token)}

    def compute(self, job: Group) -> Int:
        """``[selected, 3]``: number of the token, expert, weight."""
        return np.concatenate([self._selected(number, t, job.table) for number, t in enumerate(job.tokens)])

    def ranks(self, token: Token, table: Table | None) -> tuple[Int, NDArray[np.bool_], Int]:
        """The experts that are looked at, best first; whether each is selected; the weights of all experts."""
        scores = self._padded(token)[: self.experts]
        if self.softmax:
            scores = softmax.softmax(scores)
        b, u = (table.b[: len(scores)], table.u[: len(scores)]) if table else (scores, scores)
        keys = add(scores, b) if self.bias else scores
        order = KEYS["fp32"].order
        ranked = np.lexsort((np.arange(len(keys)), -order(keys)))[: token.k_max]
        above = (order(scores) >= order(np.array(token.tau)))[ranked]
        ones = np.full(len(scores), ONE)
        weights = add(ones, multiply(scores, u)) if self.scaled else ones
        return ranked, (np.arange(len(ranked)) < token.k_min) | above, weights

    def _selected(self, number: int, token: Token, table: Table | None) -> Int:
        ranked, kept, weights = self.ranks(token, table)
        chosen = ranked[kept]
        return np.stack([np.full(len(chosen), number), chosen, weights[chosen]], axis=1)

    def errors(self, job: Group) -> int:
        """The bits of ``sts_error`` that a job sets."""
        found = 0
        for token in job.tokens:
            beats = self._beats(token)
            found |= (beats > self.rows) | 2 * (beats < self.rows) | 4 * (token.k_max > self.experts)
            if self.softmax:
                strange = self._padded(token)[: self.experts] >> 23 & 255 == 255
                found |= 8 * bool(strange.any())
        return found

    def _padded(self, token: Token) -> Int:
        """The scores of whole beats."""
        return np.pad(token.scores, (0, -len(token.scores) % self.lanes))

    def _beats(self, token: Token) -> int:
        return -(-len(token.scores) // self.lanes)

    def inputs(self, job: Group) -> dict[str, Beats]:
        tokens = job.tokens
        lengths = np.array([self._beats(token) for token in tokens])
        scores = np.concatenate([self._padded(token) for token in tokens])
        last = np.isin(np.arange(lengths.sum()) + 1, np.cumsum(lengths))
        cfg: dict[str, Any] = {name: [getattr(t, name) for t in tokens] for name in ("k_min", "k_max", "tau")}
        streams = {"i": self.port("i").pack(score=scores.reshape(-1, self.lanes), last=last)}
        if job.table is None:
            return streams | {"cfg": self.port("cfg").pack(**cfg)}
        entries = {name: getattr(job.table, name) for name in self.parameters_of_experts}
        cfg["load"] = np.arange(len(tokens)) == 0
        return streams | {"cfg": self.port("cfg").pack(**cfg), "table": self.port("table").pack(**entries)}

    def outputs(self, job: Group, result: Int) -> dict[str, Beats]:
        rows, last = [], []
        for number, _ in enumerate(job.tokens):
            mine = result[result[:, 0] == number, 1:]
            rows.append(np.pad(mine, ((0, 0), (0, 1)), constant_values=1) if len(mine) else np.zeros((1, 3), np.int64))
            last.append(np.arange(len(rows[-1])) == len(rows[-1]) - 1)
        expert, weight, valid = np.concatenate(rows).T
        return {"o": self.port("o").pack(expert=expert, weight=weight, valid=valid, last=np.concatenate(last))}

    def result(self, job: Group, outputs: Mapping[str, Beats]) -> Int:
        fields, last = self.port("o").unpack(outputs["o"]), outputs["o"].last
        number: Int = np.cumsum(last) - last
        rows = np.stack([number, fields["expert"][:, 0], fields["weight"][:, 0]], axis=1)
        return rows[fields["valid"][:, 0] == 1]

    def _span(self, token: Token) -> int:
        """Cycles from the one in which a token begins to the one in which its last expert goes out."""
        n = min(self.experts, self._beats(token) * self.lanes)
        results = self.engine.results(n, token.k_max)
        selecting = self.engine.timing.cycles([Load(n, results)]) - n
        return self.keys(n) + selecting + 1

    def cycles(self, *jobs: Group) -> int:
        """Token by token: its scores are in, it begins, its last expert goes out."""
        filled, free, end = latency.SKID - 1, 0, latency.SKID - 1
        for job in jobs:
            for place, token in enumerate(job.tokens):
                filled, before = max(filled, free) + self._beats(token), end
                table = before + 1 + self.experts if job.table and not place else 0
                begin = max(filled + 1, before, table)
                free, end = before, begin + self._span(token)
        return end + latency.SKID + 1
