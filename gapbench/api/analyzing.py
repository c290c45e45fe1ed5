"""Analyses of results: `analyze("diffusion", "my-suite")` returns sentences, frames and figures, and writes them where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.api.keeping import find, open_refreshed
from gapbench.core.errors import GapbenchError, UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.store import read_tables
from gapbench.suite.load import keep_only

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gapbench.analysis.critical_batch import Study
    from gapbench.report.figures import Figures
    from gapbench.store import Tables
    from gapbench.suite.runspec import RunSpec


PUBLISHED = "published:"
"""Start of the name of a paper in the place of results, as for `compare`."""


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
        from gapbench.report.figures import Figures

        return Figures(self._drawings)

    def write(self, folder: str | Path) -> list[Path]:
        """Writes page, figures (SVG and PNG) and CSV into a new folder; returns the files.

        Raises:
            StoreError: the folder exists, or cannot be written.
        """
        from gapbench.report.pages import write_analysis

        return write_analysis(self.what, self.suite, self.sentences, self.frames, self._drawings, Path(folder))

    def __repr__(self) -> str:
        return (
            f"Analysis({self.what} of {self.suite!r}: {sum(map(len, self.sentences.values()))} sentences, frames {', '.join(self.frames)})"
        )

    def _repr_html_(self) -> str:
        parts = [f"<h4>{escape(title)}</h4><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
                 for title, texts in self.sentences.items()]  # fmt: skip
        return "".join(parts) + self.figures._repr_html_()


def analyze(what: str, results: str | Path | None = None, **options: Any) -> Analysis:
    """Analyses results; writes nothing by itself.

    Args:
        what: "critical-batch": steps to targets against batch size; "diffusion": drift and spread of the weights, growth exponents,
            predictions, collapse; "landscape": spread of the loss against distance from the weights; "noise-scale": the gradient noise
            scale along training; "sharpness": sharpness and curvature beside the edge of stability.
        results: a results directory, a bundle, a name below `results/` (default: the newest there), or `published:PAPER`, whose
            digitised curves are analysed then; of critical-batch also a CSV file of batch sizes and steps.
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
    return ANALYSES[what](results, **options)


def _diffusion(results: str | Path | None, *, first: int | None = None, last: int | None = None) -> Analysis:
    from gapbench.analysis.diffusion import study
    from gapbench.report.diffusion import diffusion_drawings

    if first is not None and first < 1:
        raise AnalysisError(f"--first {first}: the first update is 1")
    if last is not None and last <= (first or 1):
        raise AnalysisError(f"--last {last}: must be greater than the first update, {first or 1}")
    if str(results).startswith(PUBLISHED):
        if first is not None or last is not None:
            raise AnalysisError("published curves are fitted as they were read; leave out --first and --last")
        return _published(str(results).removeprefix(PUBLISHED))
    directory = open_refreshed(find(results))
    tables = read_tables(directory.path)
    specs = {run.run_id: run.spec for run in directory.plan().runs}
    found = study(tables.suite, tables.runs, tables.curves, specs, first=first, last=last)
    return Analysis("diffusion", tables.suite, found.sentences, found.frames, diffusion_drawings(found))


def _published(paper: str) -> Analysis:
    from gapbench.analysis.diffusion.laws import published_exponents, published_sentences
    from gapbench.api.keeping import to_frame

    exponents = published_exponents(paper)
    return Analysis("diffusion", paper, {"digitised curves": published_sentences(exponents)}, {"exponents": to_frame(exponents)}, {})


def _landscape(results: str | Path | None, **options: Any) -> Analysis:

    return landscape(results, **options)


def _sharpness(results: str | Path | None) -> Analysis:

    return sharpness(results)


def _critical_batch(results: str | Path | None, **options: Any) -> Analysis:

    return critical_batch(results, **options)


def _noise_scale(results: str | Path | None, *, only: str | None = None) -> Analysis:

    return noise_scale(results, only=only)


ANALYSES: Mapping[str, Callable[..., Analysis]] = {
    "critical-batch": _critical_batch,
    "diffusion": _diffusion,
    "landscape": _landscape,
    "noise-scale": _noise_scale,
    "sharpness": _sharpness,
}
"""By the name that follows `gapbench analyze`."""


# The analysis of critical batch sizes: from results, from a CSV file of steps, or from what papers published.


def critical_batch(results: str | Path | None, *, targets: Sequence[str] = ()) -> Analysis:
    """Returns the critical batch size of every target."""
    from gapbench.report.critical_batch import critical_batch_drawings

    found = _study(results, targets)
    return Analysis("critical-batch", found.suite, found.sentences, found.frames, critical_batch_drawings(found))


def noise_scale(results: str | Path | None, *, only: str | None = None) -> Analysis:
    """Returns the gradient noise scale of every run along training, or of the runs that match `only`."""
    from gapbench.analysis.noise_scale import study
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
            return _analyzing_batch_published(name.removeprefix(PUBLISHED))
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


def _analyzing_batch_published(paper: str) -> Study:
    from gapbench.analysis.critical_batch import Passage, study_series
    from gapbench.catalog import published as published

    return study_series(
        paper,
        {
            f"{name}, {own.target} (batch sizes in {own.unit})": [
                Passage(size, 0.0, 0, steps, steps) for size, steps in zip(own.batch_sizes, own.steps, strict=True)
            ]
            for name, own in published.steps(paper).items()
        },
    )


# The analyses of what the probes of the loss measured: landscape, and sharpness with curvature.

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
