"""The analyses of what the probes of the loss measured: landscape, and sharpness with curvature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.api.analyzing import PUBLISHED, Analysis, AnalysisError
from gapbench.api.keeping import find, open_refreshed
from gapbench.store import read_tables

if TYPE_CHECKING:
    from gapbench.store import Tables
    from gapbench.suite.runspec import RunSpec

FEWEST_BINS = 3


def landscape(results: str | Path | None, *, bins: int = 10) -> Analysis:
    """Returns the spread of the loss against distance, beside what gradient and curvature predict; `bins` of distance."""
    from gapbench.analysis.landscape import landscape_study
    from gapbench.report.landscape import landscape_drawings

    if bins < FEWEST_BINS:
        raise AnalysisError(f"--bins {bins}: an exponent needs at least {FEWEST_BINS}")
    tables, specs = _read(results)
    found = landscape_study(tables.suite, tables.runs, tables.curves, specs, bins=bins)
    return Analysis("landscape", found.suite, found.sentences, found.frames, landscape_drawings(found))


def sharpness(results: str | Path | None) -> Analysis:
    """Returns sharpness, top eigenvalue and trace of every cell, with the loss and the share of the edge of stability."""
    from gapbench.analysis.sharpness import sharpness_study

    tables, specs = _read(results)
    found = sharpness_study(tables.suite, tables.runs, tables.curves, specs)
    return Analysis("sharpness", found.suite, found.sentences, found.frames, {})


def _read(results: str | Path | None) -> tuple[Tables, dict[str, RunSpec]]:
    if str(results).startswith(PUBLISHED):
        raise AnalysisError("papers published no losses around their weights; name results of your own")
    directory = open_refreshed(find(results))
    return read_tables(directory.path), {run.run_id: run.spec for run in directory.plan().runs}
