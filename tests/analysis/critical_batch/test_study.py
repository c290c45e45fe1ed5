from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.critical_batch.study import study, study_series
from gapbench.analysis.critical_batch.targets import SeriesError, Target, read_series

SIZES = [32, 64, 128, 256, 512, 1024, 2048]


def suite(synthetic: ModuleType, rates: tuple[float, ...] = (0.1,), recalibrated: bool = True):
    """Runs whose train loss reaches 0.1 after 50 (1 + 200 / B) updates, later at other rates than the first."""
    random = np.random.default_rng(0)
    rows, curves = [], []
    for order, size in enumerate(SIZES):
        for rate in rates:
            for seed in range(3):
                slow = 1.0 + 0.3 * rates.index(rate)
                steps = 50 * (1 + 200 / size) * slow * np.exp(0.03 * random.standard_normal())
                name = f"B{size}" + (f" {rate}" if len(rates) > 1 else "")
                row = synthetic.run_row(
                    name, seed, batch_size=size, learning_rate=rate, reference_cell=size == 32, cell_order=order, test_accuracy=0.98
                )
                rows.append(row)
                for update in np.unique(np.geomspace(1, 4 * steps, 80).astype(int)):
                    loss = 1.0 / (1.0 + 9.0 * update / steps)
                    place = {"run_id": row["run_id"], "update": int(update), "examples": int(update) * size, "layer": "", "value": loss}
                    metrics = ("train_loss", "recalibrated_train_loss") if recalibrated else ("train_loss",)
                    curves.extend({**place, "metric": metric} for metric in metrics)
    return synthetic.tables(rows, curves)


def test_a_suite_gives_the_critical_batch_size_that_its_curves_were_made_with(synthetic: ModuleType) -> None:
    found = study("made", *suite(synthetic), [Target("train_loss", 0.1)])
    (curve,) = found.parts
    assert curve.fit.critical_batch.low < 200 < curve.fit.critical_batch.high
    assert curve.fit.smallest_steps.low < 50 < curve.fit.smallest_steps.high
    assert curve.statistics == "recalibrated"
    (sentences,) = found.sentences.values()
    assert sentences[0].startswith("Train loss 0.1: critical batch size ")
    assert "(n = 21 runs at 7 batch sizes, 32 to 2,048)" in sentences[0]
    assert any("one learning rate for each batch size" in text for text in sentences)


def test_a_run_that_is_in_the_grid_and_in_an_arm_counts_once(synthetic: ModuleType) -> None:
    runs, curves = suite(synthetic)
    again = runs[runs["batch_size"] == 512].assign(cell="LB", arm="LB", cell_order=20)
    (once,), (twice,) = (study("made", one, curves, [Target("train_loss", 0.1)]).parts for one in (runs, pd.concat([runs, again])))
    assert twice.chosen == once.chosen
    assert (twice.fit.n, twice.fit.critical_batch) == (once.fit.n, once.fit.critical_batch)


def test_each_batch_size_has_its_best_rate_and_what_is_doubtful_is_said(synthetic: ModuleType) -> None:
    found = study("made", *suite(synthetic, (0.1, 0.2, 0.4), recalibrated=False), [Target("train_loss", 0.1)])
    (curve,) = found.parts
    assert {one.learning_rate for one in curve.chosen} == {0.1}
    texts = [text for own in found.sentences.values() for text in own]
    assert any("the end of its range" in text for text in texts)
    assert any("running norm statistics" in text for text in texts)
    frame = found.frames["passages"]
    assert (len(frame), frame.chosen.sum()) == (63, 21)


def test_what_was_not_reached_or_not_measured_is_a_sentence(synthetic: ModuleType) -> None:
    runs, curves = suite(synthetic)
    found = study("made", runs, curves, [Target("train_loss", 1e-6), Target("validation_error", 0.1)])
    (curve,) = found.parts
    assert curve.fit is None
    assert "0 batch sizes reach the target" in curve.reason
    assert "Not analysed" in found.sentences
    assert found.frames["fits"].critical_batch.isna().all()


def test_series_are_read_from_csv(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    lines = [f"{size},{steps}" for size, steps in zip(SIZES, (50 * (1 + 200 / size) for size in SIZES), strict=True)]
    file.write_text("batch_size,steps\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = study_series("mine", read_series(file))
    (curve,) = found.parts
    assert curve.fit.critical_batch.value == pytest.approx(200, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch,steps\n1,2\n", "lacks batch_size"),
        ("batch_size,steps,speed\n1,2,3\n", "unknown column speed"),
        ("batch_size,steps\n64,many\n", 'mine.csv:2: steps must be a number greater than 0, not "many"'),
        ("batch_size,steps\n64,\n", "mine.csv:2: a run that did not reach the target"),
        ("batch_size,steps\n", "holds no line but its heading"),
    ],
)
def test_a_mistaken_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SeriesError, match=message):
        read_series(file)


def test_a_rate_at_which_runs_diverge_counts_as_tried_and_is_not_chosen(synthetic: ModuleType) -> None:
    runs, curves = suite(synthetic, (0.1, 0.2))
    at_highest = runs["learning_rate"] == 0.2
    diverged = runs.assign(outcome=runs["outcome"].mask(at_highest & (runs["batch_size"] == 2048), "diverged"))
    (curve,) = study("made", diverged, curves, [Target("train_loss", 0.1)]).parts
    assert [one.rates for one in curve.chosen] == [2] * len(SIZES)
    assert {one.learning_rate for one in curve.chosen} == {0.1}
    lost = [one for one in curve.passages if one.steps is None]
    assert [(one.batch_size, one.learning_rate) for one in lost] == [(2048, 0.2)] * 3
    (sentences,) = study("made", diverged, curves, [Target("train_loss", 0.1)]).sentences.values()
    assert not any("unequal numbers" in sentence for sentence in sentences)
