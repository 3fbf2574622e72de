"""Configurations drawn at random, of any unit, from what its specification says of its fields.

:func:`settings` draws values of all kinds, wrong ones among them. :func:`small` draws accepted specifications around
the preset ``tiny``, near enough for a build in seconds, and :func:`judge` makes the product of one, lints it and plays
the unit's bench. ``python -m tb.fuzz`` does that any number of times.
"""

import argparse
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from gen.export import export
from gen.registry import UNITS, Unit, unit
from golden.soc.kinds import KINDS
from golden.spec import SpecError, UnitSpec
from tb import products
from tb.build import Build
from tb.runner import replay_command, run_bulk
from tb.transactions import CheckFailed
from tb.units import BENCHES

GROWTH = 4
"""How many times the sizes of ``tiny`` a small configuration has, multiplied over all of its parameters."""

Values = Mapping[str, Any]

STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.just(1 << 20000),  # more digits than Python writes
    st.text(),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)
"""What a TOML file or a command line may have in the place of a value."""


def settings(of: Unit) -> st.SearchStrategy[Values]:
    """Values of some parameters: most that the parameter alone allows; at its limits, beyond them, and of any kind."""
    given = {p["name"]: st.one_of(_allowed(p), _allowed(p), _near(p), STRANGE) for p in of.spec.parameters()}
    return _sensible(of) | st.fixed_dictionaries({}, optional=given)


def _sensible(of: Unit) -> st.SearchStrategy[Values]:
    return st.fixed_dictionaries({}, optional={p["name"]: _allowed(p) for p in of.spec.parameters()})


def _allowed(p: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if p["choices"]:
        return st.sampled_from(p["choices"])
    if p["low"] is not None:
        return _sizes(p["low"], p["high"])
    return st.booleans() if p["type"] == "bool" else _nested(p["name"])


def _near(p: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Just allowed, just not, and as text."""
    if p["low"] is None:
        return _allowed(p).map(str)
    return st.sampled_from([p["low"] - 1, p["low"], p["high"], p["high"] + 1]) | _allowed(p).map(str)


def _sizes(low: int, high: int) -> st.SearchStrategy[int]:
    """Many are small, or products of small numbers and powers of two, as sizes have to agree with one another."""
    powers = st.builds(lambda n, m: min(max(n << m, low), high), st.integers(1, 9), st.integers(0, high.bit_length()))
    return st.integers(low, min(low + 16, high)) | powers | st.integers(low, high)


def _nested(name: str) -> st.SearchStrategy[str]:
    """A unit inside another one, as text: that kind's ``name=value,...``."""
    (kind,) = (kind for kind in KINDS if kind.name == name)
    return st.sampled_from(["off", "on"]) | _sensible(unit(kind.spec.unit)).map(_text) | st.text()


def _text(values: Values) -> str:
    return ",".join(f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in values.items()) or "on"


@st.composite
def small(draw: st.DrawFn, of: Unit, growth: float = GROWTH) -> UnitSpec:
    """A specification that is accepted, and at most ``growth`` times as large as ``tiny``: some of its parameters are
    changed, all of those that were drawn if that is possible, else one after the other those that are accepted."""
    values, tiny = dict(of.preset("tiny")), of.configure("tiny").values()
    parameters = {p["name"]: p for p in of.spec.parameters()}
    names = draw(st.lists(st.sampled_from(sorted(parameters)), min_size=(len(parameters) + 1) // 2, unique=True))
    drawn = {name: draw(_little(parameters[name], tiny[name], growth)) for name in names}
    for change in (drawn, *({name: value} for name, value in (*drawn.items(), *drawn.items()))):
        if math.prod(_ratio(new, tiny[name]) for name, new in (values | change).items() if name in tiny) > growth:
            continue
        try:
            of.configure(layers=[values | change])
        except SpecError:
            continue
        values |= change
    return of.configure(layers=[values])


def _little(p: Mapping[str, Any], tiny: Any, growth: float) -> st.SearchStrategy[Any]:
    if p["low"] is not None:
        return _sizes(p["low"], min(p["high"], max(int(tiny * growth), p["low"] + 8)))
    return _allowed(p) if p["type"] != "str" or p["choices"] else st.just("off") | _part(p["name"])


def _part(name: str) -> st.SearchStrategy[str]:
    """No larger than the preset ``tiny`` of that unit."""
    (kind,) = (kind for kind in KINDS if kind.name == name)
    return small(unit(kind.spec.unit), growth=1).map(lambda spec: _text(spec.values()))


def _ratio(new: Any, old: Any) -> float:
    return max(1.0, new / old) if type(new) is int and old else 1.0


def judge(spec: UnitSpec, seed: int, keep: bool) -> int:
    """Export, lint and bench; raises what is wrong with it. Returns the simulated clock cycles. Without ``keep`` the
    build is removed."""
    made = export(spec)
    with tempfile.TemporaryDirectory() as folder:
        made.write(folder)
        said = products.lint(Path(folder), f"{made.top}.vlt", f"{made.top}.v")
    if said:
        raise CheckFailed(f"{replay_command(spec, seed)}: lint says\n{said}")
    try:
        return run_bulk(spec, BENCHES[spec.unit](spec, seed), seed, made).ran
    finally:
        if not keep:
            shutil.rmtree(Build(made).folder, ignore_errors=True)


def main() -> None:
    """The last line tells how many configurations there were, and in how many simulated cycles."""
    parser = argparse.ArgumentParser(prog="python -m tb.fuzz", description="Random small configurations, benched.")
    parser.add_argument("--count", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--unit", action="append", choices=UNITS, help="only this one; may be given again")
    args = parser.parse_args()
    names = args.unit or list(UNITS)
    ran = dict.fromkeys(names, 0)
    cycles = 0

    def one(spec: UnitSpec) -> None:
        nonlocal cycles
        cycles += judge(spec, args.seed, keep=False)
        ran[spec.unit] += 1
        print(f"{sum(ran.values())} of {args.count}", flush=True)

    drawn = st.sampled_from(names).flatmap(lambda name: small(UNITS[name]))
    hypothesis.seed(args.seed)(bounded(args.count)(hypothesis.given(drawn)(one)))()
    print(", ".join(f"{name} {n}" for name, n in ran.items()))
    print(f"{sum(ran.values())} configurations, {cycles:,} cycles: no difference")


def bounded(count: int) -> hypothesis.settings:
    """That many, always the same ones; a build that fails is not made smaller, which would take many."""
    return hypothesis.settings(
        max_examples=count,
        database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=list(hypothesis.HealthCheck),
        deadline=None,
    )


if __name__ == "__main__":
    main()
