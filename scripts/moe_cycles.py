"""What experts save: ``python -m scripts.moe_cycles``.

The fixture's layer as a mixture of experts (75 % and 25 % of its neurons per token; a fixed number of experts, and as
many as reach the threshold) against the dense one on the same engine, arrays of 256 and of 64 elements, batches of real
tokens: cycles, and bytes of weights per cycle that memory has to deliver. Then a batch in which some tokens are
finished, beside one of the others alone. Cycles are the formula's, which the benches hold the RTL to, with memory fast
enough.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from golden.moe.layer import MoEFFNSpec
from scripts import moe_layer
from scripts.resumable import aligned

ARRAYS = ((16, 16), (8, 32), (4, 64), (1, 64))
BATCHES = (1, 4, 16)
FINISHED = (0, 4, 8, 12, 15, 16)
"""Of 16 tokens."""

SPLITS = (("S3A3E8", False), ("S3A3E8", True), ("S2A2E16", False), ("S2A2E16", True))


def main(argv: Sequence[str]) -> int:
    heads = [
        "split",
        "array",
        "tokens",
        "experts",
        "cycles",
        "dense",
        "faster",
        "useful",
        "bytes",
        "per cycle",
        "dense",
    ]
    lines = [heads]
    for name, dynamic in SPLITS:
        experts = moe_layer.layer(name)
        for rows, cols in ARRAYS:
            for tokens in BATCHES:
                spec = MoEFFNSpec(**moe_layer.sizes(experts), rows=rows, cols=cols, tokens=tokens)
                job = moe_layer.real_batch(spec, experts, tokens, dynamic)
                assert spec.hidden(job)
                work, cycles = spec.work(job), spec.cycles(job)
                dense = spec.ffn.dense_cycles(moe_layer.DENSE, tokens)
                macs = sum(len(mine) * 3 * one.neurons * spec.d for one, mine, _ in work.work())
                size = sum(spec.ffn.weight_bytes(one) for one, _, _ in work.work())
                lines.append(
                    [
                        f"{name}, threshold" if dynamic else name,
                        f"{rows} x {cols}",
                        f"{tokens}",
                        f"{sum(len(queue.tokens) for queue in work.queues) / tokens:.2f}",
                        f"{cycles:,}",
                        f"{dense:,}",
                        f"{dense / cycles:.2f}",
                        f"{macs / (rows * cols * cycles):.1%}",
                        f"{size:,}",
                        f"{size / cycles:.1f}",
                        f"{moe_layer.DENSE_BYTES / dense:.1f}",
                    ]
                )
    print(aligned(lines), aligned(_finished()), sep="\n\n")
    return 0


def _finished() -> list[list[str]]:
    """Every fourth token, every second, three of four, all but the first, all."""
    lines = [["split", "array", "finished", "cycles", "alone"]]
    for name in ("S3A3E8", "S2A2E16"):
        experts = moe_layer.layer(name)
        for rows, cols in ((4, 64), (1, 64)):
            spec = MoEFFNSpec(**moe_layer.sizes(experts), rows=rows, cols=cols, tokens=BATCHES[-1], pruning=True)
            job = moe_layer.real_batch(spec, experts, spec.tokens)
            for finished in FINISHED:
                order = np.arange(spec.tokens).reshape(4, -1).T.ravel()[::-1]
                mine = replace(job, live=order >= finished)
                assert spec.hidden(mine)
                unpruned = MoEFFNSpec(**spec.values() | {"pruning": False})
                alone = unpruned.cycles(spec.seen(mine)) if finished < spec.tokens else 0
                lines.append([name, f"{rows} x {cols}", f"{finished}", f"{spec.cycles(mine):,}", f"{alone:,}"])
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
