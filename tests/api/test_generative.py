"""An autoencoder and a variational one on a user's own pictures, from the suite to the page: no accuracy anywhere, test losses compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gapbench import api
from gapbench.core.errors import SuiteError
from gapbench.report import write_report
from gapbench.report.latex import arms_latex
from tests.small import trained

SUITE = """
schema = 1
name = "pictures"
[run]
recipe = "mccandlish2018/vae-svhn"
dataset = { name = "npz", path = "pictures.npz" }
model = { channels = [3], latent = 2 }
epochs = 4
reference_batch_size = 8
evaluations = 6
probes = [{ name = "noise_scale", at = [0, 1], examples = 64, micro_batch = 4, blocks = 4 }]
[grid]
batch_size = [8, 16, 32]
seed = [0, 1]
[report]
targets = [{ metric = "test_loss", value = 250.0 }]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generative")
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 96)
    pictures = (random.integers(0, 60, (96, 8, 8, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "pictures.npz", x_train=pictures[:64], y_train=labels[:64], x_test=pictures[64:], y_test=labels[64:])
    return trained(folder, SUITE)


def test_runs_are_ok_without_an_accuracy(results: Path) -> None:
    runs = api.load_results(results).runs
    assert set(runs.outcome) == {"ok"}
    assert runs.test_loss.notna().all()
    assert runs.test_accuracy.isna().all()
    assert not {metric for metric in api.load_results(results).curves.metric.unique() if "accuracy" in metric}


def test_the_table_compares_test_losses_in_nats_and_says_so(results: Path) -> None:
    arms = write_report(results).arms
    assert "batch gap, nats" in arms.columns
    assert "batch gap, pp" not in arms.columns
    assert "test accuracy, %" not in arms.columns
    means = {row.cell.batch_size: row.test_loss.mean for row in arms.rows if row.test_loss}
    for row in arms.rows:
        if row.cell is not row.reference:
            assert row.batch_gap is not None
            assert row.batch_gap.estimate == pytest.approx(means[row.cell.batch_size] - means[8])
            assert row.verdict in ("loss above reference", "loss below reference", "not separated")
            assert row.p_holm is not None
    assert arms.comparisons == 2
    assert sum("test loss higher by" in sentence or "test loss lower by" in sentence for sentence in arms.verdict) == 2
    assert not any("No learning rate was tuned" in sentence for sentence in arms.verdict)
    frame = pd.read_csv(results / "tables" / "arms.csv")
    assert frame.batch_gap_nats.notna().sum() == 2
    assert frame.batch_gap_pp.isna().all()


def test_the_page_shows_losses_and_the_figures_that_apply(results: Path) -> None:
    files = write_report(results)
    assert {path.stem for path in files.figures} == {"weight_distance", "training_curves"}
    page = files.page.read_text(encoding="utf-8")
    assert "has a test loss" in page or "(test loss " in page
    assert "every seed, mean, interval (nats)" in page
    assert "no run is ok yet" not in page
    assert "batch gap, nats" in page
    assert "nats" in arms_latex("pictures", files.arms)


def test_its_noise_scale_and_its_passages_are_analyzed(results: Path) -> None:
    noise = api.analyze("noise-scale", results)
    assert "(weights standing still): noise scale" in str(noise.sentences)
    assert api.analyze("critical-batch", results).sentences


def test_status_and_comparison_do_without_an_accuracy(results: Path) -> None:
    assert {job.test_accuracy for job in api.status(results).runs} == {None}
    compared = api.compare(results, results)
    assert all(cell.verdict.startswith("identical") for cell in compared.cells)


def test_tuning_by_accuracy_is_refused(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results.parent.parent)
    with pytest.raises(SuiteError, match="variational-autoencoder classifies nothing"):
        api.tune(results.parent.parent / "pictures.toml", results=tmp_path)
