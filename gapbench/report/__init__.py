"""Tables, figures and the page of a results directory, as functions of its Parquet tables: `write_report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gapbench.analysis import ArmsTable, SideTable, arms_table, side_tables
from gapbench.analysis.cells import read_panels
from gapbench.analysis.factorial import effects_frame, factorials
from gapbench.report.figures import drawings
from gapbench.report.html.page import write_page
from gapbench.report.pages import write_figures, write_texts
from gapbench.report.tables import WrittenFiles, arms_markdown, csv_text, factorial_markdown, runs_csv, side_markdown
from gapbench.store.tables import read_tables

__all__ = ["ReportFiles", "write_report"]


@dataclass(frozen=True, repr=False)
class ReportFiles(WrittenFiles):
    """What a report wrote, and its tables."""

    arms: ArmsTable
    page: Path
    """report.html."""
    side: tuple[SideTable, ...] = ()
    """What else the suite has the cells for: presets compared, the cost of the momentum reset, updates to targets."""

    def _repr_html_(self) -> str:
        return self.arms._repr_html_()


def write_report(results_dir: Path) -> ReportFiles:
    """Writes `tables/`, `figures/` and `report.html` of a results directory anew, each file atomically.

    Needs nothing but runs.parquet and curves.parquet, and works on partial results: what is missing is said, not guessed. The same
    tables (and plan.parquet and suite.toml, for the page) give the same bytes.

    Raises:
        StoreError: a table is missing, damaged or of a newer schema, or a file cannot be written.
    """
    read = read_tables(results_dir)
    arms = arms_table(read.runs, read.curves)
    texts = {"arms.csv": csv_text(arms.frame()), "arms.md": arms_markdown(read.suite, arms), "runs.csv": runs_csv(read.runs)}
    side = side_tables(read.runs, read.curves, read.report.get("targets", ()))
    for table in side:
        texts |= {f"{table.name}.csv": csv_text(table.frame()), f"{table.name}.md": side_markdown(read.suite, table)}
    if effects := factorials(read_panels(read.runs)):
        texts |= {"factorial.csv": csv_text(effects_frame(effects)), "factorial.md": factorial_markdown(read.suite, effects)}
    tables = write_texts(texts, results_dir / "tables")
    files, drawn = write_figures(drawings(read), results_dir / "figures")
    return ReportFiles(tables, files, arms, write_page(results_dir, read, arms, drawn, side), side)
