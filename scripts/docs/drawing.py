"""A graph of blocks as SVG: columns from left to right, lines in layers, in the manner of Sugiyama.

Lines that go back against the flow are drawn the other way round, dashed; where two blocks send to each other it is one
line with two heads. A line that passes a column gets a place in it, like a block without a box.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from scripts.docs.graph import Graph, Node

CHARACTER = 7.3
"""Width of a character, 12 px monospaced."""
HEIGHT, PASS = 29, 10
GAP_X, GAP_Y = 64, 18
MARGIN = 16


@dataclass(eq=False)
class Place:
    """A block, or a line that passes a column (``node`` is ``None``)."""

    node: Node | None
    column: int
    before: list["Place"] = field(default_factory=list)
    after: list["Place"] = field(default_factory=list)
    x: float = 0
    y: float = 0

    @property
    def label(self) -> str:
        if self.node is None:
            return ""
        return self.node.name if self.node.count == 1 else f"{self.node.kind} x{self.node.count}"

    @property
    def width(self) -> float:
        return len(self.label) * CHARACTER + 20 if self.node else 0

    @property
    def height(self) -> float:
        return HEIGHT if self.node else PASS


@dataclass(frozen=True)
class Line:
    """``places`` from left to right; ``back`` and ``forth`` say which way things go."""

    places: list[Place]
    forth: bool
    back: bool


def svg(graph: Graph) -> str:
    """The drawing, with a light ground of its own."""
    columns = _columns(graph)
    places = [Place(node, column) for node, column in zip(graph.nodes, columns, strict=True)]
    lines = list(_lines(graph, places, columns))
    by_column: list[list[Place]] = [[] for _ in range(max(columns) + 1)]
    for place in dict.fromkeys([*places, *(p for line in lines for p in line.places)]):
        by_column[place.column].append(place)
    for line in lines:
        for a, b in zip(line.places, line.places[1:], strict=False):
            a.after.append(b)
            b.before.append(a)
    _order(by_column)
    _position(by_column)
    return _document(by_column, lines)


def _columns(graph: Graph) -> list[int]:
    """Streams that come in at the left, streams that go out at the right, blocks by their longest way from the left."""
    n = len(graph.nodes)
    after = [[b for a, b in graph.edges if a == i] for i in range(n)]
    state, forward = [0] * n, set[tuple[int, int]]()

    def walk(i: int) -> None:
        state[i] = 1
        for j in after[i]:
            if state[j] != 1:
                forward.add((i, j))
            if state[j] == 0:
                walk(j)
        state[i] = 2

    for i in sorted(range(n), key=lambda i: graph.nodes[i].side != "in"):
        if state[i] == 0:
            walk(i)
    column = [0 if node.side == "in" else 1 for node in graph.nodes]
    for _ in range(n):
        for i, j in forward:
            column[j] = max(column[j], column[i] + 1)
    last = max([*column, 1])
    ends = [node.side == "out" for node in graph.nodes]
    last += any(c == last and not end for c, end in zip(column, ends, strict=True))
    return [last if end else c for c, end in zip(column, ends, strict=True)]


def _lines(graph: Graph, places: Sequence[Place], columns: Sequence[int]) -> Iterable[Line]:
    for a, b in graph.edges:
        mutual = (b, a) in graph.edges
        if mutual and (columns[a], a) > (columns[b], b):
            continue
        left, right = (a, b) if columns[a] <= columns[b] else (b, a)
        between = [Place(None, c) for c in range(columns[left] + 1, columns[right])]
        yield Line([places[left], *between, places[right]], left == a or mutual, left == b or mutual)


def _order(by_column: list[list[Place]]) -> None:
    """Few crossings: every place goes to the middle of its neighbours, column after column, there and back."""
    for turn in range(12):
        there = turn % 2 == 0
        for column in by_column[1:] if there else by_column[-2::-1]:
            at = {id(p): i for c in by_column for i, p in enumerate(c)}
            middle = {id(p): _mean([at[id(q)] for q in (p.before if there else p.after)], at[id(p)]) for p in column}
            column.sort(key=lambda p: middle[id(p)])


def _position(by_column: list[list[Place]]) -> None:
    x = float(MARGIN)
    for column in by_column:
        width = max(p.width for p in column)
        for p in column:
            p.x = x + width / 2
        x += width + GAP_X
        _stack(column, [0.0] * len(column))
    for turn in range(24):
        for column in by_column if turn % 2 else reversed(by_column):
            _stack(column, [_mean([q.y for q in (*p.before, *p.after)], p.y) for p in column])


def _stack(column: list[Place], wanted: list[float]) -> None:
    """As near to where they want to be as their order and size allow."""
    y = -1e9
    for p, want in zip(column, wanted, strict=True):
        p.y = max(want, y + p.height / 2)
        y = p.y + p.height / 2 + (GAP_Y if p.node else PASS)
    shift = _mean([want - p.y for p, want in zip(column, wanted, strict=True)], 0)
    for p in column:
        p.y += shift


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _document(by_column: list[list[Place]], lines: Iterable[Line]) -> str:
    boxes = [p for c in by_column for p in c]
    top = min(p.y - p.height / 2 for p in boxes) - MARGIN
    width = max(p.x + p.width / 2 for p in boxes) + MARGIN
    height = max(p.y + p.height / 2 for p in boxes) + MARGIN - top
    for p in boxes:
        p.y -= top
    parts = [_path(line) for line in lines] + [_box(p) for p in boxes if p.node]
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size}>
<style>
text {{ font: 12px monospace; text-anchor: middle; fill: #1b1f24 }}
.block {{ fill: #dbe9f6; stroke: #31648c }}
.stream {{ fill: #fff; stroke: none }}
path {{ fill: none; stroke: #57606a; marker-end: url(#head) }}
.back {{ stroke-dasharray: 4 3; marker-end: none; marker-start: url(#head) }}
.both {{ marker-start: url(#head) }}
</style>
<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">
<polygon points="0,0 8,4 0,8" fill="#57606a"/></marker>
<rect width="100%" height="100%" rx="6" fill="#fff"/>
{chr(10).join(parts)}
</svg>
"""


def _path(line: Line) -> str:
    first, *rest = line.places
    x, y = first.x + first.width / 2, first.y
    if first.column == rest[0].column:  # beside each other in a column: round the right side
        end = rest[0].x + rest[0].width / 2
        d = f"M{x:.1f},{y:.1f} C{x + 40:.1f},{y:.1f} {end + 40:.1f},{rest[0].y:.1f} {end:.1f},{rest[0].y:.1f}"
    else:
        d = f"M{x:.1f},{y:.1f}"
        for p in rest:
            to = p.x - p.width / 2
            half = (to - x) / 2
            d += f" C{x + half:.1f},{y:.1f} {to - half:.1f},{p.y:.1f} {to:.1f},{p.y:.1f}"
            x, y = to, p.y
    kind = "both" if line.forth and line.back else "back" if line.back else "forth"
    return f'<path class="{kind}" d="{d}"/>'


def _box(p: Place) -> str:
    assert p.node
    kind = "stream" if p.node.side else "block"
    left, top = p.x - p.width / 2, p.y - p.height / 2
    text = f'<text x="{p.x:.1f}" y="{p.y + 4:.1f}">{escape(p.label)}</text>'
    size = f'width="{p.width:.1f}" height="{p.height:.1f}"'
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" {size} rx="4"/>{text}'
