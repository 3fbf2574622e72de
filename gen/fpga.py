"""From a node to a board: the project, its bitstream, and what it takes of the device."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gen import __version__, toolchain
from gen.boards import Board, Pll, Top
from gen.elaborate import elaborate
from gen.export import Product
from gen.floorplan import Cell, counts, picture
from gen.manifest import manifest
from gen.registry import unit
from gen.tidy import tidy
from golden.files import write, write_all
from golden.soc.board import NodeSpec
from hdl.shared import Shared
from hdl.soc.board import LineShell, Node
from hdl.stream.axi import AxiShell

SEEDS = 3

OTHER = "top"
"""The block of cells whose name does not say where they belong."""


@dataclass(frozen=True)
class LongestPath:
    """The longest path from register to register: cells at its ends, blocks that it passes, cells of logic between, and
    nanoseconds in cells and on wires."""

    begins: str
    ends: str
    blocks: Sequence[str]
    levels: int
    cells: float
    wires: float

    def __str__(self) -> str:
        where = f"{self.begins} to {self.ends}, through {', '.join(self.blocks)}"
        return f"{self.cells:.1f} ns in {self.levels} cells, {self.wires:.1f} ns on wires: {where}"


@dataclass(frozen=True)
class Report:
    """What a board's build came to.

    ``utilisation``: of each resource of the device how many are taken, and how many there are. ``blocks``: of each
    block inside the node how many of them; cells are known by their names, which look-up tables have from the nets that
    they drive. ``fmax`` in MHz by seed, of the node's clock; ``met`` if every seed reaches ``clock``. ``longest``: the
    path that decides on the fastest seed's. ``divisor``: clock cycles of a bit on the line. ``files`` by what they are.
    """

    board: str
    device: str
    unit: str
    configuration: Mapping[str, Any]
    clock: float
    divisor: int
    utilisation: Mapping[str, tuple[int, int]]
    blocks: Mapping[str, Mapping[str, int]]
    fmax: Mapping[int, float]
    longest: LongestPath
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
        rows |= {"clock": f"{self.clock:g} MHz: {'met' if self.met else 'not met'}", "longest path": str(self.longest)}
        rows |= self.tools
        width = max(map(len, (*rows, *self.blocks)))
        kinds = sorted({kind for counts in self.blocks.values() for kind in counts})
        lines = [f"{self.unit} on {self.board}", *(f"{name:{width}}  {value}" for name, value in rows.items())]
        lines += ["", f"{'block':{width}}" + "".join(f"{kind:>10}" for kind in kinds)]
        for name, inside in self.blocks.items():
            lines.append(f"{name:{width}}" + "".join(f"{inside.get(kind, 0):>10,}" for kind in kinds))
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
    return Product("line", whole, manifest(node, "line", whole), "", "")  # type: ignore[arg-type]


def project(node: NodeSpec, board: Board, clock: float) -> dict[str, str]:
    """The files of the board's build, by name: sources, constraints, and the script of its tools."""
    platform = board.create()
    pll = None if clock == board.clock else Pll.make(board.clock, clock)
    platform.add_file("node.v", verilog(node))
    plan = platform.prepare(Top(pll), "top", emit_src=False, synth_opts="-abc9")
    return {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}


@dataclass(frozen=True)
class Options:
    """``seeds``: place and route so often. ``say`` is told what goes on."""

    seeds: int = SEEDS
    say: Callable[[str], None] = lambda line: None


def build(node: NodeSpec, board: Board, clock: float, folder: Path, options: Options) -> Report:
    """The bitstream of the fastest seed, in ``folder``, and what all came to.

    Raises  :class:`~gen.toolchain.ToolError` for a missing tool; :class:`DoesNotFit` where the node is too large.
    """
    flow = FLOWS[board.family]
    route, pack, yosys = toolchain.device_tool(flow.route), toolchain.device_tool(flow.pack), toolchain.yosys()
    files = project(node, board, clock)
    write_all(folder, files)
    _, (_, *routing), (_, *packing) = json.loads(files["build_top.json"])["commands"]
    options.say(f"synthesising {node.inner.unit} for {board.device}")
    _run([*yosys.command, "top.ys"], folder, "top.rpt")
    reports = {}
    for seed in range(1, options.seeds + 1):
        options.say(f"placing and routing, seed {seed} of {options.seeds}")
        reports[seed] = _route([*route, *map(str, routing)], flow, folder, seed)
    fmax = {
        seed: min((c["achieved"] for c in report["fmax"].values()), default=0.0) for seed, report in reports.items()
    }
    best = max(fmax, key=lambda seed: fmax[seed])
    (folder / f"seed{best}.out").replace(folder / flow.routed)
    _run([*pack, *packing], folder)
    cells = placement(json.loads((folder / f"seed{best}.routed").read_text()))
    write(folder / "floorplan.svg", picture(cells, f"{node.inner.unit} on {board.name}"))
    for left in (*folder.glob("seed*.routed"), *folder.glob("seed*.out")):
        left.unlink()
    used = reports[best]["utilization"]
    return Report(
        board=board.name,
        device=board.device,
        unit=node.inner.unit,
        configuration=node.inner.values(),
        clock=clock / 1e6,
        divisor=node.line.divisor,
        utilisation={name: (used[key]["used"], used[key]["available"]) for name, key in board.capacity.items()},
        blocks={name: dict(inside) for name, inside in counts(cells).items()},
        fmax={seed: round(f, 2) for seed, f in fmax.items()},
        longest=longest(reports[best]),
        tools={"yosys": yosys.version, "nextpnr": toolchain.device_version(flow.route)},
        files={"bitstream": str(folder / flow.bitstream), "floorplan": str(folder / "floorplan.svg")},
    )


def _route(command: Sequence[str], flow: "Flow", folder: Path, seed: int) -> Any:
    """nextpnr's report; the design goes to ``seed<n>.out``, with its places to ``seed<n>.routed``."""
    names = {flow.routed: f"seed{seed}.out", "top.tim": f"seed{seed}.log"}
    files = ["--report", f"seed{seed}.json", "--write", f"seed{seed}.routed"]
    try:
        _run([*(names.get(a, a) for a in command), "--seed", str(seed), *files, "--timing-allow-fail"], folder)
    except subprocess.CalledProcessError as e:
        log = folder / f"seed{seed}.log"
        said = (log.read_text() if log.exists() else "") + e.output
        errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR")]
        raise DoesNotFit(f"the device must have room for the design: {(errors or [said[-300:]])[0]}") from None
    return json.loads((folder / f"seed{seed}.json").read_text())


@dataclass(frozen=True)
class Flow:
    """Names of the tools and of what they write."""

    route: str
    pack: str
    routed: str
    bitstream: str


FLOWS = {
    "ecp5": Flow("nextpnr-ecp5", "ecppack", "top.config", "top.bit"),
    "ice40": Flow("nextpnr-ice40", "icepack", "top.asc", "top.bin"),
}
"""By family of devices: those that bitstreams are built for."""


class DoesNotFit(AssertionError):
    """The device is too small, or cannot be routed."""


def longest(report: Mapping[str, Any]) -> LongestPath:
    """Of nextpnr's report: the slowest path within one clock."""
    inside = [p["path"] for p in report["critical_paths"] if p["from"] == p["to"] != "<async>"]
    steps = max(inside, key=lambda path: sum(step["delay"] for step in path))
    on_wires = sum(step["delay"] for step in steps if step["type"] == "routing")
    cells = [step["to"]["cell"] for step in steps]
    return LongestPath(
        begins=cells[0],
        ends=cells[-1],
        blocks=list(dict.fromkeys(map(block_of, cells))),
        levels=sum(step["type"] == "logic" for step in steps),
        cells=round(sum(step["delay"] for step in steps) - on_wires, 2),
        wires=round(on_wires, 2),
    )


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


def _about(node: NodeSpec) -> str:
    """The comment at the top."""
    first = (
        f"{node.inner.unit} {__version__} behind a serial line of {node.line.divisor} clock cycles a bit, by Senbazuru"
    )
    lines = [first, "", "Configuration (TOML)", *(f"  {line}" for line in node.inner.to_toml().splitlines())]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines)


def _run(command: Sequence[str], folder: Path, log: str | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if log:
        write(folder / log, done.stdout + done.stderr)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, (done.stdout + done.stderr)[-2000:])
