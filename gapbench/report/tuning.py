"""The report of a tuning: its table, and the figure of held-out accuracy against learning rate; functions of the two Parquet tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.analysis.formats import counted, percent
from gapbench.report.drawing import ACROSS, grid_figure, log_ticks, sentence_figure
from gapbench.report.pages import write_figures, write_texts
from gapbench.report.scales import drawable, stretch_accuracy
from gapbench.report.style import DASHES, MARKERS, Style, batch_style, literal
from gapbench.report.tables import WrittenFiles, csv_text, listing, markdown_table, runs_csv
from gapbench.store.tables import Tables, read_tables
from gapbench.tuning import KEY, CellResult, Tuned, read_tuned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "learning_rate"
"""Name of the figure."""
WIDTH, HEIGHT = 4.6, 3.1
"""Inches of one axes."""
MOST_LINES = 8
"""Cells that share axes."""
TITLE_CHARACTERS = 42
"""Of one line over one axes."""


@dataclass(frozen=True, repr=False)
class TuningFiles(WrittenFiles):
    """What the report of a tuning wrote, and what the tuning found."""

    tuned: Tuned

    def _repr_html_(self) -> str:
        return self.tuned._repr_html_()


def is_tuning(read: Tables) -> bool:
    """Whether tables are those of a tuning."""
    return KEY in read.report


def write_tuning_report(results_dir: Path) -> TuningFiles:
    """Writes `tables/` and `figures/` of a directory of trials anew, each file atomically; works on partial results, too.

    Raises:
        StoreError: a table is missing, damaged, or of a suite's own results, or a file cannot be written.
    """
    read = read_tables(results_dir)
    tuned = read_tuned(read.runs, read.report)
    texts = {
        "tuning.csv": csv_text(tuned.frame()),
        "tuning.md": tuning_markdown(tuned),
        "rates.csv": csv_text(tuned.trials_frame()),
        "runs.csv": runs_csv(read.runs),
    }
    tables = write_texts(texts, results_dir / "tables")
    figures, _ = write_figures({FIGURE: lambda: learning_rate_figure(tuned)}, results_dir / "figures")
    return TuningFiles(tables, figures, tuned)


def tuning_row(tuned: Tuned, cell: CellResult) -> dict[str, str]:
    """Returns the texts of a cell for people, by heading; searched values beside the rate stand after it."""
    others = {f"best {name.replace('_', ' ')}": _other(cell, name) for name in tuned.search if name != "learning_rate"}
    folds = f" x {tuned.folds} folds" if tuned.folds > 1 else ""
    diverged = f" ({cell.diverged} diverged)" if cell.diverged else ""
    return {
        "cell": cell.title,
        "batch": str(cell.batch_size),
        "regime": " = ".join(cell.regimes),
        "points": f"{cell.trials}{diverged}",
        "best rate": "" if cell.rate is None else f"{cell.rate:g}",
        **others,
        "optimum": _optimum(tuned, cell),
        "not told apart": _near(cell) if "learning_rate" in tuned.search else "",
        "held-out acc. (%)": percent(cell.accuracy),
        "held-out loss": "" if cell.loss is None else f"{cell.loss:.3g}{_by_loss(cell)}",
        "fresh seeds": f"{cell.accuracy.n}{folds}" if cell.accuracy else "",
    }


def _other(cell: CellResult, name: str) -> str:
    if name not in cell.other:
        return ""
    return f"{cell.other[name]:g}{' (end of its list)' if name in cell.other_at_edge else ''}"


def _by_loss(cell: CellResult) -> str:
    """Returns at which of the rates that were checked the loss is lowest, where it is another one."""
    lowest = cell.rate_of_lowest_loss
    return "" if lowest in (None, cell.rate) else f" (lowest at {lowest:g})"


def _near(cell: CellResult) -> str:
    """Returns the rates that cannot be told from the best one; an end that is the last rate tried may lie farther out."""
    if cell.near is None:
        return ""
    (low, high), (low_known, high_known) = cell.near, cell.near_ends
    return f"{low:g} {'' if low_known else '(or less) '}to {high:g}{'' if high_known else ' (or more)'}"


def tuning_notes(tuned: Tuned) -> list[str]:
    """Returns what a reader has to know beside the table, in sentences."""
    parts = " or ".join(f"{size:,}" for size in tuned.held_out)
    folds = f", {tuned.folds} disjoint parts in turn" if tuned.folds > 1 else ""
    points = " or ".join(map(str, sorted({cell.trials for cell in tuned.cells})))
    notes = [
        f"Scored on {parts} held-out training examples{folds}, at the end of training; one example is "
        f"{100 / (min(tuned.held_out) * tuned.folds):.2g} pp. The test set was left alone.",
        "Not told apart: the rates around the best one whose held-out accuracy does not differ from its own, by the pointwise 95 % "
        "interval over seeds and folds, paired. The tuned suite trains at both ends of them.",
        f"Every cell has the same number of points ({points}); "
        f"a point with a diverged run is not eligible. Accuracy: on {len(tuned.check_seeds)} fresh seeds, "
        "with the pointwise 95 % t interval over seeds.",
    ]
    if outside := [cell.title for cell in tuned.cells if cell.interior is False]:
        notes.append(
            f"At the edge of what was tried, so that there may be a better rate: {'; '.join(outside)}. "
            "A higher extend_at_most in [tune] goes on from here."
        )
    if none := [cell.title for cell in tuned.cells if tuned.complete and cell.best is None]:
        notes.append(f"No point is eligible, because runs diverged at all of them: {'; '.join(none)}.")
    if tuned.failed:
        notes.append(f"{tuned.failed} of the runs crashed, ran out of memory or of time, and no decision rests on them: tune with --retry.")
    elif not tuned.complete:
        notes.append("The search is not finished: `gapbench tune` goes on.")
    return notes


def tuning_markdown(tuned: Tuned) -> str:
    """Returns `tuning.md`."""
    rows = [tuning_row(tuned, cell) for cell in tuned.cells]
    table = markdown_table([*rows[0]], [[*row.values()] for row in rows])
    return f"# {tuned.suite}: tuning\n\n{table}\n\n## Notes\n\n{listing(tuning_notes(tuned))}\n"


def _optimum(tuned: Tuned, cell: CellResult) -> str:
    if cell.best is None:
        return "none eligible" if tuned.complete else "not known yet"
    return {True: "interior", False: "at the edge", None: ""}[cell.interior]


def learning_rate_figure(tuned: Tuned) -> Figure:
    """Returns held-out accuracy against learning rate, with the best rate of each cell and those that cannot be told from it.

    There is one axes for each model and budget (and regime, where there are many cells), with a line for each cell.
    """
    known = {
        title: [cell for cell in cells if any(tried.accuracy for tried in cell.tried)] for title, cells in _facets(tuned.cells).items()
    }
    drawn = {title: cells for title, cells in known.items() if cells}
    if not drawn:
        return sentence_figure("No trial has ended yet.", WIDTH)
    figure, places = grid_figure(len(drawn), _caption(tuned), size=(WIDTH, HEIGHT), share_y=True)
    for axes, (title, cells) in zip(places, drawn.items(), strict=True):
        _draw(axes, cells)
        axes.set_title(literal("\n".join(textwrap.wrap(title, TITLE_CHARACTERS))))
    stretch_accuracy(places, "held-out accuracy")
    for position, (axes, cells) in enumerate(zip(places, drawn.values(), strict=True)):
        if position % ACROSS == 0:
            axes.set_ylabel("held-out accuracy (%)")
        _mark_diverged(axes, cells)
        axes.legend(loc="best", handlelength=2.6)
    return figure


def _facets(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """Returns the cells by the title of their axes; where they are many, each regime has axes of its own."""
    facets = _by_title(cells, by_regime=False)
    return facets if max(map(len, facets.values())) <= MOST_LINES else _by_title(cells, by_regime=True)


def _by_title(cells: Sequence[CellResult], *, by_regime: bool) -> dict[str, list[CellResult]]:
    several = len({cell.budget for cell in cells}) > 1
    facets: dict[str, list[CellResult]] = {}
    for cell in cells:
        parts = [cell.panel, f"equal {cell.budget}" if several else "", " and ".join(cell.regimes) if by_regime else ""]
        facets.setdefault(", ".join(filter(None, parts)), []).append(cell)
    return facets


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
    axes.set_xscale("log")
    for cell, name, style in zip(cells, _names(cells), _styles(cells), strict=True):
        known = [(tried.rate, tried.accuracy) for tried in cell.tried if tried.accuracy is not None]
        rates = [rate for rate, _ in known]
        means = [drawable(accuracy.mean) for _, accuracy in known]
        axes.plot(rates, means, markersize=4, label=literal(name), zorder=3, **style.line)
        for rate, accuracy in known:
            if accuracy.low is not None and accuracy.high is not None:
                axes.vlines(rate, accuracy.low, drawable(accuracy.high), color=style.color, linewidth=0.9, alpha=0.6)
        if cell.near is not None and cell.rate is not None:
            near = [(tried.rate, drawable(tried.accuracy.mean)) for tried in cell.tried if tried.alike and tried.accuracy is not None]
            axes.plot(*zip(*near, strict=True), color=style.color, linewidth=7, alpha=0.22, solid_capstyle="round", zorder=2)
            best = means[rates.index(cell.rate)]
            axes.plot(cell.rate, best, marker="o", markersize=10, markerfacecolor="none", color=style.color, zorder=4)
    axes.set_xlabel("learning rate (log scale)")
    log_ticks(axes.xaxis)
    axes.fmt_xdata = lambda value: f"learning rate {value:.4g}"


def _mark_diverged(axes: Axes, cells: Sequence[CellResult]) -> None:
    """Puts a cross at the lower end of the axes for every rate that diverged."""
    for cell, style in zip(cells, _styles(cells), strict=True):
        rates = [tried.rate for tried in cell.tried if tried.accuracy is None]
        if rates:
            low, at_the_end = [0.02] * len(rates), axes.get_xaxis_transform()
            axes.plot(rates, low, transform=at_the_end, linestyle="none", marker="x", markersize=6, color=style.color, clip_on=False)


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
    seeds = counted(len(tuned.seeds), "seed")
    folds = f", {tuned.folds} folds" if tuned.folds > 1 else ""
    parts = [
        f"Points: mean accuracy on the held-out part of the training set ({seeds}{folds}"
        f"{'; bars: pointwise 95 % t interval over seeds' if len(tuned.seeds) > 1 else ''}).",
        f"Ring: the best rate, chosen among the best {tuned.rules.finalists} on {len(tuned.check_seeds)} fresh seeds; broad line: the "
        "rates around it that cannot be told from it.",
    ]
    if any(cell.diverged for cell in tuned.cells):
        parts.append("Crosses: rates at which a run diverged.")
    if not tuned.complete:
        parts.append("The search is not finished.")
    return " ".join([*parts, "The test set was left alone."])
