"""The same input gives the same bytes, whatever the hash seed, the process, and what was made before and beside it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gen.registry import unit
from tb import products
from tb.test_export import EVERY, SMALLEST

SEEDS = ("0", "4711")

EXPORT = """
from gen.export import export
from gen.registry import unit
made = [json.dumps(export(unit(name).configure(preset)).files) for name, preset in given]
"""

DOCS = """
from scripts.docs.__main__ import made as pages
made = [json.dumps(pages())]
"""

CONVERT = """
from pathlib import Path
from scripts.cli import main
folder = Path(os.environ["SENBAZURU_CACHE"])
for option in ([], ["--budget-bytes", "17000"]):
    command = ["convert", "--model", given, "--moe", "S1A1E3", "--set", "markers=20", "--tokens", "32", *option]
    assert main([*command, "-o", str(folder / f"{len(option)}.npz")]) == 0
made = [(folder / f"{n}.npz").read_bytes().hex() for n in (0, 2)]
"""

AROUND = """
import hashlib, json, os, sys
given = json.loads(sys.argv[1])
PROGRAM
print(json.dumps([hashlib.sha256(text.encode()).hexdigest() for text in made]))
"""


def digests(program: str, given: Any, seed: str, **environment: str) -> list[str]:
    """Of what the program made, in a process of its own."""
    text = AROUND.replace("PROGRAM", program)
    variables = os.environ | {"PYTHONHASHSEED": seed} | environment
    command = [sys.executable, "-c", text, json.dumps(given)]
    run = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout.splitlines()[-1])
    return found


def exported(which: Sequence[tuple[str, str]], seed: str) -> list[str]:
    """The last first, and told in order."""
    return digests(EXPORT, which[::-1], seed)[::-1]


@pytest.mark.xdist_group("mixpe-tiny")
def test_the_smallest_products_are_the_same_in_another_process_and_order_with_another_hash_seed() -> None:
    made = (products.of(unit(name).configure(preset)) for name, preset in SMALLEST)
    here = [hashlib.sha256(json.dumps(one.files).encode()).hexdigest() for one in made]
    assert exported(SMALLEST, SEEDS[1]) == here


@pytest.mark.slow
def test_all_products_are_the_same_in_two_processes_at_a_time_with_two_hash_seeds() -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(exported, (EVERY, EVERY[::2] + EVERY[1::2]), SEEDS)
    assert dict(zip(EVERY, one, strict=True)) == dict(zip(EVERY[::2] + EVERY[1::2], other, strict=True))


@pytest.mark.slow
def test_the_pages_made_from_the_design_are_the_same_with_two_hash_seeds() -> None:
    assert digests(DOCS, None, SEEDS[0]) == digests(DOCS, None, SEEDS[1])


def test_conversions_are_the_same_with_two_hash_seeds_and_numbers_of_threads(tiny: str, tmp_path: Path) -> None:
    made = []
    for seed, threads in zip(SEEDS, ("1", "2"), strict=True):
        (tmp_path / seed).mkdir()
        made.append(digests(CONVERT, tiny, seed, SENBAZURU_CACHE=str(tmp_path / seed), OPENBLAS_NUM_THREADS=threads))
    assert made[0] == made[1]
