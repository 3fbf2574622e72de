"""Measurements, each made once in whatever process is free, and kept in a folder as soon as it is there.

Written against :class:`concurrent.futures.Executor`: processes of this machine (:func:`local`), or a Dask cluster
(:func:`cluster`), whose workers need this package and its tools too.
"""

import contextlib
import hashlib
import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from golden.files import write
from golden.spec import SpecError

Item = TypeVar("Item")
Figures = dict[str, float]


@dataclass(frozen=True)
class Measure(Generic[Item]):
    """``figures(item)`` is what is measured, ``identity(item)`` all that it depends on, as a JSON object. Both must be
    picklable."""

    name: str
    identity: Callable[[Item], dict[str, Any]]
    figures: Callable[[Item], Figures]


@dataclass(frozen=True)
class Store:
    """A folder with one JSON file per measurement, named by the digest of its identity."""

    folder: Path

    def get(self, identity: Mapping[str, Any]) -> Figures | None:
        """What was measured; ``None`` if it was not, or if its file is damaged."""
        try:
            return _floats(json.loads(self._path(identity).read_text())["figures"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, identity: Mapping[str, Any], figures: Figures) -> Figures:
        """Keeps them and returns what :meth:`get` will. The file is complete before it takes its name."""
        figures = _floats(figures)
        text = json.dumps({"identity": identity, "figures": figures}, indent=2) + "\n"
        write(self._path(identity), text)
        return figures

    def _path(self, identity: Mapping[str, Any]) -> Path:
        return self.folder / f"{digest(json.dumps(identity, sort_keys=True))[:32]}.json"


def _floats(figures: Mapping[str, Any]) -> Figures:
    return {name: float(value) for name, value in figures.items()}


def digest(*texts: str) -> str:
    """SHA-256 of texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def sweep(
    measure: Measure[Item], items: Sequence[Item], store: Store, executor: Executor, say: Callable[[str], None]
) -> tuple[dict[Item, Figures], dict[Item, str]]:
    """Figures of all items, those in the store without measuring them again, and for each that failed a sentence.

    A measurement that fails does not stop the others; an interrupt leaves the finished ones in the store.
    """
    identities, failed = _each(executor, measure.identity, items, lambda item, identity: None)
    found = {item: kept for item, identity in identities.items() if (kept := store.get(identity)) is not None}
    rest = [item for item in identities if item not in found]
    say(f"{measure.name}: {len(items)} to measure, {len(found)} of them kept from before")
    progress = _Progress(measure.name, len(rest), say)

    def keep(item: Item, figures: Figures) -> None:
        found[item] = store.put(identities[item], figures)

    _, failures = _each(executor, measure.figures, rest, keep, progress.step)
    return found, failed | failures


@contextlib.contextmanager
def local(jobs: int) -> Iterator[Executor]:
    """That many processes of this machine; an interrupt ends them."""
    if jobs < 1:
        raise SpecError(f"jobs must be at least 1, not {jobs}")
    context = multiprocessing.get_context("spawn")  # this process may have threads
    others = set(multiprocessing.active_children())
    # silent when the terminal interrupts them with this process
    pool = ProcessPoolExecutor(jobs, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL))
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of the Dask scheduler at that address; :class:`SpecError` if there is none."""
    from distributed import Client

    connect: Any = Client  # untyped
    try:
        client = connect(address, timeout=10)
    except (OSError, ValueError) as e:
        raise SpecError(f"dask must be the address of a running scheduler, not {address!r}: {e}") from None
    with client:
        yield client.get_executor()


Result = TypeVar("Result")


def _each(
    executor: Executor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    done: Callable[[Item, Result], None],
    step: Callable[[], None] = lambda: None,
) -> tuple[dict[Item, Result], dict[Item, str]]:
    """Results and sentences of failures, as they come."""
    results: dict[Item, Result] = {}
    failed: dict[Item, str] = {}
    futures: dict[Future[Result], Item] = {executor.submit(function, item): item for item in items}
    try:
        for future in as_completed(futures):
            item = futures[future]
            if error := future.exception():
                failed[item] = _sentence(error)
            else:
                results[item] = future.result()
                done(item, results[item])
            step()
    finally:
        for future in futures:
            future.cancel()
    return results, failed


def _sentence(error: BaseException) -> str:
    """An error in one line: the first and last of its own, with its kind unless it is about bad input."""
    lines = str(error).strip().splitlines() or ["no more is known"]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return text if isinstance(error, SpecError) else f"{type(error).__name__}: {text}"


class _Progress:
    """One line a measurement, with an estimate from the mean of those that are done."""

    def __init__(self, name: str, total: int, say: Callable[[str], None]):
        self.name, self.total, self.say = name, total, say
        self.done, self.start = 0, time.monotonic()

    def step(self) -> None:
        self.done += 1
        left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
        about = f", about {int(left) // 60} min {int(left) % 60:02} s left" if self.done < self.total else ""
        self.say(f"{self.name}: {self.done} of {self.total}{about}")
