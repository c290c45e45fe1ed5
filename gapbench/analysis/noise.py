"""What multiplicative noise came to: the measured covariance of noisy gradients over that of the reference batch size."""

from __future__ import annotations

from collections.abc import Sequence

from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import estimate_text
from gapbench.analysis.intervals import t_interval

METRIC = "gradient_covariance_ratio"


def noise_notes(cells: Sequence[Cell], curves: Curves) -> list[str]:
    """Returns a note on the cells with multiplicative noise; none where there are none. A run counts with its mean over training."""
    measured = curves.of(METRIC)
    said = []
    for cell in cells:
        values = {run.run_id: float(measured[run.run_id].values.mean()) for run in cell.ok_runs if run.run_id in measured}
        estimate = t_interval([*cell.sample(values).values()])
        if estimate is not None:
            said.append(f"{cell.name} {estimate_text(estimate, 1, 2)}")
    if not said:
        return []
    return [
        "Covariance of noisy gradients (trace) over that of gradients of the reference batch size at the same weights, which is 1 where "
        f"noise does what it is for: {', '.join(said)}."
    ]
