"""What a unit is made of and what flows where, read from its elaborated design: the blocks one level below the unit.

An edge means that what a block sends (valid and payload of a stream, or a plain signal) reaches another one, through
assignments of the unit itself as well. Ready, and the conditions under which assignments hold, are not followed: a
drawing of everything that depends on everything would show nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Fragment, Instance
from amaranth.hdl._ast import Assign, SignalSet, Statement, Switch
from amaranth.hdl._mem import MemoryInstance

from gen.elaborate import ExportPlatform
from gen.registry import unit
from golden.spec import UnitSpec

HIDDEN = ("skid",)
"""Kinds that stand in every stream, and are drawn as the line that they are in."""


@dataclass
class Node:
    """A block or a stream of the unit; ``count`` equal blocks side by side are one node. ``side``: ``in`` and ``out``
    for streams, empty for blocks."""

    name: str
    kind: str
    side: str = ""
    count: int = 1
    takes: SignalSet = field(default_factory=SignalSet)
    gives: SignalSet = field(default_factory=SignalSet)


@dataclass(frozen=True)
class Graph:
    nodes: list[Node]
    edges: list[tuple[int, int]]
    """from and to, by place in ``nodes``"""


def graph(spec: UnitSpec) -> Graph:
    """The blocks of a unit in one configuration."""
    component = unit(spec.unit).hardware(spec)(spec)
    fragment = Fragment.get(component, ExportPlatform(spec.unit))
    nodes = [_stream(component, p.name, p.direction) for p in spec.ports]
    nodes += [_block(block, name or "", spec.unit) for block, name, _ in fragment.subfragments]
    inside = list(_assignments(s for statements in fragment.statements.values() for s in statements))
    return _joined(nodes, list(_reached(nodes, inside)))


def _stream(component: Any, name: str, direction: str) -> Node:
    node, stream = Node(name, "", direction), getattr(component, name)
    for path, _, value in stream.signature.flatten(stream):
        if path[-1] != "ready":
            (node.gives if direction == "in" else node.takes).update(_signals(value))
    return node


def _block(block: Fragment, name: str, top: str) -> Node:
    if isinstance(block, Instance):
        node = Node(name, block.type.removeprefix(f"{top}_"))
        for port, (value, direction) in block.ports.items():
            if not port.endswith("ready") and port not in ("clk", "rst"):
                (node.takes if direction == "i" else node.gives).update(value._rhs_signals())
        return node
    node = Node(name, name)
    for inner in _all(block):
        for statement in (s for statements in inner.statements.values() for s in statements):
            node.takes.update(_forward(statement._rhs_signals()))
            node.gives.update(_forward(statement._lhs_signals()))
        if isinstance(inner, MemoryInstance):
            for read in inner._read_ports:
                node.gives.update(read._data._rhs_signals())
            for write in inner._write_ports:
                node.takes.update(write._data._rhs_signals())
    return node


def _all(block: Fragment) -> Iterator[Fragment]:
    yield block
    for inner, _, _ in block.subfragments:
        yield from _all(inner)


def _signals(value: Any) -> Iterable[Any]:
    return value._rhs_signals() if hasattr(value, "_rhs_signals") else value.as_value()._rhs_signals()


def _forward(signals: Iterable[Any]) -> list[Any]:
    return [s for s in signals if not s.name.endswith("ready")]


def _assignments(statements: Iterable[Statement]) -> Iterator[Assign]:
    for s in statements:
        if isinstance(s, Assign):
            yield s
        elif isinstance(s, Switch):
            for _, inside, _ in s.cases:
                yield from _assignments(inside)


def _reached(nodes: list[Node], inside: list[Assign]) -> Iterator[tuple[int, int]]:
    onward: dict[int, list[Any]] = {}
    for a in inside:
        for source in _forward(a.rhs._rhs_signals()):
            onward.setdefault(id(source), []).extend(_forward(a.lhs._lhs_signals()))
    for i, node in enumerate(nodes):
        seen, rest = SignalSet(), list(node.gives)
        while rest:
            signal = rest.pop()
            if signal not in seen:
                seen.add(signal)
                rest += onward.get(id(signal), [])
        yield from ((i, j) for j, other in enumerate(nodes) if i != j and any(s in other.takes for s in seen))


def _joined(nodes: list[Node], edges: list[tuple[int, int]]) -> Graph:
    """Skid buffers become part of their lines, equal blocks with equal neighbours one node."""
    for i, node in enumerate(nodes):
        if node.kind.startswith(HIDDEN):
            into, out = [a for a, b in edges if b == i], [b for a, b in edges if a == i]
            edges = [e for e in edges if i not in e] + [(a, b) for a in into for b in out if a != b]
    merged: dict[Any, int] = {}
    place = {}
    for i, node in enumerate(nodes):
        if node.kind.startswith(HIDDEN):
            continue
        around = (frozenset(a for a, b in edges if b == i), frozenset(b for a, b in edges if a == i))
        key = (node.kind, *around) if not node.side and node.kind != node.name else i
        place[i] = merged.setdefault(key, i)
        if place[i] != i:
            nodes[place[i]].count += 1
    kept = sorted(set(place.values()))
    at = {i: kept.index(k) for i, k in place.items()}
    return Graph([nodes[i] for i in kept], sorted({(at[a], at[b]) for a, b in edges if at[a] != at[b]}))
