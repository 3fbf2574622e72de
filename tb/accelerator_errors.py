"""What goes wrong with a list of jobs: cause, code, and that the next list runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from golden.axi import DECERR, SLVERR
from golden.ports import Beats
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ENTRY, HEADER, RECORD, STOP
from golden.soc.image import APART, Image, Job, lay_out
from golden.soc.registers import ADDRESS, Control, Error, Event, State
from tb import accelerator_host as host
from tb import mixpe
from tb.axi import Access, Read
from tb.transactions import Case

BAD = 1
"""The job of the list that goes wrong: a GEMM between two copies."""

LIST = "list"
"""All records."""

LAST = "last input"
"""Its entry."""

LATE = 400
"""Cycles of a memory that takes longer than the time-out."""


@dataclass(frozen=True)
class Trouble:
    """A cause, and the code of it.

    ``record``: the header of the bad job or the entry of a stream, whose fields are ``changed``; with ``instead`` it
    becomes a copy of another one, ``dropped`` it is gone; ``less``: so many of the last ones are. ``answer``: memory's,
    to the first word of the stream ``record``, or of the list; with ``final`` to the stream's last burst.
    ``blamed``: the record whose address is told, where it is another one.
    """

    name: str
    code: Error
    record: str = "header"
    changed: Mapping[str, int] = field(default_factory=dict)
    answer: int = 0
    final: bool = False
    instead: str = ""
    dropped: bool = False
    blamed: str = ""
    timeout: int = 0
    latency: int = 20
    less: int = 0


D = Error.DESCRIPTOR

TROUBLES = (
    Trouble("unknown-kind", D, changed={"kind": 200}),
    Trouble("no-entries", D, changed={"entries": 0}),
    Trouble("too-many-entries", D, changed={"entries": 100}),
    Trouble("unknown-flag", D, changed={"flags": 2}),
    Trouble("bit-without-a-name-in-a-header", D, changed={"zero_64": 1}),
    Trouble("unknown-input", D, "act", {"stream": 0x7F}),
    Trouble("unknown-output", D, "o", {"stream": 0xFF}),
    Trouble("stream-twice", D, "wgt", instead="act"),
    Trouble("output-missing", D, "o", dropped=True, blamed=LAST),
    Trouble("address-not-a-multiple", D, "par", {"address": 0x1_0002}),
    Trouble("stride-not-a-multiple", D, "act", {"stride": 1}),
    Trouble("repeat-stride-not-a-multiple", D, "act", {"repeat_stride": 1}),
    Trouble("no-beats", D, "wgt", {"beats": 0}),
    Trouble("no-rows", D, "wgt", {"rows": 0}),
    Trouble("no-repeats", D, "wgt", {"repeats": 0}),
    Trouble("bit-without-a-name-in-an-entry", D, LAST, {"zero_120": 0x80}),
    Trouble("list-ends-in-a-job", D, less=2),
    Trouble("slverr-on-the-list", Error.READ_SLVERR, LIST, answer=SLVERR),
    Trouble("decerr-on-the-list", Error.READ_DECERR, LIST, answer=DECERR),
    Trouble("slverr-on-a-read", Error.READ_SLVERR, "wgt", answer=SLVERR),
    Trouble("decerr-on-a-read", Error.READ_DECERR, "act", answer=DECERR),
    Trouble("slverr-on-a-write", Error.WRITE_SLVERR, "o", answer=SLVERR),
    Trouble("slverr-on-the-last-write", Error.WRITE_SLVERR, "o", answer=SLVERR, final=True),
    Trouble("decerr-on-a-write", Error.WRITE_DECERR, "o", answer=DECERR),
    Trouble("memory-too-slow", Error.TIMEOUT, LIST, timeout=LATE // 2, latency=LATE),
    Trouble("input-too-short", Error.TIMEOUT, "par", {"rows": 1, "repeats": 1}, timeout=200, blamed="header"),
    Trouble("input-too-long", Error.TIMEOUT, LAST, {"repeats": 9, "repeat_stride": 0}, timeout=200, blamed="header"),
    Trouble("output-too-long", Error.TIMEOUT, "o", {"repeats": 2}, timeout=200, blamed="header"),
    Trouble("output-too-short", Error.SURPLUS, "o", {"beats": 1}, blamed="header"),
    Trouble("status-bit", Error.UNIT, "act", {"beats": 10, "rows": 4, "stride": 0}, blamed="header"),
)
"""Each is a bench: the list stops, tells code, job and address, keeps its counters; after CLEAR the next one runs."""


def cases(spec: AcceleratorSpec, seed: int) -> Iterator[Case]:
    """Of a configuration with a unit for GEMM."""
    rng = np.random.default_rng(seed)
    good = lay_out(spec, _jobs(spec, rng), 0, rng)
    for n, trouble in enumerate(TROUBLES):
        yield _case(spec, good, trouble, seed, stall=96 * (n % 2))
    yield _silent(spec, good, seed)
    yield _told(spec, good, seed)
    yield from _bad_lists(spec, good, seed)
    yield from _left(spec, rng, seed)


def _jobs(spec: AcceleratorSpec, rng: np.random.Generator) -> list[Job]:
    """The GEMM: 3 x 3 tiles of 40 steps, or of as many as there can be."""
    gemm = spec.engine("gemm").spec
    words = [rng.integers(0, 256, (n, spec.bus_bytes), np.uint8) for n in (5, 9)]
    job = mixpe.random_job(gemm, rng, 3 * gemm.tokens, min(40, gemm.k_max), 3 * gemm.cols)
    return [Job("copy", words[0]), Job("gemm", job), Job("copy", words[1])]


def _place(good: Image, record: str) -> int:
    """A record of the bad job, in the list."""
    names = ["header", *(p.lane.name for p in good.jobs[BAD])]
    record = names[-2] if record == LAST else record  # before the output
    return 1 + len(good.jobs[0]) + names.index(record)


def _records(good: Image) -> NDArray[np.uint8]:
    at = good.list - good.base
    return good.before[at : at + RECORD * good.records].reshape(-1, RECORD)


def _broken(good: Image, trouble: Trouble) -> NDArray[np.uint8]:
    records = _records(good).copy()
    if trouble.code == Error.UNIT:
        records = _with(records, _place(good, "header"), flags=STOP)
    if trouble.record == LIST:
        return records
    at = _place(good, trouble.record)
    if trouble.instead:
        records[at] = records[_place(good, trouble.instead)]
    if trouble.dropped:
        records = _with(records, _place(good, "header"), entries=len(good.jobs[BAD]) - 1)
        return np.delete(records, at, axis=0)
    return _with(records, at, **trouble.changed) if trouble.changed else records


def _with(records: NDArray[np.uint8], at: int, **changed: int) -> NDArray[np.uint8]:
    port = HEADER if changed.keys() <= {f.name for f in HEADER.fields} else ENTRY
    values = port.unpack(Beats(records[at : at + 1], np.zeros(1, np.bool_)))
    for name, value in changed.items():
        values[name][:] = value
    made = records.copy()
    made[at] = port.pack(**values).data[0]
    return made


def _beside(good: Image, records: NDArray[np.uint8]) -> Image:
    """The same memory with another list behind it."""
    end = np.zeros(-(-records.size // APART) * APART, np.uint8)
    end[: records.size] = records.ravel()
    return replace(
        good,
        before=np.concatenate([good.before, end]),
        after=np.concatenate([good.after, end]),
        known=np.concatenate([good.known, np.ones(len(end), np.bool_)]),
        list=good.base + len(good.before),
        records=len(records),
    )


def _case(spec: AcceleratorSpec, good: Image, trouble: Trouble, seed: int, stall: int) -> Case:
    records = _broken(good, trouble)
    bad = _beside(good, records[: len(records) - _dropped(good, trouble)])
    memory, after = bad, good
    job = 0 if trouble.record == LIST else BAD
    if trouble.record == LIST:
        blamed = bad.list
    elif trouble.answer:
        placed = good.placed(BAD, trouble.record)
        blamed = placed.entry.address // spec.bus_bytes * spec.bus_bytes
        if trouble.final:  # of one row
            size = spec.burst * spec.bus_bytes
            blamed = max(blamed, (placed.entry.address + (placed.entry.beats << placed.lane.slot) - 1) // size * size)
        memory = after = _copies(good, bad)
    else:
        blamed = bad.list + RECORD * _place(good, trouble.blamed or trouble.record)
    errors = {range(blamed, blamed + spec.bus_bytes): trouble.answer} if trouble.answer else {}
    script = [
        *host.starts(bad, trouble.timeout),
        *host.writes(IRQ_ENABLE=Event.ERROR),
        host.ends(State.ERROR | State.QUIET),
        *host.reads(ERROR=trouble.code, ERROR_JOB=job, JOBS_DONE=job),
        *host.reads(ERROR_ADDRESS=blamed & 0xFFFFFFFF, ERROR_ADDRESS_HIGH=blamed >> 32, IRQ_STATUS=Event.ERROR),
        *_recovered(after),
    ]
    around = host.world(spec, memory, script, seed=seed, latency=trouble.latency, errors=errors)
    return host.case(spec, trouble.name, around, seed, stall)


def _copies(good: Image, memory: Image) -> Image:
    """A list without the bad job, whose results are not known."""
    at, length = _place(good, "header"), 1 + len(good.jobs[BAD])
    image = _beside(memory, np.delete(_records(good), range(at, at + length), axis=0))
    o = good.placed(BAD, "o")
    known = image.known.copy()
    known[o.entry.address - good.base :][: o.entry.beats << o.lane.slot] = False
    return replace(image, known=known, jobs=tuple(job for n, job in enumerate(good.jobs) if n != BAD))


def _dropped(good: Image, trouble: Trouble) -> int:
    """Records that the list has too few: the last job and so many of the bad one."""
    return trouble.less and trouble.less + 1 + len(good.jobs[-1])


def _recovered(good: Image) -> list[Access]:
    """A start without CLEAR does nothing; behind one the next list runs."""
    return [
        *host.writes(CONTROL=Control.START),
        *host.reads(STATUS=State.ERROR | State.QUIET),
        *host.writes(IRQ_STATUS=Event.ERROR),
        *host.writes(CONTROL=Control.CLEAR),
        host.ends(State.QUIET),
        *host.reads(ERROR=0, ERROR_JOB=0, ERROR_ADDRESS=0, ERROR_ADDRESS_HIGH=0, IRQ_STATUS=0, UNIT_STATUS=0),
        *host.run(good),
    ]


def _silent(spec: AcceleratorSpec, good: Image, seed: int) -> Case:
    """A read that is never answered: the job is stopped and told of, but the bus stays in use; nothing can start."""
    at = good.placed(BAD, "wgt").entry.address // spec.bus_bytes * spec.bus_bytes
    script = [
        *host.starts(good, 300),
        host.stuck(State.BUSY | State.ERROR),
        *host.reads(ERROR=Error.TIMEOUT, ERROR_JOB=BAD),
        *host.writes(CONTROL=Control.CLEAR),
        *host.writes(CONTROL=Control.START),
        *host.reads(STATUS=State.BUSY | State.ERROR, ERROR=Error.TIMEOUT),
    ]
    around = host.world(spec, good, script, expected=None, silent=[range(at, at + spec.bus_bytes)])
    return host.case(spec, "memory-never-answers", around, seed)


def _told(spec: AcceleratorSpec, good: Image, seed: int) -> Case:
    """Without the flag STOP a status bit is told of, and the list goes on; results mean nothing."""
    records = _with(_records(good), _place(good, "act"), beats=10, rows=4, stride=0)
    image = _beside(good, records)
    script = [
        *host.starts(image, 500),
        host.ends(State.ERROR | State.QUIET),
        Read(address=ADDRESS["UNIT_STATUS"], value=1, mask=1),
        *_recovered(good),
    ]
    return host.case(spec, "status-bit-told", host.world(spec, image, script), seed)


def _bad_lists(spec: AcceleratorSpec, good: Image, seed: int) -> Iterator[Case]:
    """A list without records, and one that begins nowhere."""
    for name, address, records in (("empty-list", good.list, 0), ("askew-list", good.list + 16, good.records)):
        script = [
            *host.starts(replace(good, list=address, records=records)),
            host.ends(State.ERROR | State.QUIET),
            *host.reads(ERROR=Error.DESCRIPTOR, ERROR_JOB=0, ERROR_ADDRESS=address),
            *_recovered(good),
        ]
        yield host.case(spec, name, host.world(spec, good, script), seed)


def _left(spec: AcceleratorSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """A unit that another kind shares is given a beat too many, which stays in it; jobs of both kinds are right again
    behind one of the other."""
    for engine in spec.engines:
        if engine.host:
            kinds = (engine.name, engine.host, engine.name)
            image = lay_out(spec, [_one_tile(spec, rng, kind) for kind in kinds], 0, rng)
            (stream, *_) = (lane.name for lane in engine.inputs if not lane.port.last)
            at = 1 + [p.lane.name for p in image.jobs[0]].index(stream)
            records = _with(_records(image), at, beats=image.placed(0, stream).entry.beats + 1)
            image = _beside(image, records)
            yield host.case(spec, f"{engine.name}-left", host.world(spec, image, host.run(image)), seed)


def _one_tile(spec: AcceleratorSpec, rng: np.random.Generator, kind: str) -> Job:
    """Of a GEMM; of other kinds any job."""
    if kind != "gemm":
        return host.jobs_of(spec, rng, kind, 1)[0]
    gemm = spec.engine(kind).spec
    return Job(kind, mixpe.random_job(gemm, rng, gemm.tokens, gemm.k_max, gemm.cols))
