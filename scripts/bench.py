"""Speed of the two players side by side: ``python -m scripts.bench [UNIT [CONFIG]]``, for ``make bench``.

Both play the unit's bench, the same cases cycle for cycle, in turn for several rounds; the median of each is printed,
and the median of the rounds' ratios to cocotb. The bulk player repeats the cases for half a second a round. Beside them
the bare loop: the inputs that the bulk player gave, from a recording, and Verilator's evaluation, nothing else. Two at
once are two bulk players with the same cases, each in a thread of its own.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from gen.export import export
from golden.spec import SpecError, UnitSpec
from scripts import configuration
from tb.build import Build
from tb.cosim import Rtl, compile
from tb.runner import run_cocotb
from tb.second import recording
from tb.transactions import Case
from tb.units import BENCHES

DEFAULT = ["mixpe", "--set", "rows=8", "cols=8"]
SEED = 1
ROUNDS = 5
LEAST = 0.5
"""Seconds of a measurement."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench", description="speed of the two players side by side"
    )
    configuration.add_arguments(parser)
    try:
        return _compare(configuration.configured(parser.parse_args(argv or DEFAULT)))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2


def _compare(spec: UnitSpec) -> int:
    cases = BENCHES[spec.unit](spec, SEED)
    product = export(spec)

    build_seconds = []
    start = time.perf_counter()
    Build(product).program()
    build_seconds.append(time.perf_counter() - start)
    rtls = []
    for optimise in (False, True):
        start = time.perf_counter()
        rtls.append(compile(spec, optimise=optimise, product=product))
        build_seconds.append(time.perf_counter() - start)

    plain, fast = rtls
    trace = recording(fast, cases, sys.maxsize)
    second = compile(spec, optimise=True, product=product)
    rounds = []
    for _ in range(ROUNDS):
        cocotb = run_cocotb(spec, cases, SEED, product=product)
        rounds.append(
            (
                cocotb.ran / cocotb.seconds,
                _speed(plain, lambda rtl: _all(rtl, cases), len(trace)),
                _speed(fast, lambda rtl: _all(rtl, cases), len(trace)),
                _speed(fast, lambda rtl: rtl.replay(trace), len(trace)),
                _together((fast, second), cases, len(trace)),
            )
        )
    print(f"{len(cases)} cases, {cocotb.ran:,} cycles, {ROUNDS} rounds")
    print(f"{'player':<24}{'build s':>10}{'cycles/s':>14}{'ratio':>8}")
    names = ("cocotb", "bulk", "bulk, optimised", "bare loop, optimised", "two at once, optimised")
    for i, name in enumerate(names):
        speed, ratio = median(r[i] for r in rounds), median(r[i] / r[0] for r in rounds)
        build = f"{build_seconds[i]:.1f}" if i < len(build_seconds) else ""
        print(f"{name:<24}{build:>10}{speed:>14,.0f}{ratio:>8.1f}")
    print(f"bare loop / bulk, optimised: {median(r[3] / r[2] for r in rounds):.3f}")
    print(f"two at once / one: {median(r[4] / r[2] for r in rounds):.2f}")
    return 0


def _all(rtl: Rtl, cases: Sequence[Case]) -> float:
    """The seconds that it took."""
    seconds = 0.0
    for case in cases:
        rtl.play(case)
        seconds += rtl.seconds
    return seconds


def _speed(rtl: Rtl, once: Callable[[Rtl], float], cycles: int) -> float:
    """Simulated cycles per second; ``once`` simulates so many, and returns the seconds."""
    times, seconds = 0, 0.0
    while seconds < LEAST:
        seconds += once(rtl)
        times += 1
    return times * cycles / seconds


def _together(rtls: Sequence[Rtl], cases: Sequence[Case], cycles: int) -> float:
    """Cycles per second of all of them at the same time."""
    with ThreadPoolExecutor(len(rtls)) as pool:
        return sum(pool.map(lambda rtl: _speed(rtl, lambda r: _all(r, cases), cycles), rtls))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
