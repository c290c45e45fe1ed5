"""The analysis of critical batch sizes: from results, from a CSV file of steps, or from what papers published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.api.analyzing import PUBLISHED, Analysis, AnalysisError
from gapbench.api.keeping import find, open_refreshed
from gapbench.store import read_tables
from gapbench.suite.only import keep_only

if TYPE_CHECKING:
    from gapbench.analysis.critical_batch import Study


def critical_batch(results: str | Path | None, *, targets: Sequence[str] = ()) -> Analysis:
    """Returns the critical batch size of every target."""
    from gapbench.report.critical_batch import critical_batch_drawings

    found = _study(results, targets)
    return Analysis("critical-batch", found.suite, found.sentences, found.frames, critical_batch_drawings(found))


def noise_scale(results: str | Path | None, *, only: str | None = None) -> Analysis:
    """Returns the gradient noise scale of every run along training, or of the runs that match `only`."""
    from gapbench.analysis.noise_scale.study import study
    from gapbench.report.noise_scale import noise_scale_drawings

    if str(results).startswith(PUBLISHED):
        raise AnalysisError("papers published no gradients; name results of your own")
    directory = open_refreshed(find(results))
    tables = read_tables(directory.path)
    runs, curves = tables.runs, tables.curves
    if only:
        kept, _ = keep_only(directory.plan().runs, (), only)
        runs = runs[runs["run_id"].isin({run.run_id for run in kept}) & runs["cell"].isin({run.labels.cell for run in kept})]
        curves = curves[curves["run_id"].isin(set(runs["run_id"]))]
    found = study(tables.suite, runs, curves)
    return Analysis("noise-scale", found.suite, found.sentences, found.frames, noise_scale_drawings(found))


def _study(results: str | Path | None, targets: Sequence[str]) -> Study:
    from gapbench.analysis.critical_batch import Target, parse_target, read_series, study, study_series

    name = str(results)
    if name.startswith(PUBLISHED) or name.endswith(".csv"):
        if targets:
            raise AnalysisError("steps from a file or a paper are to one target already; leave out --target")
        if name.startswith(PUBLISHED):
            return _published(name.removeprefix(PUBLISHED))
        return study_series(Path(name).stem, read_series(Path(name)))
    directory = open_refreshed(find(results))
    tables = read_tables(directory.path)
    asked = [parse_target(text) for text in targets] or [Target(**item) for item in directory.plan().report.get("targets", ())]
    if not asked:
        raise AnalysisError(
            f"{directory.path} names no target; say one, such as --target train_loss=0.1, or put "
            'targets = [{ metric = "train_loss", value = 0.1 }] into [report] of the suite'
        )
    return study(tables.suite, tables.runs, tables.curves, asked)


def _published(paper: str) -> Study:
    from gapbench.analysis.critical_batch import Passage, study_series
    from gapbench.published import critical_batch as published

    return study_series(
        paper,
        {
            f"{name}, {own.target} (batch sizes in {own.unit})": [
                Passage(size, 0.0, 0, steps, steps) for size, steps in zip(own.batch_sizes, own.steps, strict=True)
            ]
            for name, own in published.steps(paper).items()
        },
    )
