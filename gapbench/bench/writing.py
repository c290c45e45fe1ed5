"""Writes the bench's table and figure, both functions of the timings."""

from __future__ import annotations

from pathlib import Path

from gapbench.bench.figure import bench_figure
from gapbench.bench.summary import BenchReport
from gapbench.bench.tables import bench_csv, bench_markdown
from gapbench.report.style import house_style, render
from gapbench.store.files import write_bytes, write_text

NAME = "bench"


def write_outputs(folder: Path, report: BenchReport) -> None:
    """Writes bench.md, bench.csv and, where anything was measured, bench.svg and bench.png, each atomically."""
    write_text(folder / f"{NAME}.md", bench_markdown(report))
    write_text(folder / f"{NAME}.csv", bench_csv(report))
    if report.rows:
        with house_style():
            figure = bench_figure(report)
            for kind in ("svg", "png"):
                write_bytes(folder / f"{NAME}.{kind}", render(figure, kind))
