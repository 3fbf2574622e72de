"""Runs a bench with either player and judges it; the replay command is printed with every seed."""

import contextlib
import logging
import pickle
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tb
from gen.export import Product
from golden.files import replacing
from golden.spec import SpecError, UnitSpec
from tb import products
from tb.build import Build, Flags, Simulation, environment, wave_format
from tb.cosim import compile
from tb.transactions import Case, CheckFailed, Played, check


@dataclass(frozen=True)
class Results:
    """What a run saw. ``xml`` (JUnit) and ``waves`` are files of the cocotb player; ``seconds`` is the time spent
    playing.
    """

    played: list[Played]
    seconds: float
    xml: Path | None = None
    waves: Path | None = None

    @property
    def ran(self) -> int:
        """Simulated clock cycles of all cases."""
        return sum(p.ran for p in self.played)


def replay_command(spec: UnitSpec, seed: int) -> str:
    """The command line that plays the same bench again."""
    needed = spec.values()
    for name in spec.values():  # leave out what the rest implies: defaults, and values derived from this rest
        rest = {k: v for k, v in needed.items() if k != name}
        with contextlib.suppress(SpecError):
            if type(spec)(**rest) == spec:
                needed = rest
    sets = [f" --set {k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in needed.items()]
    return f"senbazuru sim {spec.unit}{''.join(sets)} --seed {seed}"


def run_cocotb(
    spec: UnitSpec,
    cases: Sequence[Case],
    seed: int,
    waves: bool = False,
    product: Product | None = None,
) -> Results:
    """Play the cases with cocotb, one cocotb test per case, in one simulation.

    Writes ``build/cocotb/<unit>-<key>-<seed>.xml`` (JUnit), with ``waves`` also ``.fst`` or ``.vcd``; prints the replay
    command. ``product`` replaces that of ``spec``. :class:`CheckFailed` carries the findings of all failed cases.
    """
    print(f"seed {seed}: {replay_command(spec, seed)}")
    build = Build(product or products.of(spec), Flags(waves=waves))
    build.program()
    stem = Path("build/cocotb") / f"{spec.unit}-{build.key[:8]}-{seed}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{stem.name}-", dir=stem.parent) as temporary:
        folder = Path(temporary).absolute()
        with open(folder / "cases", "wb") as file:
            pickle.dump((build.product.manifest, list(cases)), file)
        with environment(
            COCOTB_TRUST_INERTIAL_WRITES="1",  # twice as fast; that nothing changes is tested against the bulk player
            COCOTB_REWRITE_ASSERTION_FILES="",  # or pytest rewrites all of NumPy at each start
            COCOTB_RESULTS_FILE=str(folder / "results.xml"),
            SENBAZURU_CASES=str(folder / "cases"),
            SENBAZURU_PLAYED=str(folder / "played"),
        ):
            simulation = Simulation(
                build,
                module="tb.bench_cocotb",
                work_dir=str(folder),
                python_search=[str(Path(tb.__file__).parents[1])],
                seed=seed,
                waves=waves,
            )
            simulation.logger = _file_logger(folder / "log")
            failed = False
            try:
                simulation.run()
            except (SystemExit, ET.ParseError):
                failed = True
        played = _read_all(folder / "played")
        log = (folder / "log").read_text()
        if len(played) < len(cases):
            raise CheckFailed(f"the simulation ended after {len(played)} of {len(cases)} cases:\n{log[-4000:]}")
        seconds = _publish(folder / "results.xml", stem.with_suffix(".xml"))
        dump = None
        if waves:
            dump = stem.with_suffix(f".{wave_format()}")
            shutil.move(folder / f"dump.{wave_format()}", dump)
    _judge(cases, played, dump)
    if failed:
        raise CheckFailed(f"cocotb reports a failure that the findings do not explain:\n{log[-4000:]}")
    return Results(played, seconds, stem.with_suffix(".xml"), dump)


def run_bulk(spec: UnitSpec, cases: Sequence[Case], seed: int, product: Product | None = None) -> Results:
    """Play the cases with the bulk player; prints the replay command. Raises as :func:`run_cocotb`."""
    print(f"seed {seed}: {replay_command(spec, seed)}")
    rtl = compile(spec, product=product)
    played, seconds = [], 0.0
    for case in cases:
        played.append(rtl.play(case))
        seconds += rtl.seconds
    _judge(cases, played)
    return Results(played, seconds)


def both_see_the_same(spec: UnitSpec, cases: Sequence[Case], seed: int) -> None:
    """Play the cases with both players: the same clock cycles. Raises as :func:`run_cocotb`."""
    cocotb, bulk = run_cocotb(spec, cases, seed), run_bulk(spec, cases, seed)
    seen = [[(p.first_in, p.last_out, p.ran) for p in results.played] for results in (cocotb, bulk)]
    assert seen[0] == seen[1]


PLAYERS: dict[str, Callable[..., Results]] = {"cocotb": run_cocotb, "bulk": run_bulk}


def _judge(cases: Sequence[Case], played: Sequence[Played], waves: Path | None = None) -> None:
    findings = []
    for case, seen in zip(cases, played, strict=True):
        try:
            check(case, seen)
        except CheckFailed as e:
            findings.append(str(e))
    if findings:
        raise CheckFailed("\n".join([*findings, f"waves: {waves}"] if waves else findings))


def _read_all(path: Path) -> list[Played]:
    played = []
    if path.exists():
        with open(path, "rb") as file:
            while file.peek(1):
                played.append(pickle.load(file))
    return played


def _publish(source: Path, target: Path) -> float:
    """Copy the JUnit file without the machine's paths; the total time of its tests in seconds."""
    tree = ET.parse(source)
    for element in tree.iter():
        element.attrib.pop("hostname", None)
        if element.get("name") == "file":
            element.set("value", Path(element.attrib["value"]).name)
    with replacing(target) as part:
        tree.write(part)
    return sum(float(case.get("time", 0)) for case in tree.iter("testcase"))


def _file_logger(path: Path) -> logging.Logger:
    logger = logging.Logger("cocotb-test", logging.INFO)
    logger.addHandler(logging.FileHandler(path, delay=False))
    return logger
