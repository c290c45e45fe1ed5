"""Tables, figures and pages, made from results that are there, and the same for elsewhere: one archive, tidy CSV, LaTeX, TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gapbench import store
from gapbench.analysis import arms_table
from gapbench.api.keeping import find, load_results, open_refreshed
from gapbench.core.errors import ExportError, StoreError
from gapbench.report import ReportFiles, write_report
from gapbench.report.figures import Figures, drawings
from gapbench.report.latex import arms_latex, check_columns
from gapbench.report.tables import csv_text, curves_csv, runs_csv
from gapbench.report.tensorboard import write_tensorboard, writer_class
from gapbench.report.tuning import TuningFiles, is_tuning, write_tuning_report
from gapbench.store import ResultsDirectory, Tables, read_tables
from gapbench.store.files import whole_folder, write_text


def report(results: str | Path | None = None) -> ReportFiles | TuningFiles:
    """Writes tables, figures and report.html of a results directory, or of a bundle (unpacked beside it), and returns what was written.

    Of the trials of a tuning, `<suite>.tune`, it writes their own table and figure.

    Raises:
        StoreError: there is no such directory, or something in it cannot be read or written.
    """
    path = open_refreshed(find(results)).path
    return write_tuning_report(path) if is_tuning(read_tables(path)) else write_report(path)


def figures(results: str | Path | None = None) -> Figures:
    """Returns the figures of a results directory or bundle as matplotlib figures by name; writes none of them.

    A notebook shows all of them at once; `figures()["weight_distance"].savefig("mine.pdf")` keeps one.

    Raises:
        StoreError: there is no such directory, or its tables cannot be read.
    """
    return Figures(drawings(load_results(results)))


CSV_FILES = ("runs.csv", "curves.csv", "arms.csv")


@dataclass(frozen=True)
class Exported:
    """One thing that was written."""

    path: Path
    what: str
    """Such as "12 files" or "64 runs"."""


def export(
    results: str | Path | None = None,
    bundle: str | Path | None = None,
    *,
    csv: str | Path | None = None,
    latex: str | Path | None = None,
    columns: Sequence[str] = (),
    tensorboard: str | Path | None = None,
) -> list[Exported]:
    """Writes results in every form that is asked for, at least one; everything is checked before anything is written.

    Args:
        results: a results directory, a bundle, or a name below `results/`; default: the newest there.
        bundle: an archive (.tar.gz or .zip) that `report` reads elsewhere.
        csv: a folder for runs.csv, curves.csv and arms.csv: the tidy tables.
        latex: a file for the arms table, as LaTeX with booktabs.
        columns: of that table, such as ("arm", "accuracy", "gap"); default: those that a page has room for.
        tensorboard: a folder for event files, one folder in it for each run; needs the extra `tensorboard` and imports torch.

    Raises:
        ExportError: no form is given, or columns that are none, or of no table.
        StoreError: there is no such directory, or something exists already.
        TensorboardError: the package tensorboard is missing.
    """
    named = {"bundle": bundle, "csv": csv, "latex": latex, "tensorboard": tensorboard}
    targets = {name: Path(path) for name, path in named.items() if path}
    if not targets:
        raise ExportError("export needs at least one of --bundle FILE, --csv DIR, --latex FILE, --tensorboard DIR")
    if columns and "latex" not in targets:
        raise ExportError("--columns are those of the table that --latex FILE writes; give that, too")
    check_columns(columns)
    _check(targets)
    writers: dict[str, _Writer] = {**_WRITERS, "latex": partial(_write_latex, columns=columns)}
    directory = open_refreshed(find(results))
    tables = read_tables(directory.path)
    return [Exported(path, writers[name](directory, tables, path)) for name, path in targets.items()]


def _check(targets: dict[str, Path]) -> None:
    places = [path.resolve() for path in targets.values()]
    if len(set(places)) < len(places):
        raise ExportError("export writes every form to a place of its own; two of the names are the same")
    if "bundle" in targets:
        store.check_bundle_name(targets["bundle"])
    for path in targets.values():
        if path.exists():
            raise StoreError(f"{path}: exists already; choose another name")
    if "tensorboard" in targets:
        writer_class()  # fails before anything is written


def _write_bundle(directory: ResultsDirectory, _: Tables, path: Path) -> str:
    report(directory.path)
    return f"{len(store.pack(directory, path))} files"


def _write_csv(_: ResultsDirectory, tables: Tables, folder: Path) -> str:
    texts = (runs_csv(tables.runs), curves_csv(tables.curves), csv_text(arms_table(tables.runs, tables.curves).frame()))
    with whole_folder(folder) as temporary:
        for name, text in zip(CSV_FILES, texts, strict=True):
            write_text(temporary / name, text)
    return f"{', '.join(CSV_FILES[:-1])} and {CSV_FILES[-1]}"


def _write_latex(_: ResultsDirectory, tables: Tables, path: Path, columns: Sequence[str] = ()) -> str:
    arms = arms_table(tables.runs, tables.curves)
    text = arms_latex(tables.suite, arms, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return f"a table of {len(arms.rows)} {'cell' if len(arms.rows) == 1 else 'cells'}"


def _write_tensorboard(_: ResultsDirectory, tables: Tables, folder: Path) -> str:
    with whole_folder(folder) as temporary:
        runs = write_tensorboard(tables, temporary)
    return f"{runs} {'run' if runs == 1 else 'runs'}; `tensorboard --logdir {folder}` shows them"


_Writer = Callable[[ResultsDirectory, Tables, Path], str]
_WRITERS: dict[str, _Writer] = {"bundle": _write_bundle, "csv": _write_csv, "latex": _write_latex, "tensorboard": _write_tensorboard}
"""Each writes one form of a directory and its tables to a path, and returns what that is."""
