"""What prefetching experts gains on a real model's routing: ``python -m scripts.residency [--moe A,B] [--json FILE]``.

The text that ``senbazuru eval`` measures perplexity on goes through all layers of the converted model, ``batch`` tokens
at a time: every policy of the expert cache with every guess of what comes, caches of several sizes, memories of several
bandwidths. The decisions are those of ``golden.moe.residency``, the cycles those of ``golden.moe.stalls``: an array of
4 x 64, experts as stored (Q4_1). Guesses: none; the experts chosen most in the text that the predictor learned from;
those of the batch before in the same layer; the router of the layer on the input of the layer before; the predictor of
``senbazuru predict``; the router itself (oracle); all experts of a layer (as if there were no prediction).

hits       of the experts that a batch needs in a layer: there, or on their way, when they are asked for
KB         loaded per token and layer
useless    of the prefetches: evicted before they were needed
B/cycle    of that bandwidth: cycles in which the array waits for an expert, of all
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from golden import model_store
from golden.files import write
from golden.moe.foresight import Ranks
from golden.moe.layer import MoEFFNSpec
from golden.moe.residency import BELADY, POLICIES, Counts
from golden.moe.stalls import Caches, Machine, Memory, Step, play, steps
from golden.spec import SpecError
from scripts import configuration, experts, sida, traces
from scripts.commands import predict
from scripts.explore import plot
from scripts.resumable import aligned
from scripts.traces import Traces

BATCHES = (1, 4, 16)
SHARES = (0.25, 0.5, 0.75)
"""Places of a layer's cache, of its routed experts."""
BANDWIDTHS = (4, 8, 16, 32, 64)
LATENCY = 200
TOKENS = 512
NONE, WHOLE = "none", "all"


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    moe: str
    batch: int
    slots: int
    """of each layer, or of all together"""
    shared: bool
    policy: str
    guess: str
    ahead: int


@dataclass(frozen=True)
class Result:
    """``ideal``: cycles if all experts were there; ``bytes``: of all loads; per bandwidth: cycles that the array waits,
    experts that came late."""

    setting: Setting
    experts: int
    tokens: int
    layers: int
    counts: Counts
    bytes: int
    ideal: int
    stalled: dict[int, int]
    late: dict[int, int]

    def waiting(self, bandwidth: int) -> float:
        """Share of the cycles."""
        return self.stalled[bandwidth] / (self.ideal + self.stalled[bandwidth])

    def cycles(self, bandwidth: int) -> int:
        return self.ideal + self.stalled[bandwidth]

    @property
    def row(self) -> dict[str, Any]:
        return asdict(self.setting) | {k: v for k, v in asdict(self).items() if k != "setting"}


class Study:
    """Of one conversion."""

    def __init__(self, name: str, of: Traces, guesses: dict[str, Ranks], neurons: int, tokens: int) -> None:
        self.name, self.guesses = name, guesses
        spec = of.spec
        size = spec.size(neurons)
        self.chosen = of.test.chosen(spec.active)[:tokens].astype(int)
        self.experts = spec.routed
        width = of.test.embedding.shape[1]
        fields = {"d": width, "neurons": spec.shared * size, "experts": spec.routed, "slots": spec.active}
        machine = MoEFFNSpec(**fields, tokens=max(BATCHES))
        self.machine = Machine(machine, spec.shared * size, size, spec.active)

    @property
    def half(self) -> int:
        """Of a layer's experts."""
        return max(1, round(self.experts / 2))

    @cache  # noqa: B019 - lives as long as the program
    def work(self, batch: int, guess: str) -> list[Step]:
        return steps(self.chosen, self._guess(guess), batch, late=guess == "previous", blind=guess == "next-router")

    def _guess(self, name: str) -> Ranks | None:
        """As :func:`~golden.moe.stalls.steps` takes it."""
        if name == WHOLE:
            return np.broadcast_to(np.arange(self.experts), (*self.chosen.shape[:2], self.experts))
        if name == "previous":
            return self.chosen
        return None if name == NONE else self.guesses[name][: len(self.chosen), :, : self.chosen.shape[2]]

    def result(self, setting: Setting, bandwidths: Iterable[int]) -> Result:
        work = self.work(setting.batch, setting.guess)
        caches = Caches(setting.slots, setting.policy, setting.shared, setting.ahead)
        planned, counts = caches.plan(work)
        tokens, layers = self.chosen.shape[:2]
        places = setting.slots * (1 if setting.shared else layers)
        times = {b: play(planned, places, self.machine, Memory(b, LATENCY)) for b in bandwidths}
        ideal = {time.cycles - time.stalled for time in times.values()}
        assert len(ideal) == 1
        stalled, late = ({b: getattr(t, name) for b, t in times.items()} for name in ("stalled", "late"))
        size = counts.loads * self.machine.size
        return Result(setting, self.experts, tokens, layers, counts, size, ideal.pop(), stalled, late)


def settings(study: Study) -> Iterator[Setting]:
    """Per layer: all policies and guesses. Places for all layers together: as many, and only as many as for one."""
    layers = study.chosen.shape[1]
    guesses = (NONE, *study.guesses)
    for batch in BATCHES:
        for share in SHARES:
            slots = max(1, round(share * study.experts))
            for policy in POLICIES:
                for guess in guesses:
                    if policy == "residency" and guess == NONE:
                        continue  # without hints it is fifo
                    yield Setting(study.name, batch, slots, False, policy, guess, 1)
            yield Setting(study.name, batch, slots, False, BELADY, NONE, 1)
        yield Setting(study.name, batch, 2 * study.experts, True, "fifo", WHOLE, 1)
        half = study.half
        for guess in guesses:
            for slots in (half, half * layers):
                yield Setting(study.name, batch, slots, True, "lru", guess, 1)
            if guess not in (NONE, "next-router"):
                yield Setting(study.name, batch, half, False, "lru", guess, layers)


HEADS = ("batch", "places", "of", "policy", "guess", "ahead", "hits", "KB", "useless")


def line(result: Result) -> list[str]:
    s, counts = result.setting, result.counts
    of = f"{result.experts} x {result.layers}" if s.shared else f"{result.experts}"
    kb = result.bytes / result.tokens / result.layers / 1000
    useless = f"{counts.useless / counts.prefetched:.1%}" if counts.prefetched else "-"
    waiting = [f"{result.waiting(b):.1%}" for b in result.stalled]
    cells = [str(s.batch), str(s.slots), of, s.policy, s.guess, str(s.ahead), f"{counts.hit_rate:.1%}"]
    return [*cells, f"{kb:.1f}", useless, *waiting]


def compared(study: Study, results: Sequence[Result]) -> list[Result]:
    """Half of the experts, lru, per layer; and whole layers, which are loaded one ahead."""

    def wanted(s: Setting) -> bool:
        mine = (s.slots, s.shared, s.policy, s.ahead) == (study.half, False, "lru", 1)
        return s.guess == WHOLE or (mine and s.guess in (NONE, "next-router", "sida", "oracle"))

    return [result for result in results if wanted(result.setting)]


def faster(study: Study, results: Sequence[Result]) -> list[list[str]]:
    """Lines of a table: how many times the throughput of whole layers."""
    lines = []
    whole: Result | None = None
    for result in sorted(compared(study, results), key=lambda r: (r.setting.batch, r.setting.guess != WHOLE)):
        whole = result if result.setting.guess == WHOLE else whole
        assert whole
        times = [f"{whole.cycles(b) / result.cycles(b):.2f}" for b in result.stalled]
        lines.append([str(result.setting.batch), result.setting.guess, *times])
    return lines


def draw(path: Path, study: Study, results: Sequence[Result]) -> None:
    """Throughput over bandwidth: half of the experts, lru, per layer."""
    curves = {
        f"batch {r.setting.batch}, {r.setting.guess}": [r.ideal / r.cycles(b) for b in r.stalled]
        for r in compared(study, results)
    }
    title = f"{study.name}: {study.half} of {study.experts} experts of each layer on chip, lru"
    plot.curves(path, list(BANDWIDTHS), curves, title, "bytes per cycle", "throughput, of that with all experts there")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.residency", description="what prefetching experts gains")
    parser.add_argument("--moe", metavar="A,B", default="S3A3E8,S4A4E16,S2A2E16", help="(default: %(default)s)")
    experts.add_arguments(parser)
    parser.add_argument("--model", default="full", help="full (default), or a GGUF file's path")
    natural = configuration.natural
    parser.add_argument("--tokens", type=natural, metavar="N", default=TOKENS, help="read (default: %(default)s)")
    predict.add_predictor(parser)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure there")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the last configuration there (.svg, .png)")
    args = parser.parse_args(argv)
    try:
        return run(args)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    specs = {name: experts.specification(name, args) for name in args.moe.split(",")}
    how = predict.training(args)
    if args.weights and len(specs) > 1:
        raise SpecError(f"moe must be one configuration with --weights, not {args.moe}")
    if args.plot:
        plot.check(args.plot)
    if args.json:
        _writable(args.json)
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(args.model))
    found: list[dict[str, Any]] = []
    columns = [f"{b} B/cycle" for b in BANDWIDTHS]
    for name, spec in specs.items():
        both = traces.read(file, spec, _say)
        if not 1 <= args.tokens <= len(both.test.tokens):
            raise SpecError(f"tokens must be an integer between 1 and {len(both.test.tokens)}, not {args.tokens}")
        _, predictor = sida.predictor(both, args.hidden, how, args.weights, _say)
        study = Study(name, both, sida.guesses(both, predictor, how.sequence), file.config.ffn, args.tokens)
        results = [study.result(setting, BANDWIDTHS) for setting in dict.fromkeys(settings(study))]
        found += [result.row for result in results]
        print(f"{name}: {args.tokens} tokens, an expert is {study.machine.size:,} bytes")
        for batch in BATCHES:
            ideal = next(r.ideal for r in results if r.setting.batch == batch)
            print(
                f"batch {batch}: {ideal / study.chosen.shape[0] / study.chosen.shape[1]:,.0f} cycles a token and layer"
            )
        print(aligned([[*HEADS, *columns], *map(line, results)]))
        print("times faster than whole layers, loaded one ahead")
        print(aligned([["batch", "guess", *columns], *faster(study, results)]), flush=True)
        if args.plot:
            draw(args.plot, study, results)
    if args.json:
        write(args.json, json.dumps(found, indent=1) + "\n")
    return 0


def _writable(path: Path) -> None:
    """Refuses what could not be written, before anything is measured."""
    if path.is_dir() or not path.parent.is_dir():
        raise SpecError(f"json must be a file in a folder that is there, not {path}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
