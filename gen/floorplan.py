"""A picture of a placed design: which block has which tile of the device, and what each block takes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

TILE = 7
"""Points of a tile's side."""

MARGIN, LEGEND, LINE = 24, 330, 18

COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#bbcc33", "#99ddff"),
    *("#332288", "#882255"),
)
"""Of the largest blocks, told apart by most who see few colours; the others are grey."""

GREY = "#bbbbbb"

WEIGHTS = {"brams": 16, "dsps": 16}
"""In a tile, a block RAM or a DSP counts as many look-up tables."""


@dataclass(frozen=True)
class Cell:
    """A placed cell: kind of resource, block that it belongs to, where."""

    kind: str
    block: str
    x: int
    y: int


def counts(cells: Sequence[Cell]) -> dict[str, Counter[str]]:
    """How many of each resource each block has, the largest block first."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for cell in cells:
        found[cell.block][cell.kind] += 1
    return dict(sorted(found.items(), key=lambda item: (-item[1].total(), item[0])))


def picture(cells: Sequence[Cell], title: str) -> str:
    """SVG: the tiles in the colour of the block that has most of them, and the blocks with their figures."""
    blocks = counts(cells)
    colours = dict.fromkeys(blocks, GREY) | dict(zip(blocks, COLOURS, strict=False))
    tiles: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for cell in cells:
        tiles[cell.x, cell.y][cell.block] += WEIGHTS.get(cell.kind, 1)
    right = max((x for x, _ in tiles), default=0) + 1
    top = max((y for _, y in tiles), default=0) + 1
    height = max(top * TILE, LINE * (len(blocks) + 2)) + 3 * MARGIN
    width = right * TILE + LEGEND + 3 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="{MARGIN}" font-size="15">{escape(title)}</text>',
        f'<rect x="{MARGIN}" y="{1.5 * MARGIN}" width="{right * TILE}" height="{top * TILE}" fill="#f4f4f4"/>',
    ]
    for (x, y), inside in sorted(tiles.items()):
        (block, _), *_ = inside.most_common(1)
        shade = min(1.0, 0.35 + inside.total() / 16)
        at = f'x="{MARGIN + x * TILE}" y="{1.5 * MARGIN + (top - 1 - y) * TILE}"'
        lines.append(
            f'<rect {at} width="{TILE - 1}" height="{TILE - 1}" fill="{colours[block]}" fill-opacity="{shade:.2f}"/>'
        )
    lines += _legend(blocks, colours, right * TILE + 2 * MARGIN)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(blocks: dict[str, Counter[str]], colours: dict[str, str], left: int) -> list[str]:
    kinds = sorted({kind for inside in blocks.values() for kind in inside}, reverse=True)
    columns = {kind: left + 190 + 48 * n for n, kind in enumerate(kinds)}
    lines = [f'<text x="{x}" y="{2 * MARGIN}" text-anchor="end">{kind}</text>' for kind, x in columns.items()]
    for n, (block, inside) in enumerate(blocks.items()):
        y = 2 * MARGIN + LINE * (n + 1)
        lines.append(f'<rect x="{left - 12}" y="{y - 10}" width="10" height="10" fill="{colours[block]}"/>')
        lines.append(f'<text x="{left + 2}" y="{y}">{escape(block)}</text>')
        for kind in inside:
            lines.append(f'<text x="{columns[kind]}" y="{y}" text-anchor="end">{inside[kind]:,}</text>')
    return lines
