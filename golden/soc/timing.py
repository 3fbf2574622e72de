"""What lists of the accelerator take, as formulas; :mod:`golden.soc.cycles` counts every cycle of any list."""

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import RECORD, Entry
from golden.soc.image import Image, Job, Placed

FIXED = 17
"""Of a list of one job: commands, addresses, queues, from the start to the last answer."""

LATENCIES = 3
"""One after the other: the list's, the first input's, the last answer's."""

RECORDS = 2
"""Before the first input begins: the header, and its entry."""


def copy_cycles(spec: AcceleratorSpec, image: Image, latency: int) -> int:
    """CYCLES behind a list of one copy, exactly, for a memory as of :func:`golden.soc.cycles.run.cycles`, if queues and
    bursts cover its latency: ``depth`` and ``burst * outstanding`` are at least ``latency + burst + 8`` words.

    Words come one per cycle; a burst to memory begins when its last word has come, and so the longest one is sent
    while nothing more comes."""
    o = image.placed(0, "o").entry
    return _around(spec, latency) + o.beats + max(bursts(spec, o))


def bursts(spec: AcceleratorSpec, entry: Entry) -> list[int]:
    """Words of the bursts of an entry of one row of words."""
    word, left, made = entry.address // spec.bus_bytes, entry.beats, []
    while left:
        made.append(min(left, spec.burst - word % spec.burst))
        word, left = word + made[-1], left - made[-1]
    return made


def read_words(spec: AcceleratorSpec, image: Image, job: Job) -> int:
    """What is read of the job's streams, at least: those that its unit asks for as often as it does."""
    engine, placed = spec.engine(job.kind), image.jobs[0]
    inputs = [p for p in placed if p.lane.port.direction == "in"]
    words = sum(_words(spec, p) for p in inputs if p.lane.index is None)
    asked = engine.spec.inputs(job.job)
    for p in inputs:
        if p.lane.index:
            words += -(-(len(asked[p.lane.name]) << p.lane.slot) // spec.bus_bytes)
    return words


def _words(spec: AcceleratorSpec, placed: Placed) -> int:
    """Of a stream's rows."""
    entry = placed.entry
    row = -(-(entry.beats << placed.lane.slot) // spec.bus_bytes)
    return row * entry.rows * entry.repeats


def _around(spec: AcceleratorSpec, latency: int) -> int:
    return FIXED + LATENCIES * latency + RECORDS * RECORD // spec.bus_bytes
