"""Where things stand in a figure, the same in all: panels one below another, legends beside them, a caption below all."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gapbench.report.marks import CAPTION, mark_entry, mark_of
from gapbench.report.style import MUTED, new_figure, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

PAPER_LABEL = "paper (single run)"

ENTRY = 0.185
"""Inches that an entry of a legend takes."""
COLUMNS = 2
"""Axes of a grid that stand in one row."""


class Titled(Protocol):
    """What a band of a figure is of: a panel, or anything else with a title."""

    @property
    def title(self) -> str:
        """What stands above it."""


Part = TypeVar("Part", bound=Titled)


def panel_figure(
    panels: Sequence[Part],
    width: float,
    height: Callable[[Part], float],
    measured: Callable[[Part], bool],
    draw: Callable[[SubFigure, Part], Sequence[Axes]],
    caption: str,
    labels: Callable[[Sequence[Part]], Sequence[str]] = lambda _: (),
    *,
    missing: Callable[[Part], str] = lambda _: "No run has measured this yet.",
    nothing: str = "No run is planned.",
) -> Figure:
    """Returns a figure with one band of axes per panel under its title, its legend to the right of them, and a caption below all.

    Args:
        panels: models are never drawn into one another's axes.
        width: inches of axes; the legend's width is added.
        height: inches that a panel takes.
        measured: whether there is anything to draw for a panel.
        draw: draws such a panel and returns its axes.
        caption: what lines, bands and marks are.
        labels: returns those of the legend of some panels, for which there is to be room; none where there is no legend.
        missing: what is said of a panel with nothing to draw.
        nothing: what is said where there is no panel.
    """
    if not panels:
        return sentence_figure(nothing, width)
    entries = [set(labels([panel])) for panel in panels]
    heights = [max(height(panel), 0.5 + ENTRY * len(own)) if measured(panel) else 1.0 for panel, own in zip(panels, entries, strict=True)]
    beside = 0.75 + 0.072 * max(map(len, set().union(*entries))) if any(entries) else 0.15
    figure, bands = captioned_figure(width + beside, heights, caption)
    for band, panel in zip(bands, panels, strict=True):
        band.suptitle(panel.title, x=0.012, ha="left", fontsize=10.5, fontweight="bold")
        left, right = band.subfigures(1, 2, squeeze=False, width_ratios=[width, beside])[0]
        if measured(panel):
            _legend(right, draw(left, panel))
        else:
            say(left, missing(panel))
    return figure


def grid_figure(
    count: int, caption: str, *, size: tuple[float, float], margin: float = 0.0, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure of equal axes, two in a row, with a caption below all, and those axes.

    Args:
        count: number of axes, at least 1.
        caption: what lines, bands and marks are.
        size: inches of one of them.
        margin: inches that are added to the width.
        share_y: whether they have one y axis.
    """
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure, (band,) = captioned_figure(size[0] * columns + margin, [size[1] * rows], caption)
    places = list(band.subplots(rows, columns, squeeze=False, sharey=share_y).flat)
    for axes in places[count:]:
        axes.set_axis_off()
    return figure, places[:count]


def captioned_figure(width: float, heights: Sequence[float], caption: str) -> tuple[Figure, list[SubFigure]]:
    """Returns a figure of empty bands, one below another, with a caption below all, and those bands.

    Args:
        width: inches of everything.
        heights: inches of each band.
        caption: what lines, bands and marks are; broken into lines that fit.
    """
    lines = textwrap.wrap(caption, int(17 * width))
    below = 0.12 + 0.16 * len(lines)
    figure = new_figure(width, sum(heights) + below)
    *bands, under = figure.subfigures(len(heights) + 1, 1, squeeze=False, height_ratios=[*heights, below])[:, 0]
    under.text(0.012, 1, "\n".join(lines), ha="left", va="top", fontsize=8, color=MUTED, linespacing=1.35, gid=CAPTION)
    return figure, bands


def sentence_figure(text: str, width: float) -> Figure:
    """Returns a figure that says why there is nothing to draw; `width` in inches."""
    figure = new_figure(width, 2.0)
    say(figure, text)
    return figure


def _legend(figure: SubFigure, axes: Sequence[Axes]) -> None:
    """Puts one legend for all axes, each label once, the paper's numbers last."""
    from matplotlib.offsetbox import DrawingArea

    handles: dict[str, Any] = {}
    cells: dict[str, list[str]] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
            drawn = mark_of(handle[0] if isinstance(handle, tuple) else handle)  # of a container, its line
            cells.setdefault(label, []).extend(drawn.cells if drawn else ())
    labels = sorted(handles, key=lambda label: label == PAPER_LABEL)
    if labels:
        legend = figure.legend(
            [handles[label] for label in labels], labels, loc="upper left", bbox_to_anchor=(0, 0.97), alignment="left", borderaxespad=0
        )
        keys = legend.findobj(DrawingArea)
        for label, key, text in zip(labels, keys, legend.get_texts(), strict=True):
            mark_entry([*key.get_children(), text], cells[label])
