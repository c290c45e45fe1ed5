"""Sharpness and curvature cell by cell: Keskar's measure, the Hessian's top eigenvalue and trace, and the share of the edge of stability.

Where lambda_max * learning_rate / (2 (1 + momentum)) is near 1, as full-batch training makes it (Cohen et al. 2021), a difference of
sharpness between arms reads their learning rates; that share therefore stands beside every eigenvalue, with the loss at which it was
measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gapbench.analysis.cells import Cell, Panel, read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.landscape import asked_fraction, probe_options, when, worded
from gapbench.analysis.stats import Estimate, t_interval
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

METRICS = {
    "hessian": ("hessian_loss", "hessian_top", "hessian_edge", "hessian_trace"),
    "sharpness": ("sharpness_loss", "sharpness", "sharpness_subspace", "sharpness_filter"),
}
"""By probe."""
COLUMNS = ("panel", "cell", "learning_rate", "norm", "examples", "update", "fraction", "metric", "n", "value", "value_low", "value_high")


@dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of a cell measured after one update, metric by metric."""

    cell: Cell
    probe: str
    norm: str
    examples: int
    update: int
    fraction: float
    values: Mapping[str, Estimate]

    def text(self) -> str:
        """Returns the sentence of it."""
        n = max(estimate.n for estimate in self.values.values())
        asked = f"norm statistics {self.norm}, up to {self.examples:,} fixed training examples, n = {n}"
        return f"{self.cell.name}, {when(self.fraction)} ({asked}): {', '.join(self._parts())}."

    def _parts(self) -> Iterator[str]:
        words = {
            "hessian_top": "top Hessian eigenvalue {}",
            "hessian_edge": "which is {} of the edge of stability 2 (1 + momentum) / learning rate",
            "hessian_trace": "trace {}",
            "sharpness": "sharpness {} % in the full space",
            "sharpness_subspace": "{} % in a random subspace",
            "sharpness_filter": "{} % filter-normalized",
            "hessian_loss": "at loss {}",
            "sharpness_loss": "at loss {}",
        }
        for name, word in words.items():
            if name in self.values:
                yield word.format(worded(self.values[name], 3))


@dataclass(frozen=True, eq=False)
class SharpnessStudy:
    """Sharpness and curvature of a suite; in sentences and as a frame."""

    suite: str
    panels: Mapping[Panel, tuple[Measured, ...]]

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """What was measured, by panel, with intervals over seeds."""
        return {panel.title: list(_sentences(found)) for panel, found in self.panels.items()}

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The numbers as a tidy frame."""
        import pandas as pd

        rows = [
            (panel.title, one.cell.name, one.cell.learning_rate, one.norm, one.examples, one.update, one.fraction,
             metric, value.n, value.mean, value.low, value.high)
            for panel, found in self.panels.items()
            for one in found
            for metric, value in one.values.items()
        ]  # fmt: skip
        return {"sharpness": pd.DataFrame(rows, columns=list(COLUMNS))}


def sharpness_study(suite: str, runs: pd.DataFrame, curves: pd.DataFrame, specs: Mapping[str, RunSpec]) -> SharpnessStudy:
    """Reads sharpness and curvature of every cell.

    Args:
        suite: its name.
        runs: runs.parquet.
        curves: curves.parquet.
        specs: by run id, for what the probes were asked.
    """
    read = Curves(curves)
    panels = {panel: tuple(one for cell in panel.cells for one in _measured(cell, read, specs)) for panel in read_panels(runs)}
    return SharpnessStudy(suite, panels)


def _measured(cell: Cell, curves: Curves, specs: Mapping[str, RunSpec]) -> Iterator[Measured]:
    for probe, metrics in METRICS.items():
        found: dict[int, dict[str, dict[str, float]]] = {}
        for metric in metrics:
            for run_id, curve in curves.of(metric).items():
                for update, value in zip(curve.updates, curve.values, strict=True):
                    found.setdefault(int(update), {}).setdefault(metric, {})[run_id] = float(value)
        spec = next((specs[run.run_id] for run in cell.runs if run.run_id in specs), None)
        options = probe_options(spec, probe)
        for update in sorted(found):
            samples = {metric: cell.sample(values) for metric, values in found[update].items()}
            values = {metric: t_interval(list(sample.values())) for metric, sample in samples.items()}
            known = {metric: estimate for metric, estimate in values.items() if estimate is not None}
            if known:
                yield Measured(
                    cell, probe, str(options["norm"]), int(options["examples"]), update, asked_fraction(spec, probe, update, cell), known
                )


def _sentences(found: tuple[Measured, ...]) -> Iterator[str]:
    if not found:
        yield (
            'No run that ended ok has measured sharpness or curvature: the suite needs probes = ["hessian", "sharpness"] and '
            "keep_weights = [1] in [run] before it trains."
        )
        return
    yield from (one.text() for one in found)
    yield (
        "An eigenvalue whose share of the edge is near 1 reads the learning rate of the last update and not the minimum. Compare sharpness "
        "at equal loss, equal norm statistics and equal examples only."
    )
