"""The figure of a tuning: held-out accuracy against learning rate for every cell, with the best rate and the range near it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapbench.report.accuracy import ERROR_FLOOR, drawable, stretch_accuracy
from gapbench.report.drawing import ACROSS, grid_figure, sentence_figure
from gapbench.report.style import DASHES, MARKERS, Style, batch_style
from gapbench.tuning import CellResult, Tuned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.6, 3.1
"""Inches of one axes."""
MOST_LINES = 8
"""Cells that share axes."""
TITLE_CHARACTERS = 42
"""Of one line over one axes."""


def learning_rate_figure(tuned: Tuned) -> Figure:
    """Returns one axes for each model and budget (and regime, where there are many cells), a line for each cell in it."""
    facets = _facets(tuned.cells)
    drawn = {title: [cell for cell in cells if any(tried.accuracy for tried in cell.tried)] for title, cells in facets.items()}
    drawn = {title: cells for title, cells in drawn.items() if cells}
    if not drawn:
        return sentence_figure("No trial has ended yet.", WIDTH)
    figure, places = grid_figure(len(drawn), _caption(tuned), size=(WIDTH, HEIGHT), share_y=True)
    for axes, (title, cells) in zip(places, drawn.items(), strict=True):
        _draw(axes, cells)
        axes.set_title("\n".join(textwrap.wrap(title, TITLE_CHARACTERS)))
    stretch_accuracy(places)
    for position, (axes, cells) in enumerate(zip(places, drawn.values(), strict=True)):
        axes.fmt_ydata = _said
        if position % ACROSS == 0:
            axes.set_ylabel("held-out accuracy (%)")
        _mark_diverged(axes, cells)
        axes.legend(loc="best", handlelength=2.6)
    return figure


def _facets(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """Returns the cells by the title of their axes."""
    titles = _titles(cells, by_regime=False)
    if max(titles.count(title) for title in titles) > MOST_LINES:
        titles = _titles(cells, by_regime=True)
    facets: dict[str, list[CellResult]] = {}
    for title, cell in zip(titles, cells, strict=True):
        facets.setdefault(title, []).append(cell)
    return facets


def _titles(cells: Sequence[CellResult], *, by_regime: bool) -> list[str]:
    budgets = {cell.budget for cell in cells}
    return [
        ", ".join(
            [
                cell.panel,
                *([f"equal {cell.budget}"] if len(budgets) > 1 else []),
                *([" and ".join(cell.regimes)] if by_regime else []),
            ]
        )
        for cell in cells
    ]


def _styles(cells: Sequence[CellResult]) -> list[Style]:
    """Returns a style for each cell: its colour is its batch size, its dashes and marker tell cells of one batch size apart."""
    sizes = sorted({cell.batch_size for cell in cells})
    seen: dict[int, int] = {}
    styles = []
    for cell in cells:
        number = seen[cell.batch_size] = seen.get(cell.batch_size, -1) + 1
        place = sizes.index(cell.batch_size)
        color = batch_style(place, len(sizes)).color
        styles.append(Style(color, DASHES[number % len(DASHES)], MARKERS[(place + 3 * number) % len(MARKERS)]))
    return styles


def _draw(axes: Axes, cells: Sequence[CellResult]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    for cell, name, style in zip(cells, _names(cells), _styles(cells), strict=True):
        known = [(tried.rate, tried.accuracy) for tried in cell.tried if tried.accuracy is not None]
        rates = [rate for rate, _ in known]
        means = [drawable(accuracy.mean) for _, accuracy in known]
        axes.plot(
            rates, means, color=style.color, linestyle=style.dashes, marker=style.marker, markersize=4, label=name, zorder=3
        )  # fmt: skip
        for rate, accuracy in known:
            if accuracy.low is not None and accuracy.high is not None:
                axes.vlines(rate, accuracy.low, drawable(accuracy.high), color=style.color, linewidth=0.9, alpha=0.6)
        if cell.near is not None and cell.rate is not None:
            low, high = cell.near
            near = [(rate, mean) for rate, mean in zip(rates, means, strict=True) if low <= rate <= high]
            axes.plot(*zip(*near, strict=True), color=style.color, linewidth=7, alpha=0.22, solid_capstyle="round", zorder=2)
            axes.plot(
                cell.rate, means[rates.index(cell.rate)], marker="o", markersize=10, markerfacecolor="none", color=style.color, zorder=4
            )  # fmt: skip
    axes.set_xlabel("learning rate (log scale)")
    axes.xaxis.set_major_locator(LogLocator(base=10))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.fmt_xdata = lambda value: f"learning rate {value:.4g}"


def _mark_diverged(axes: Axes, cells: Sequence[CellResult]) -> None:
    """Puts a cross at the lower end of the axes for every rate that diverged."""
    for cell, style in zip(cells, _styles(cells), strict=True):
        rates = [tried.rate for tried in cell.tried if tried.accuracy is None]
        if rates:
            axes.plot(
                rates, [0.02] * len(rates), transform=axes.get_xaxis_transform(), linestyle="none", marker="x", color=style.color,
                markersize=6, clip_on=False,
            )  # fmt: skip


def _names(cells: Sequence[CellResult]) -> list[str]:
    """Returns the names of cells that share axes: what all of them have in common is said above the axes."""
    words = [set(own) for cell in cells for own in cell.words]
    common = set.intersection(*words) if len(cells) > 1 else set()
    return [_name(cell, common) + (" (no best rate inside)" if cell.interior is False else "") for cell in cells]


def _name(cell: CellResult, common: set[str]) -> str:
    size = f"B {cell.batch_size}"
    shown = [", ".join(word for word in own if word not in common or word == size) for own in cell.words]
    name = " = ".join(text for text in shown if text)
    if name and all(size in own for own in cell.words):
        return name
    return f"{name}, {size}" if name else size


def _caption(tuned: Tuned) -> str:
    seeds = f"{len(tuned.seeds)} {'seed' if len(tuned.seeds) == 1 else 'seeds'}"
    folds = f", {tuned.folds} folds" if tuned.folds > 1 else ""
    parts = [
        f"Points: mean accuracy on the held-out part of the training set ({seeds}{folds}"
        f"{'; bars: pointwise 95 % t interval over seeds' if len(tuned.seeds) > 1 else ''}).",
        f"Ring: the best rate, chosen among the best three on {len(tuned.check_seeds)} fresh seeds; broad line: the rates "
        "around it that are at most 1 pp below.",
    ]
    if any(cell.diverged for cell in tuned.cells):
        parts.append("Crosses: rates at which a run diverged.")
    if not tuned.complete:
        parts.append("The search is not finished.")
    return " ".join([*parts, "The test set was left alone."])


def _said(accuracy: float) -> str:
    return f"held-out accuracy {100 * accuracy:.2f} %{' or more' if accuracy >= 1 - ERROR_FLOOR else ''}"
