"""The report of a tuning: its table and its figure, as functions of the two Parquet tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gapbench.report.figures import drawings
from gapbench.report.style import house_style, render
from gapbench.report.tables import csv_text, markdown_table, runs_csv
from gapbench.store.files import write_bytes, write_text
from gapbench.store.tables import Tables, read_tables
from gapbench.tuning import KEY, CellResult, Tuned, read_tuned

COLUMNS = ("cell", "batch", "regime", "points", "best rate", "optimum", "within 1 pp", "held-out acc. (%)", "fresh seeds")
"""Of the table for people; searched values beside the rate stand after it."""


@dataclass(frozen=True)
class TuningFiles:
    """What the report of a tuning wrote, and what the tuning found."""

    tuned: Tuned
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    """As .svg, then as .png."""

    def __repr__(self) -> str:
        return f"TuningFiles({len(self.tables)} tables, {len(self.figures)} figure files in {str(self.tables[0].parent.parent)!r})"

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
    for folder in ("tables", "figures"):
        (results_dir / folder).mkdir(parents=True, exist_ok=True)
    tables = []
    for name, text in texts.items():
        write_text(results_dir / "tables" / name, text)
        tables.append(results_dir / "tables" / name)
    figures = []
    for name, draw in drawings(read).items():
        with house_style():
            figure = draw()
            for kind in ("svg", "png"):
                figures.append(results_dir / "figures" / f"{name}.{kind}")
                write_bytes(figures[-1], render(figure, kind))
    return TuningFiles(tuned, tuple(tables), tuple(figures))


def tuning_columns(tuned: Tuned) -> tuple[str, ...]:
    """Returns the headings of the table for people."""
    others = [f"best {name.replace('_', ' ')}" for name in tuned.search if name != "learning_rate"]
    at = COLUMNS.index("best rate") + 1
    return (*COLUMNS[:at], *others, *COLUMNS[at:])


def tuning_row(tuned: Tuned, cell: CellResult) -> list[str]:
    """Returns the texts of a cell, in the order of `tuning_columns`."""
    low_end, high_end = ("" if end else "or " for end in cell.near_ends)
    near = ""
    if cell.near is not None:
        low, high = cell.near
        near = f"{low:g} {'(or less) ' if low_end else ''}to {high:g}{' (or more)' if high_end else ''}"
    accuracy = ""
    if cell.accuracy is not None:
        half = cell.accuracy.half_width
        accuracy = f"{100 * cell.accuracy.mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
    others = [
        f"{cell.other[name]:g}{' (end of its list)' if name in cell.other_at_edge else ''}" if name in cell.other else ""
        for name in tuned.search
        if name != "learning_rate"
    ]
    count = (
        f"{cell.accuracy.n} x {tuned.folds} folds" if cell.accuracy and tuned.folds > 1 else str(cell.accuracy.n if cell.accuracy else "")
    )
    diverged = f" ({cell.diverged} diverged)" if cell.diverged else ""
    return [
        cell.title,
        str(cell.batch_size),
        " = ".join(cell.regimes),
        f"{cell.trials}{diverged}",
        "" if cell.rate is None else f"{cell.rate:g}",
        *others,
        _optimum(tuned, cell),
        near if "learning_rate" in tuned.search else "",
        accuracy,
        count,
    ]


def tuning_notes(tuned: Tuned) -> list[str]:
    """Returns what a reader has to know beside the table, in sentences."""
    parts = " or ".join(f"{size:,}" for size in tuned.held_out)
    folds = f", {tuned.folds} disjoint parts in turn" if tuned.folds > 1 else ""
    notes = [
        f"Scored on {parts} held-out training examples{folds}, at the end of training; one example is "
        f"{100 / (min(tuned.held_out) * tuned.folds):.2g} pp. The test set was left alone.",
        f"Every cell has the same number of points ({' or '.join(str(count) for count in sorted({cell.trials for cell in tuned.cells}))}); "
        f"a point with a diverged run is not eligible. Accuracy: on {len(tuned.check_seeds)} fresh seeds, "
        "with the pointwise 95 % t interval over seeds.",
    ]
    outside = [cell.title for cell in tuned.cells if cell.interior is False]
    if outside:
        notes.append(
            f"At the edge of what was tried, so that there may be a better rate: {'; '.join(outside)}. "
            "A higher extend_at_most in [tune] goes on from here."
        )
    none = [cell.title for cell in tuned.cells if tuned.complete and cell.best is None]
    if none:
        notes.append(f"No point is eligible, because runs diverged at all of them: {'; '.join(none)}.")
    if tuned.failed:
        notes.append(f"{tuned.failed} of the runs crashed, ran out of memory or of time, and no decision rests on them: tune with --retry.")
    elif not tuned.complete:
        notes.append("The search is not finished: `gapbench tune` goes on.")
    return notes


def tuning_markdown(tuned: Tuned) -> str:
    """Returns `tuning.md`."""
    table = markdown_table(tuning_columns(tuned), [tuning_row(tuned, cell) for cell in tuned.cells])
    notes = "\n".join(f"- {note}" for note in tuning_notes(tuned))
    return f"# {tuned.suite}: tuning\n\n{table}\n\n## Notes\n\n{notes}\n"


def _optimum(tuned: Tuned, cell: CellResult) -> str:
    if cell.best is None:
        return "none eligible" if tuned.complete else "not known yet"
    return {True: "interior", False: "at the edge", None: ""}[cell.interior]
