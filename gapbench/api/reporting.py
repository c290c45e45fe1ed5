"""Tables, figures and pages, made from results that are there."""

from __future__ import annotations

from pathlib import Path

from gapbench.api.keeping import find, load_results, open_refreshed
from gapbench.report import ReportFiles, write_report
from gapbench.report.figures import Figures, drawings
from gapbench.report.tuning import TuningFiles, is_tuning, write_tuning_report
from gapbench.store import read_tables


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
