"""Memory to memory: the simplest unit of the accelerator."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.ports import Beats, Field, StreamPort
from golden.spec import UnitSpec, param

WORDS = NDArray[np.uint8]


class CopySpec(UnitSpec):
    """Words of memory as they are, from ``i`` to ``o``, in the same cycle. A job: ``uint8[n, width / 8]``."""

    unit: ClassVar[str] = "copy"

    width: int = param(128, "bits of a word, those of the bus", low=64, high=256)

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        word = (Field("data", 32, "uint32"),)
        return (
            StreamPort("i", "in", self.width // 32, word, "", "words to be copied"),
            StreamPort("o", "out", self.width // 32, word, "", "the same words"),
        )

    @property
    def latency(self) -> int:
        return 0

    def compute(self, job: WORDS) -> WORDS:
        return job

    def inputs(self, job: WORDS) -> dict[str, Beats]:
        return {"i": _beats(job)}

    def outputs(self, job: WORDS, result: WORDS) -> dict[str, Beats]:
        return {"o": _beats(result)}

    def result(self, job: WORDS, outputs: Mapping[str, Beats]) -> WORDS:
        return outputs["o"].data

    def cycles(self, *jobs: WORDS) -> int:
        return sum(map(len, jobs))


def _beats(words: WORDS) -> Beats:
    return Beats(words, np.zeros(len(words), np.bool_))
