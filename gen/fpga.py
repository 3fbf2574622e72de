"""From a node to a board: the project, its bitstream, and what it takes of the device."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gen import __version__, toolchain
from gen.boards import Board, Pll, Top
from gen.elaborate import elaborate
from gen.export import Product
from gen.manifest import manifest
from gen.registry import unit
from gen.tidy import tidy
from golden.soc.board import NodeSpec
from hdl.shared import Shared
from hdl.soc.board import LineShell, Node
from hdl.stream.axi import AxiShell

SEEDS = 3

OTHER = "top"
"""The block of cells whose name does not say where they belong."""


@dataclass(frozen=True)
class Report:
    """What a board's build came to.

    ``utilisation``: of each resource of the device how many are taken, and how many there are. ``blocks``: of each block
    inside the node how many of them; cells are known by their names, which look-up tables have from the nets that they
    drive. ``fmax`` in MHz by seed, of the node's clock; ``met`` if every seed reaches ``clock``. ``files`` by what they
    are.
    """

    board: str
    device: str
    unit: str
    configuration: Mapping[str, Any]
    clock: float
    baud: int
    utilisation: Mapping[str, tuple[int, int]]
    blocks: Mapping[str, Mapping[str, int]]
    fmax: Mapping[int, float]
    tools: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return all(f >= self.clock for f in self.fmax.values())

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"met": self.met}, indent=2) + "\n"

    def table(self) -> str:
        """The figures, one a line, aligned; then the blocks."""
        rows = {name: f"{used:,} of {there:,}, {used / there:.1%}" for name, (used, there) in self.utilisation.items()}
        rows |= {f"fmax, seed {seed}": f"{f:.1f} MHz" for seed, f in self.fmax.items()}
        rows |= {"clock": f"{self.clock:g} MHz: {'met' if self.met else 'not met'}", **self.tools}
        width = max(map(len, (*rows, *self.blocks)))
        kinds = sorted({kind for counts in self.blocks.values() for kind in counts})
        lines = [f"{self.unit} on {self.board}", *(f"{name:{width}}  {value}" for name, value in rows.items())]
        lines += ["", f"{'block':{width}}" + "".join(f"{kind:>10}" for kind in kinds)]
        for name, counts in self.blocks.items():
            lines.append(f"{name:{width}}" + "".join(f"{counts.get(kind, 0):>10,}" for kind in kinds))
        return "\n".join(lines)


def verilog(node: NodeSpec) -> str:
    """The node as module ``node`` with all below it: clk, rst, rx, tx."""
    text, order = elaborate(Node(node, unit(node.inner.unit).hardware(node.inner)), "node")
    return "\n".join([_about(node), *tidy(text, order)])


def simulation(node: NodeSpec) -> Product:
    """The node for the players of benches, its line as streams (see :class:`golden.soc.board.NodeSpec`)."""
    shell = AxiShell(Shared(LineShell, node, unit(node.inner.unit).hardware(node.inner)), node.ports)
    text, order = elaborate(shell, "line")
    whole = "\n".join(tidy(text, order))
    return Product("line", whole, manifest(node, "line", whole), "", "")


def project(node: NodeSpec, board: Board, clock: float) -> dict[str, str]:
    """The files of the board's build, by name: sources, constraints, and the script of its tools."""
    platform = board.create()
    pll = None
    if clock != board.clock:
        pll = Pll.make(board.clock, clock)
    platform.add_file("node.v", verilog(node))
    plan = platform.prepare(Top(pll), "top", synth_opts="-abc9", verbose=True)
    return {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}


@dataclass(frozen=True)
class Options:
    """``seeds``: place and route so often. ``say`` is told what goes on."""

    seeds: int = SEEDS
    say: Callable[[str], None] = lambda line: None


def build(node: NodeSpec, board: Board, clock: float, baud: int, folder: Path, options: Options) -> Report:
    """The bitstream of the fastest seed, in ``folder``, with the report of all.

    Raises  :class:`~gen.toolchain.ToolError` for a missing tool; :class:`DoesNotFit` where the node is too large.
    """
    files = project(node, board, clock)
    commands = [list(map(str, c)) for c in json.loads(files["build_top.json"])["commands"]]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    _, route, pack = commands
    tools = {name: toolchain.device_tool(name) for name in (route[0], pack[0])}
    options.say(f"synthesising for {board.device}")
    _run([*toolchain.yosys().command, "top.ys"], folder, "top.rpt")
    reports = {}
    for seed in range(1, options.seeds + 1):
        options.say(f"placing and routing, seed {seed} of {options.seeds}")
        extra = ["--seed", str(seed), "--report", f"seed{seed}.json", "--write", f"seed{seed}.routed"]
        arguments = [a.replace("top.config", f"seed{seed}.out").replace("top.asc", f"seed{seed}.out") for a in route[1:]]
        arguments = [a.replace("top.tim", f"seed{seed}.log") for a in arguments]
        try:
            _run([*tools[route[0]], *arguments, *extra, "--timing-allow-fail"], folder)
        except subprocess.CalledProcessError as e:
            raise DoesNotFit(_why(folder / f"seed{seed}.log", e.output)) from None
        reports[seed] = json.loads((folder / f"seed{seed}.json").read_text())
    fmax = {seed: _fmax(report) for seed, report in reports.items()}
    best = max(fmax, key=lambda seed: fmax[seed])
    made = next(a for a in route if a in ("top.config", "top.asc"))
    (folder / f"seed{best}.out").replace(folder / made)
    options.say("packing")
    _run([*tools[pack[0]], *pack[1:]], folder)
    placed = placement(json.loads((folder / f"seed{best}.routed").read_text()))
    from gen.floorplan import picture

    (folder / "floorplan.svg").write_text(picture(placed, f"{node.inner.unit} on {board.name}"))
    for seed in reports:
        (folder / f"seed{seed}.routed").unlink()
        (folder / f"seed{seed}.out").unlink(missing_ok=True)
    used = reports[best]["utilization"]
    bitstream = next(folder / name for name in ("top.bit", "top.bin") if (folder / name).exists())
    return Report(
        board=board.name,
        device=board.device,
        unit=node.inner.unit,
        configuration=node.inner.values(),
        clock=clock / 1e6,
        baud=baud,
        utilisation={name: (used[key]["used"], used[key]["available"]) for name, key in board.capacity.items()},
        blocks=blocks(placed),
        fmax={seed: round(f, 2) for seed, f in fmax.items()},
        tools={"yosys": toolchain.yosys().version, "nextpnr": toolchain.device_version(route[0])},
        files={"bitstream": str(bitstream), "floorplan": str(folder / "floorplan.svg")},
    )


class DoesNotFit(AssertionError):
    """The device is too small, or cannot be routed."""


@dataclass(frozen=True)
class Cell:
    """A placed cell: kind of resource, block of the node that it belongs to, where."""

    kind: str
    block: str
    x: int
    y: int


def placement(routed: Mapping[str, Any]) -> list[Cell]:
    """The cells of a design that nextpnr has written."""
    found = []
    for name, cell in routed["modules"]["top"]["cells"].items():
        bel = cell["attributes"].get("NEXTPNR_BEL")
        kind = KINDS.get(cell["type"])
        if not bel or not kind:
            continue
        x, y = (int(part[1:]) for part in bel.split("/")[:2])
        found.append(Cell(kind, block_of(name), x, y))
    return found


KINDS = {
    "TRELLIS_COMB": "luts",
    "TRELLIS_FF": "ffs",
    "DP16KD": "brams",
    "MULT18X18D": "dsps",
    "ICESTORM_LC": "luts",
    "ICESTORM_RAM": "brams",
    "ICESTORM_DSP": "dsps",
    "ICESTORM_SPRAM": "brams",
}


def block_of(name: str) -> str:
    """The block, two levels below the top, that a cell's name says it is in."""
    parts = name.split(".")
    if parts[0] != "node" or len(parts) < 3:
        return OTHER
    return parts[1] if len(parts) < 4 or parts[1] in LEAVES else f"{parts[1]}.{parts[2]}"


LEAVES = ("bridge", "receiver", "transmitter", "queue", "memory")
"""Blocks of the node that are shown as one."""


def blocks(cells: Iterable[Cell]) -> dict[str, dict[str, int]]:
    """How many of each resource each block has, the largest first."""
    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        counts.setdefault(cell.block, Counter())[cell.kind] += 1
    return {name: dict(counts[name]) for name in sorted(counts, key=lambda n: -counts[n].total())}


def _fmax(report: Mapping[str, Any]) -> float:
    """Of the slowest clock."""
    return min((clock["achieved"] for clock in report["fmax"].values()), default=0.0)


def _about(node: NodeSpec) -> str:
    """The comment at the top."""
    first = f"{node.inner.unit} {__version__} behind a serial line of {node.line.divisor} clock cycles a bit, by Senbazuru"
    lines = [first, "", "Configuration (TOML)", *(f"  {line}" for line in node.inner.to_toml().splitlines())]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines)


def _why(log: Path, said: str) -> str:
    text = (log.read_text() if log.exists() else "") + (said or "")
    errors = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR")]
    return f"the design does not fit: {errors[0] if errors else said[-300:]}"


def _run(command: Sequence[str], folder: Path, log: str | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if log:
        (folder / log).write_text(done.stdout + done.stderr)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, (done.stdout + done.stderr)[-2000:])


def clean(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
