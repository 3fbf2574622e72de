"""What a job of the accelerator takes: cycles of the register CYCLES, for a memory that gives a word per cycle, the
first one ``latency`` cycles after its address."""

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
    """Of a list of one copy, exactly, if queues and bursts cover the latency: ``depth`` and ``burst * outstanding`` are
    at least ``latency + burst + 8`` words.

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


def job_cycles(spec: AcceleratorSpec, image: Image, job: Job, latency: int) -> int:
    """Of a list of that one job, an estimate: its unit's own formula, unless memory takes longer. A layer of experts
    loads, computes and stores one after the other, so all that its unit takes to be there at once, or to be taken at
    once, comes on top: words of memory in place of beats."""
    engine = spec.engine(job.kind)
    alone = engine.spec.cycles(job.job)
    around = _around(spec, latency)
    if job.kind == "moe":
        streams = [p for p in image.jobs[0] if p.lane.index is None]
        beats = sum(p.entry.beats for p in streams if p.lane.name in ("i", "o"))
        alone += sum(_words(spec, p) for p in streams) - beats
    return around + max(alone, read_words(spec, image, job))


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
