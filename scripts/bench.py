"""Speed of the two players side by side: ``python -m scripts.bench [UNIT [CONFIG]]``, for ``make bench``.

Both play the unit's bench, the same cases cycle for cycle. The bulk player plays it again and again for half a second.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from gen.export import export
from golden.spec import SpecError
from scripts import configuration
from tb.build import Build
from tb.cosim import compile
from tb.runner import run_cocotb
from tb.units import BENCHES

DEFAULT = ["mixpe", "--set", "rows=8", "cols=8"]
SEED = 1


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench", description="speed of the two players side by side"
    )
    configuration.add_arguments(parser)
    try:
        spec = configuration.configured(parser.parse_args(argv or DEFAULT))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    cases = BENCHES[spec.unit](spec, SEED)

    start = time.perf_counter()
    Build(export(spec)).program()
    built = time.perf_counter() - start
    cocotb = run_cocotb(spec, cases, SEED)
    base = cocotb.ran / cocotb.seconds
    print(f"{len(cases)} cases, {cocotb.ran:,} cycles")
    print(f"{'player':<16}{'build s':>10}{'cycles/s':>14}{'ratio':>8}")
    print(f"{'cocotb':<16}{built:>10.1f}{base:>14,.0f}{1:>8.1f}")
    for name, optimise in (("bulk", False), ("bulk, optimised", True)):
        start = time.perf_counter()
        rtl = compile(spec, optimise=optimise)
        built = time.perf_counter() - start
        ran, seconds = 0, 0.0
        while seconds < 0.5:
            for case in cases:
                rtl.play(case)
                ran += rtl.ran
                seconds += rtl.seconds
        print(f"{name:<16}{built:>10.1f}{ran / seconds:>14,.0f}{ran / seconds / base:>8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
