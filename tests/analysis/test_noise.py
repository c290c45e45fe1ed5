from __future__ import annotations

from types import ModuleType

import pandas as pd

from gapbench.analysis import arms_table
from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.notes import METRIC, noise_notes


def tables(synthetic: ModuleType) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame([synthetic.run_row("LB+noise", seed, batch_size=512) for seed in range(3)])
    values = [(row, update, value + 0.1 * seed) for seed, row in enumerate(runs["run_id"]) for update, value in ((5, 0.9), (26, 1.1))]
    rows = [
        {"run_id": run, "update": update, "examples": 0, "metric": METRIC, "layer": "", "value": value} for run, update, value in values
    ]
    return runs, pd.DataFrame(rows)


def test_the_measured_ratio_is_a_mean_over_training_with_an_interval_over_seeds(synthetic: ModuleType) -> None:
    runs, curves = tables(synthetic)
    (note,) = noise_notes(read_panels(runs)[0].cells, Curves(curves))
    assert note.endswith("which is 1 where noise does what it is for: LB+noise 1.10 ± 0.25.")
    assert note in arms_table(runs, curves).notes


def test_suites_without_noise_have_no_such_note(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(2)
    assert noise_notes([cell for panel in read_panels(runs) for cell in panel.cells], Curves(curves)) == []
