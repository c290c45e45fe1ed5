"""Analyses of results: `analyze("diffusion", "my-suite")` returns sentences, frames and figures, and writes them where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.analysis.critical_batch.study import CurveStudy, study_series
from gapbench.analysis.critical_batch.study import study as critical_batch_study
from gapbench.analysis.critical_batch.targets import Passage, Target, parse_target, read_series
from gapbench.analysis.diffusion.laws import published_exponents, published_sentences
from gapbench.analysis.diffusion.study import study as diffusion_study
from gapbench.analysis.frames import Study
from gapbench.analysis.landscape import landscape_study, sharpness_study
from gapbench.analysis.noise_scale import study as noise_scale_study
from gapbench.api.keeping import find, open_refreshed, to_frame
from gapbench.catalog import published
from gapbench.core.errors import GapbenchError, UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.report.critical_batch import critical_batch_drawings
from gapbench.report.diffusion import diffusion_drawings
from gapbench.report.figures import Figures
from gapbench.report.landscape import landscape_drawings
from gapbench.report.noise_scale import noise_scale_drawings
from gapbench.report.pages import write_analysis
from gapbench.store import StoredPlan, Tables, read_tables
from gapbench.suite.load import keep_only
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


PUBLISHED = "published:"
"""Start of the name of a paper in the place of results, as for `compare`."""

FEWEST_BINS = 3


class AnalysisError(GapbenchError):
    """An analysis that cannot be made as asked."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What an analysis found."""

    what: str
    suite: str
    sentences: Mapping[str, list[str]]
    """Conclusions with their intervals, by panel: data set and model."""
    frames: Mapping[str, pd.DataFrame]
    """The numbers, tidy, by name."""
    _drawings: Mapping[str, Callable[[], Figure]] = field(repr=False)
    """What draws each figure, by name."""

    @cached_property
    def figures(self) -> Figures:
        """Matplotlib figures by name, drawn when first asked for."""
        return Figures(self._drawings)

    def write(self, folder: str | Path) -> list[Path]:
        """Writes page, figures (SVG and PNG) and CSV into a new folder; returns the files.

        Raises:
            StoreError: the folder exists, or cannot be written.
        """
        return write_analysis(self.what, self.suite, self.sentences, self.frames, self._drawings, Path(folder))

    def __repr__(self) -> str:
        return (
            f"Analysis({self.what} of {self.suite!r}: {sum(map(len, self.sentences.values()))} sentences, frames {', '.join(self.frames)})"
        )

    def _repr_html_(self) -> str:
        parts = [f"<h4>{escape(title)}</h4><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
                 for title, texts in self.sentences.items()]  # fmt: skip
        return "".join(parts) + self.figures._repr_html_()


@dataclass(frozen=True)
class _Source:
    """What is to be analysed, as its user named it."""

    results: str | Path | None
    parent: str | Path

    @property
    def paper(self) -> str:
        """The paper that is named in the place of results; empty: none."""
        return str(self.results).removeprefix(PUBLISHED) if str(self.results).startswith(PUBLISHED) else ""

    def read(self, *, lacking: str = "") -> tuple[Tables, StoredPlan]:
        """Returns the tables and the plan of results; `lacking`: what papers did not publish, where one of them is named."""
        if self.paper:
            raise AnalysisError(f"papers published no {lacking}; name results of your own")
        directory = open_refreshed(find(self.results, self.parent))
        return read_tables(directory.path), directory.plan()


def analyze(what: str, results: str | Path | None = None, parent: str | Path = "results", **options: Any) -> Analysis:
    """Analyses results; writes nothing by itself.

    Args:
        what: "critical-batch": steps to targets against batch size; "diffusion": drift and spread of the weights, growth exponents,
            predictions, collapse; "landscape": spread of the loss against distance from the weights; "noise-scale": the gradient noise
            scale along training; "sharpness": sharpness and curvature beside the edge of stability.
        results: a results directory, a bundle, a suite, a name below `parent` (default: the newest there), or `published:PAPER`, whose
            digitised curves are analysed then; of critical-batch also a CSV file of batch sizes and steps.
        parent: where results lie that are named by suite or name.
        options: of critical-batch, `targets` such as ["train_loss=0.1"], default: those of the suite. Of diffusion, `first`: the first
            update of every window; `last`: the last of the common one. Of landscape, `bins` of distance. Of noise-scale, `only`
            such as "batch_size=32,seed=0".

    Raises:
        UnknownNameError: there is no such analysis or paper.
        AnalysisError: an option makes no sense.
        StoreError: there are no such results, or they cannot be read.
    """
    if what not in ANALYSES:
        raise UnknownNameError(unknown_name("analysis", what, ANALYSES))
    return ANALYSES[what](_Source(results, parent), **options)


def _diffusion(source: _Source, *, first: int | None = None, last: int | None = None) -> Analysis:
    """Drift and spread of the weights, growth exponents, predictions, collapse."""
    if first is not None and first < 1:
        raise AnalysisError(f"--first {first}: the first update is 1")
    if last is not None and last <= (first or 1):
        raise AnalysisError(f"--last {last}: must be greater than the first update, {first or 1}")
    paper = source.paper
    if paper:
        if first is not None or last is not None:
            raise AnalysisError("published curves are fitted as they were read; leave out --first and --last")
        exponents = published_exponents(paper)
        return Analysis("diffusion", paper, {"digitised curves": published_sentences(exponents)}, {"exponents": to_frame(exponents)}, {})
    tables, plan = source.read()
    found = diffusion_study(tables.suite, tables.runs, tables.curves, _specs(plan), first=first, last=last)
    return Analysis("diffusion", tables.suite, found.sentences, found.frames, diffusion_drawings(found.parts))


def _critical_batch(source: _Source, *, targets: Sequence[str] = ()) -> Analysis:
    """The critical batch size of every target: from results, from a CSV file of steps, or from what a paper published."""
    found = _steps(source, targets)
    return Analysis("critical-batch", found.suite, found.sentences, found.frames, critical_batch_drawings(found.parts))


def _steps(source: _Source, targets: Sequence[str]) -> Study[tuple[CurveStudy, ...]]:
    paper, name = source.paper, str(source.results)
    if targets and (paper or name.endswith(".csv")):
        raise AnalysisError("steps from a file or a paper are to one target already; leave out --target")
    if paper:
        return study_series(paper, _published_steps(paper))
    if name.endswith(".csv"):
        return study_series(Path(name).stem, read_series(Path(name)))
    tables, plan = source.read()
    chosen = [parse_target(text) for text in targets] or [Target(**item) for item in plan.report.get("targets", ())]
    if not chosen:
        raise AnalysisError(
            f"{find(source.results, source.parent)} names no target; say one, such as --target train_loss=0.1, or put "
            'targets = [{ metric = "train_loss", value = 0.1 }] into [report] of the suite'
        )
    return critical_batch_study(tables.suite, tables.runs, tables.curves, chosen)


def _published_steps(paper: str) -> dict[str, list[Passage]]:
    return {
        f"{name}, {own.target} (batch sizes in {own.unit})": [
            Passage(size, 0.0, 0, steps, steps) for size, steps in zip(own.batch_sizes, own.steps, strict=True)
        ]
        for name, own in published.steps(paper).items()
    }


def _noise_scale(source: _Source, *, only: str | None = None) -> Analysis:
    """The gradient noise scale of every run along training, or of the runs that match `only`."""
    tables, plan = source.read(lacking="gradients")
    runs, curves = tables.runs, tables.curves
    if only:
        kept, _ = keep_only(plan.runs, (), only)
        runs = runs[runs["run_id"].isin({run.run_id for run in kept}) & runs["cell"].isin({run.labels.cell for run in kept})]
        curves = curves[curves["run_id"].isin(set(runs["run_id"]))]
    found = noise_scale_study(tables.suite, runs, curves)
    return Analysis("noise-scale", found.suite, found.sentences, found.frames, noise_scale_drawings(found.parts))


def _landscape(source: _Source, *, bins: int = 10) -> Analysis:
    """The spread of the loss against distance, beside what gradient and curvature predict."""
    if bins < FEWEST_BINS:
        raise AnalysisError(f"--bins {bins}: an exponent needs at least {FEWEST_BINS}")
    tables, plan = source.read(lacking="losses around their weights")
    found = landscape_study(tables.suite, tables.runs, tables.curves, _specs(plan), bins=bins)
    return Analysis("landscape", found.suite, found.sentences, found.frames, landscape_drawings(found.parts))


def _sharpness(source: _Source) -> Analysis:
    """Sharpness, top eigenvalue and trace of every cell, with the loss and the share of the edge of stability."""
    tables, plan = source.read(lacking="losses around their weights")
    found = sharpness_study(tables.suite, tables.runs, tables.curves, _specs(plan))
    return Analysis("sharpness", found.suite, found.sentences, found.frames, {})


def _specs(plan: StoredPlan) -> dict[str, RunSpec]:
    return {run.run_id: run.spec for run in plan.runs}


ANALYSES: Mapping[str, Callable[..., Analysis]] = {
    "critical-batch": _critical_batch,
    "diffusion": _diffusion,
    "landscape": _landscape,
    "noise-scale": _noise_scale,
    "sharpness": _sharpness,
}
"""By the name that follows `gapbench analyze`."""
