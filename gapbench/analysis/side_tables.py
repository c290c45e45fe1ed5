"""Side tables: what a suite shows besides its arms, where it has the cells for it. Reports, pages and consoles show them alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import read_panels
from gapbench.analysis.differences import Difference, Sample, beyond_rounding, difference, rounding, satterthwaite
from gapbench.analysis.formats import range_text
from gapbench.analysis.intervals import LEVEL, t_quantile, two_sided_p
from gapbench.analysis.power import SIGNIFICANCE

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.analysis.cells import Cell

NOT_SEPARATED = "not separated"


@dataclass(frozen=True)
class SideTable:
    """A table in words and in numbers."""

    name: str
    """Of its files: `tables/<name>.csv` and `.md`."""
    title: str
    columns: tuple[str, ...]
    """Headings; the first column names the row."""
    rows: tuple[tuple[str, ...], ...]
    """Texts for people."""
    sentences: tuple[str, ...]
    """What it says, the most telling first."""
    notes: tuple[str, ...]
    """How to read it."""
    records: tuple[Mapping[str, Any], ...]
    """Its numbers, one row each."""

    def frame(self) -> pd.DataFrame:
        """Returns the numbers as a data frame: what the .csv file holds."""
        import pandas as pd

        return pd.DataFrame(list(self.records))


def side_tables(runs: pd.DataFrame, curves: pd.DataFrame | None = None, targets: Sequence[Mapping[str, Any]] = ()) -> tuple[SideTable, ...]:
    """Returns the side tables that the runs of a suite have the cells for, and that of the targets that it names.

    Args:
        runs: runs.parquet.
        curves: curves.parquet; None: no targets are looked for.
        targets: metric and value of each, as the suite's [report] names them.
    """
    from gapbench.analysis.critical_batch.table import target_table
    from gapbench.analysis.critical_batch.targets import Target
    from gapbench.analysis.curves import Curves
    from gapbench.analysis.presets import preset_table
    from gapbench.analysis.resets import reset_table

    panels = read_panels(runs)
    reached = target_table(panels, Curves(curves), [Target(**item) for item in targets]) if curves is not None and targets else None
    found = (preset_table(panels), reset_table(panels), reached)
    return tuple(table for table in found if table is not None)


def accuracy_pp(cell: Cell) -> dict[int, float]:
    """Returns the sample of a cell's test accuracy in percentage points."""
    return {key: 100 * value for key, value in cell.column("test_accuracy").items()}


def accuracy_difference(first: Cell, second: Cell) -> Difference | None:
    """Returns the test accuracy of a first cell minus that of a second, in percentage points."""
    return difference(accuracy_pp(first), accuracy_pp(second), paired=first.split_drawn and second.split_drawn)


def combination(samples: Sequence[Sample], weights: Sequence[float], *, paired: bool, level: float = LEVEL) -> Difference | None:
    """Returns the weighted sum of several cells' means with its interval: paired by key, or Welch-Satterthwaite's.

    Args:
        samples: values of each cell; their unit is the unit of the result.
        weights: as many, such as (1, -1, -1, 1) for a difference of differences.
        paired: whether equal keys share something (the split).
        level: coverage of the interval.

    Returns:
        None where a cell is empty, or no key is shared; without an interval from one value.
    """
    import numpy as np

    keys = sorted(set.intersection(*(set(sample) for sample in samples)))
    values = [np.array([sample[key] for key in keys] if paired else [*sample.values()], dtype=np.float64) for sample in samples]
    n, method = min(map(len, values)), "paired" if paired else "welch"
    if n == 0:
        return None
    limit = rounding(values, weights)
    estimate = float(beyond_rounding(sum(weight * own.mean() for weight, own in zip(weights, values, strict=True)), limit))
    if n == 1:
        return Difference(estimate, None, None, None, "paired" if paired else "welch", n)
    if paired:
        values, weights = [np.asarray(sum(weight * own for weight, own in zip(weights, values, strict=True)))], [1.0]
    variances = [np.asarray(weight**2 * own.var(ddof=1) / len(own)) for weight, own in zip(weights, values, strict=True)]
    sizes = [len(own) for own in values]
    error, degrees = float(beyond_rounding(np.sqrt(sum(variances)), limit)), float(satterthwaite(variances, sizes))
    half = t_quantile(level, degrees) * error
    p_value = two_sided_p(estimate / error, degrees) if error > 0 else None
    kept = tuple(float(variance) for variance in variances)
    return Difference(estimate, estimate - half, estimate + half, p_value, method, n, error, degrees, kept, tuple(sizes))  # type: ignore[arg-type]


def no_verdict(*cells: Cell) -> str:
    """Returns why cells cannot be compared with an interval, or an empty text."""
    for cell in cells:
        if not cell.complete:
            return f"{cell.name}: {cell.ok_of()}"
    if any(run.unlabelled for cell in cells for run in cell.runs):
        return "no accuracy"
    if min(len(cell.column("test_accuracy")) for cell in cells) < 2:
        return "one seed"
    found = accuracy_difference(cells[0], cells[1])
    return "" if found is not None and found.p_value is not None else "no spread between seeds"


def judged(gap: Difference, p_holm: float, *, above: str, below: str) -> str:
    """Returns what Holm's procedure says of a difference."""
    if p_holm > SIGNIFICANCE:
        return NOT_SEPARATED
    return above if gap.estimate > 0 else below


def interval_words(gap: Difference, *, flip: bool = False) -> str:
    """Returns "95 % interval 0.10 to 0.40; n = 5", with the sign of the words beside it."""
    if gap.low is None or gap.high is None:
        return "no interval from one seed"
    low, high = (-gap.high, -gap.low) if flip else (gap.low, gap.high)
    return f"95 % interval {range_text(low, high, 2)}; n = {gap.n}"


def difference_record(name: str, gap: Difference | None) -> dict[str, float | None]:
    """Returns estimate and bounds under `name`, `name_low`, `name_high`."""
    values = (gap.estimate, gap.low, gap.high) if gap else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
