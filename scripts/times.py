"""Where a test run's time went: ``python -m scripts.times [build/test.xml]``, of a report that ``make test`` wrote.

Processor seconds of every file of tests and of the longest tests. Two workers share the work, so a run takes about half
the sum, and what it has to build.
"""

import argparse
import sys
import xml.etree.ElementTree as xml
from collections import defaultdict
from pathlib import Path

LONGEST = 20


def table(report: Path) -> str:
    """The report's times as Markdown; :class:`ValueError` for one without them."""
    tests: dict[tuple[str, str], float] = {}
    for case in xml.parse(report).iter("testcase"):
        cpu = case.find("properties/property[@name='cpu']")
        if cpu is not None:
            file, seconds = case.attrib["classname"].rpartition(".")[2], float(cpu.attrib["value"])
            tests[file, case.attrib["name"]] = seconds
    if not tests:
        raise ValueError(f"the report must be one of make test, not {report}, which has no times")
    files: defaultdict[str, list[float]] = defaultdict(list)
    for (file, _), seconds in tests.items():
        files[file].append(seconds)
    rows = sorted(((name, len(each), sum(each)) for name, each in files.items()), key=lambda row: -row[2])
    rows.append(("all", len(tests), sum(tests.values())))
    longest = sorted(tests, key=lambda test: -tests[test])[:LONGEST]
    lines = ["| file | tests | CPU seconds |", "|---|---|---|"]
    lines += [f"| {name} | {number} | {seconds:.1f} |" for name, number, seconds in rows]
    lines += ["", "| test | CPU seconds |", "|---|---|"]
    lines += [f"| {file}: {name} | {tests[file, name]:.1f} |" for file, name in longest]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.times", description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, default=Path("build/test.xml"))
    try:
        print(table(parser.parse_args().report))
    except (OSError, ValueError, xml.ParseError) as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
