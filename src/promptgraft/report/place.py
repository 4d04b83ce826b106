"""Places names beside points, so that no name covers another name or a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from promptgraft.report.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

REACH = (9, 15, 22, 32, 44)
SIDES = (
    (1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top"),
    (0.7, 0.7, "left", "bottom"), (-0.7, 0.7, "right", "bottom"),
    (0.7, -0.7, "left", "top"), (-0.7, -0.7, "right", "top"),
)  # fmt: skip
"""Places tried around a point: the direction, and the side of the text that lies there. REACH is in points."""


def beside_points(
    axes: Axes, names: Mapping[str, tuple[float, float]], points: Sequence[tuple[float, float]], best: str
) -> None:
    """Write each name beside its point, the best one in bold, with a thin line where there is no room close by."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    occupied = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axes.transData.transform(points)]
    for name, point in sorted(names.items(), key=lambda item: -item[1][1]):
        occupied.append(_write(axes, name, point, occupied, "bold" if name == best else "normal"))


def _write(axes: Axes, name: str, point: tuple[float, float], occupied: Sequence[Bbox], weight: str) -> Bbox:
    """Write a name at the first free place, or at the least covered one, and return the box of its text."""
    best = None
    for reach in REACH:
        for across, up, horizontal, vertical in SIDES:
            line = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.6} if reach > REACH[1] else None
            text = axes.annotate(
                name, point, xytext=(across * reach, up * reach), textcoords="offset points",
                ha=horizontal, va=vertical, fontsize=9, fontweight=weight, arrowprops=line,
            )  # fmt: skip
            box = text.get_window_extent()
            cover = sum(box.overlaps(other) for other in occupied) + 3 * (not _within(axes, box))
            if best is None or cover < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cover, text, box)
            else:
                text.remove()
            if cover == 0:
                return box
    assert best is not None
    return best[2]


def _within(axes: Axes, box: Bbox) -> bool:
    frame = axes.get_window_extent()
    return bool(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
