"""The page of a unit, in Markdown: what its docstring, its specification and its registry entry say."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gen.registry import Unit
from golden.ports import AxiChannel, StreamPort
from golden.spec import UnitSpec
from scripts.docs.source import smallest
from scripts.docs.verification import Evidence
from scripts.history import CELLS

SYSTEM = {"mixpe": "mixpe", "kmeans": "kmeans", "orizuru": "orizuru", "moe": "moe_hardware", "soc": "accelerator"}
"""The page of a system, by its package in ``golden``."""

PAGE = {
    "expert_cache": "residency",
    "expert_table": "residency",
    "moe_resident": "residency",
    "uart_bridge": "fpga",
    "axi_memory": "fpga",
}
"""Units that are described elsewhere."""

_SECTION = re.compile(r"^(?=.{11} \S)([A-Z][a-z]+(?: [a-z]+)?) {2,}(\S.*)$")


def page(unit: Unit, costs: Mapping[str, float], evidence: Evidence, timed: bool) -> str:
    """The whole page. ``costs``: what the smallest preset was measured to cost, if it was; ``timed``: has a diagram."""
    preset = smallest(unit)
    spec = unit.configure(preset)
    system = PAGE.get(unit.name, SYSTEM[unit.spec.__module__.split(".")[1]])
    chosen = f"{unit.name} --preset {preset}"
    parts = {
        "Datasheet": datasheet(unit.spec),
        "Blocks": _figure(
            unit.name,
            f"Blocks of {unit.name} and what flows between them",
            f"Preset `{preset}`, drawn from the design. Dashed: against the flow; two heads: both ways. Buffers at the "
            "streams are part of their lines.",
        ),
        "Timing": _figure(
            f"{unit.name}_timing",
            "Which beats move in which cycle",
            f"A case of the bench, preset `{preset}`, as simulated: the number of the beat that moves (blue) or waits "
            "(yellow) on each stream.",
        ),
        "Streams": _streams(spec, preset),
        "Parameters": table(["parameter", "values", "default", ""], _parameters(unit)),
        "Presets": _presets(unit),
        "Cost": _cost(chosen, costs),
        "Verified": evidence.section(),
    }
    if not timed:
        del parts["Timing"]
    if not costs.keys() >= set(CELLS):
        del parts["Cost"]
    head = f"""\
# {unit.name}

{_plain(unit.summary[0].upper() + unit.summary[1:])}.

Source: {_plain(unit.source)}. The system that it belongs to: [](../{system}.md).

```sh
senbazuru gen {chosen} -o out
senbazuru sim {chosen}
```
"""
    return head + "".join(f"\n## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in parts.items())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def datasheet(spec: type[UnitSpec]) -> Iterator[str]:
    """The docstring as a definition list: its headings stand at the left, their text begins in column 12."""
    paragraph: list[str] = []
    for line in inspect.cleandoc(spec.__doc__ or "").splitlines():
        found = _SECTION.match(line)
        if found:
            yield from _paragraph(paragraph)
            yield f"\n{found[1]}"
            paragraph = [f": {found[2]}"]
        else:
            paragraph.append(line.strip())
    yield from _paragraph(paragraph)


def _paragraph(lines: Sequence[str]) -> Iterator[str]:
    yield _plain(" ".join(line for line in lines if line))


def _plain(text: str) -> str:
    """Text of a docstring as Markdown: names in code, no other markup."""
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda m: f"`{m[1].split('.')[-1]}`", text.replace("``", "`"))
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_<\[\]|])", r"\\\1", p) for p in parts)


def _figure(name: str, alternative: str, caption: str) -> Iterator[str]:
    yield f"```{{figure}} ../drawings/{name}.svg\n:alt: {alternative}\n\n{caption}\n```"


def _streams(spec: UnitSpec, preset: str) -> Iterator[str]:
    yield f"Preset `{preset}`; `{spec.unit}.json` has this for every configuration.\n"
    rows = [row for port in spec.ports for row in _fields(port)]
    yield from table(["stream", "lanes", "tlast ends", "field", "bits of a lane", "format", ""], rows)
    for status in spec.status:
        causes = ", ".join(f"bit {i}: {_plain(cause)}" for i, cause in enumerate(status.causes))
        yield f"\n`{status.signal}`: {causes}."


def _fields(port: StreamPort) -> Iterator[list[str]]:
    for i, f in enumerate(port.fields):
        low = port.lsb(f.name)
        bits = f"{low + f.width - 1}:{low}" if f.width > 1 else str(low)
        first = [f"`{port.prefix}`", str(port.lanes), port.last, _plain(port.doc)] if i == 0 else ["", "", "", ""]
        name = f"`{port.signal(f.name)}`" if isinstance(port, AxiChannel) else f"`{f.name}`"
        yield [*first[:3], name, bits, f"`{f.format}`", first[3]]


def _parameters(unit: Unit) -> Iterator[list[str]]:
    for p in unit.spec.parameters():
        allowed = " ".join(f"`{c}`" for c in p["choices"] or ()) or str(p["type"])
        if p["low"] is not None:
            allowed = f"{p['low']} .. {p['high']}"
        yield [
            f"`{p['name']}`",
            allowed,
            "derived" if p["default"] is None else f"`{_value(p['default'])}`",
            _plain(p["doc"]),
        ]


def _presets(unit: Unit) -> Iterator[str]:
    rows = [[f"`{n}`", " ".join(f"`{k}={_value(v)}`" for k, v in values.items())] for n, values in unit.presets.items()]
    yield from table(["preset", "sets"], rows)
    figures = {name: unit.configure(name).figures() for name in unit.presets}
    names = dict.fromkeys(n for f in figures.values() for n in f)
    yield "\nBy the specification's formulas, to which the benches hold the RTL; explained on the system's page:\n"
    rows = [[f"`{n}`", *(f"{f[n]:,}" if n in f else "" for f in figures.values())] for n in names]
    yield from table(["figure", *(f"`{n}`" for n in figures)], rows)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cost(chosen: str, costs: Mapping[str, float]) -> Iterator[str]:
    yield f"On ECP5, not placed, by `senbazuru synth {chosen} --target ecp5 --seeds 0`; other targets, and speed:"
    yield "[](../synthesis.md).\n"
    figures = [f"{costs[name]:,.0f}" for name in CELLS]
    yield from table(["LUTs", "flip-flops", "block RAMs", "DSP blocks"], [figures])
