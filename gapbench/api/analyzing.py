"""Analyses of results: `analyze("diffusion", "my-suite")` returns sentences, frames and figures, and writes them where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.api.keeping import find, open_refreshed
from gapbench.core.errors import GapbenchError, UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.store import read_tables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gapbench.report.figures import Figures

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
    from gapbench.analysis.diffusion.published import published_exponents, published_sentences
    from gapbench.api.frames import to_frame

    exponents = published_exponents(paper)
    return Analysis("diffusion", paper, {"digitised curves": published_sentences(exponents)}, {"exponents": to_frame(exponents)}, {})


def _landscape(results: str | Path | None, **options: Any) -> Analysis:
    from gapbench.api.analyzing_loss import landscape

    return landscape(results, **options)


def _sharpness(results: str | Path | None) -> Analysis:
    from gapbench.api.analyzing_loss import sharpness

    return sharpness(results)


def _critical_batch(results: str | Path | None, **options: Any) -> Analysis:
    from gapbench.api.analyzing_batch import critical_batch

    return critical_batch(results, **options)


def _noise_scale(results: str | Path | None, *, only: str | None = None) -> Analysis:
    from gapbench.api.analyzing_batch import noise_scale

    return noise_scale(results, only=only)


ANALYSES: Mapping[str, Callable[..., Analysis]] = {
    "critical-batch": _critical_batch,
    "diffusion": _diffusion,
    "landscape": _landscape,
    "noise-scale": _noise_scale,
    "sharpness": _sharpness,
}
"""By the name that follows `gapbench analyze`."""
