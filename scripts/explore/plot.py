"""The sweep as a picture: quality over cost, the front drawn and named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golden.files import replacing
from golden.spec import SpecError
from scripts.explore.pareto import Point
from scripts.explore.study import label

ENDINGS = (".svg", ".png")
MARKERS = "ovs^DPX<>*hdp8H"

# The same points give the same bytes: no random names in the file, no date, no versions.
_RC: Any = {"svg.hashsalt": "senbazuru", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
_NAMELESS: dict[str, Mapping[str, None]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}


def check(path: Path) -> None:
    """Refuse what :func:`draw` could not do, before anything is measured: :class:`SpecError` for another ending or a
    folder that cannot be; ``ModuleNotFoundError`` without matplotlib."""
    if path.suffix not in ENDINGS:
        raise SpecError(f"plot must be a file name that ends in {' or '.join(ENDINGS)}, not '{path}'")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(0, "Is a directory")
    except OSError as e:
        raise SpecError(f"plot {path} must be writable: {e.strerror}") from None
    import matplotlib.figure  # noqa: F401


def curves(
    path: Path, x: Sequence[float], lines: Mapping[str, Sequence[float]], title: str, across: str, up: str
) -> None:
    """Each line over ``x``, both logarithmic."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=across, ylabel=up, xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        for (name, y), mark in zip(lines.items(), MARKERS, strict=False):
            axes.plot(x, y, label=name, marker=mark, markersize=4)
        axes.legend()
        with replacing(path) as part:
            figure.savefig(part, metadata=_NAMELESS[path.suffix])


def draw(
    path: Path, points: Sequence[Point], best: Sequence[Point], title: str, cost: str, quality: str, less: bool = True
) -> None:
    """All points over a logarithmic cost, which gets worse to the right (``less`` of it is better, or more): colours by
    the second axis of the sweep, marks by the first."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(11, 7), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=cost, ylabel=quality, xscale="log")
        axes.grid(alpha=0.3)
        if not less:
            axes.invert_xaxis()
        axes.step([p.cost for p in best], [p.quality for p in best], where="post", color="0.4", lw=1, zorder=1)
        _scatter(axes, points)
        axes.scatter(
            [p.cost for p in best],
            [p.quality for p in best],
            s=90,
            facecolors="none",
            edgecolors="black",
            label="front",
        )
        _names(axes, best, points)
        figure.legend(loc="outside right upper", fontsize=8)
        with replacing(path) as part:
            figure.savefig(part, metadata=_NAMELESS[path.suffix])


def _scatter(axes: Any, points: Sequence[Point]) -> None:
    from matplotlib import colormaps

    mark_axis, colour_axis = list(points[0].configuration)[:2]
    marks = list(dict.fromkeys(p.configuration[mark_axis] for p in points))
    colours = list(dict.fromkeys(p.configuration[colour_axis] for p in points))
    for i, mark in enumerate(marks):
        style = {"marker": MARKERS[i % len(MARKERS)], "s": 28}
        axes.scatter([], [], color="0.5", label=f"{mark_axis} {mark}", **style)
        for j, colour in enumerate(colours):
            some = [p for p in points if (p.configuration[mark_axis], p.configuration[colour_axis]) == (mark, colour)]
            axes.scatter([p.cost for p in some], [p.quality for p in some], color=colormaps["tab10"](j % 10), **style)
    for j, colour in enumerate(colours):
        axes.scatter([], [], marker="o", color=colormaps["tab10"](j % 10), label=f"{colour_axis} {colour}")


def _names(axes: Any, best: Sequence[Point], points: Sequence[Point]) -> None:
    """Numbers beside the points of the front, on alternate sides; their names in the legend."""
    among = [p.configuration for p in points]
    for i, point in enumerate(best, 1):
        offset = {"xytext": (-8, 6), "ha": "right"} if i % 2 else {"xytext": (8, -12), "ha": "left"}
        axes.annotate(str(i), (point.cost, point.quality), textcoords="offset points", fontsize=9, **offset)
        axes.scatter([], [], marker=f"${i}$", color="black", label=label(point.configuration, among))
