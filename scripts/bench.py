"""Speed of the two players side by side: ``python -m scripts.bench [UNIT [CONFIG]]``, for ``make bench``.

Both play the unit's bench, the same cases cycle for cycle, in turn for several rounds; the median of each is printed,
and the median of the rounds' ratios. The bulk player repeats the cases for half a second a round.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import median

from gen.export import export
from golden.spec import SpecError, UnitSpec
from scripts import configuration
from tb.build import Build
from tb.cosim import Rtl, compile
from tb.runner import run_cocotb
from tb.transactions import Case
from tb.units import BENCHES

DEFAULT = ["mixpe", "--set", "rows=8", "cols=8"]
SEED = 1
ROUNDS = 5


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

    rounds = []
    for _ in range(ROUNDS):
        cocotb = run_cocotb(spec, cases, SEED, product=product)
        rounds.append((cocotb.ran / cocotb.seconds, *(_speed(rtl, cases) for rtl in rtls)))
    print(f"{len(cases)} cases, {cocotb.ran:,} cycles, {ROUNDS} rounds")
    print(f"{'player':<16}{'build s':>10}{'cycles/s':>14}{'ratio':>8}")
    for i, name in enumerate(("cocotb", "bulk", "bulk, optimised")):
        speed, ratio = median(r[i] for r in rounds), median(r[i] / r[0] for r in rounds)
        print(f"{name:<16}{build_seconds[i]:>10.1f}{speed:>14,.0f}{ratio:>8.1f}")
    return 0


def _speed(rtl: Rtl, cases: Sequence[Case]) -> float:
    """Simulated cycles per second."""
    ran, seconds = 0, 0.0
    while seconds < 0.5:
        for case in cases:
            rtl.play(case)
            ran += rtl.ran
            seconds += rtl.seconds
    return ran / seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
