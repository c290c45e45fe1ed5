"""A whole tuning with the real engine, on data whose test set is worthless: nothing of it changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gapbench import api

SUITE = """
schema = 1
name = "{name}"
[run]
dataset = {{ name = "npz", path = "{name}.npz" }}
model = {{ name = "mlp", widths = [8] }}
optimizer = {{ name = "sgd", momentum = 0.9 }}
normalization = "feature"
reference_batch_size = 8
learning_rate = 0.05
epochs = 3
[grid]
batch_size = [8, 32]
seed = [0]
[tune]
trials = 5
extend_by = 1
extend_at_most = 1
folds = 2
check_seeds = [1001, 1002]
"""


def write_data(path: Path, test: np.random.Generator | None) -> None:
    """Writes 160 training examples of two classes and 80 test examples; `test` makes these noise with labels by lot."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 240)
    inputs = (random.normal(size=(240, 6)) + 0.8 * labels[:, None]).astype(np.float32)
    if test is not None:
        inputs[160:], labels[160:] = test.normal(size=(80, 6)) * 1e6, test.integers(0, 2, 80)
    np.savez(path, x_train=inputs[:160], y_train=labels[:160], x_test=inputs[160:], y_test=labels[160:])


def test_a_poisoned_test_set_changes_no_number_and_no_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    found = []
    for name, test in (("clean", None), ("poisoned", np.random.default_rng(1))):
        write_data(Path(f"{name}.npz"), test)
        Path(f"{name}.toml").write_text(SUITE.format(name=name), encoding="utf-8")
        report = api.tune(f"{name}.toml", devices="cpu", slots=1)
        assert report.exit_status == 0
        runs = pd.read_parquet(report.results / "runs.parquet")
        curves = pd.read_parquet(report.results / "curves.parquet")
        assert not [metric for metric in {*runs.columns, *curves.metric} if "test" in metric]
        found.append((runs[["cell", "seed", "validation_accuracy", "validation_loss", "train_loss"]], report.tuned.frame()))
        assert {run.spec.train_examples for run in api.load_suite(f"{name}-tuned.toml").runs} == {160}
        assert (report.results / "figures" / "learning_rate.png").is_file()
    pd.testing.assert_frame_equal(found[0][0], found[1][0])
    pd.testing.assert_frame_equal(found[0][1], found[1][1])
    assert found[0][0].validation_accuracy.max() > 0.7
