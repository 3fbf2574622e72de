"""``senbazuru list``: units, presets, parameters with ranges, status."""

import argparse
import json
from typing import Any

from gen.registry import UNITS, Unit

NAME = "list"
HELP = "show units, presets, parameters with ranges, status"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program to read")


def run(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([_record(u) for u in UNITS.values()], indent=2))
    else:
        print("\n\n".join(_text(u) for u in UNITS.values()))
    return 0


def _record(unit: Unit) -> dict[str, Any]:
    return {
        "name": unit.name,
        "summary": unit.summary,
        "source": unit.source,
        "status": unit.status,
        "presets": unit.presets,
        "parameters": unit.spec.parameters(),
    }


def _text(unit: Unit) -> str:
    lines = [unit.name, f"  {unit.summary}", f"  source: {unit.source}", f"  status: {unit.status}", "  presets:"]
    for name, values in unit.presets.items():
        lines.append(f"    {name:12} {' '.join(f'{k}={v}' for k, v in values.items()) or '(all defaults)'}")
    lines.append("  parameters:")
    for p in unit.spec.parameters():
        default = "derived" if p["default"] is None else p["default"]
        lines.append(f"    {p['name']:12} {_allowed(p)} (default {default}): {p['doc']}")
    return "\n".join(lines)


def _allowed(parameter: dict[str, Any]) -> str:
    if parameter["choices"]:
        return " | ".join(parameter["choices"])
    if parameter["low"] is not None:
        return f"{parameter['low']}..{parameter['high']}"
    return str(parameter["type"])
