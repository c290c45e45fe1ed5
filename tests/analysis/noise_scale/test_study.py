"""Noise scales of a suite: sentences and the frame."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gapbench.analysis.noise_scale import COLUMNS, NoiseStudy, loss_at, scale_text, study


def made_study(synthetic: ModuleType, noise_made: ModuleType, mean: float = 1.0) -> NoiseStudy:
    """Two cells: one probed at three updates and streamed, one streamed only."""
    random = np.random.default_rng(0)
    data = noise_made.data_set(0)
    data = data + (mean - 1.0) * data.mean(axis=0)
    rows, curves = [], []
    for order, size in enumerate((64, 256)):
        row = synthetic.run_row(f"B {size}", 0, batch_size=size, reference_cell=order == 0, cell_order=order, train_examples=400)
        rows.append(row)
        name: Any = row["run_id"]
        if size == 64:
            for update in (0, 10, 100):
                curves += noise_made.probe_rows(name, update, data, random, 8, 64)
        for update in range(1, 17):
            curves += noise_made.stream_rows(name, update, data, random, size // 4, 4, cut=True)
        curves += noise_made.loss_rows(name, 100)
    return study("made", *synthetic.tables(rows, curves))


@pytest.fixture(scope="module")
def found(synthetic: ModuleType, noise_made: ModuleType) -> NoiseStudy:
    return made_study(synthetic, noise_made)


def test_every_run_has_a_sentence_from_its_best_mode(found: NoiseStudy) -> None:
    ((title, sentences),) = found.sentences.items()
    assert title.startswith("digits, mlp")
    assert sentences[0].startswith("B 64, seed 0 (weights standing still): noise scale ")
    assert "at update 0, " in sentences[0]
    assert "at update 100; its noise lies in about " in sentences[0]
    assert sentences[1].startswith("B 256, seed 0 (along training): ")
    assert repr(found) == "NoiseStudy('made': 2 runs)"


def test_the_frame_has_a_row_for_every_measurement(found: NoiseStudy, noise_made: ModuleType) -> None:
    frame = found.frames["noise"]
    assert tuple(frame.columns) == COLUMNS
    assert frame.groupby(["batch_size", "mode"]).size().to_dict() == {(64, "probe"): 3, (64, "stream"): 2, (256, "stream"): 2}
    probe = frame[frame["mode"] == "probe"]
    assert [*probe["examples"]] == [0, 640, 6400]
    assert probe["trace"].to_numpy() == pytest.approx(noise_made.TRACE, rel=0.1)
    assert (probe["noise_scale_low"] < probe["noise_scale"]).all()
    assert (frame["squared_gradient_population"] < frame["squared_gradient"]).all()
    assert frame["noise_scale"].to_numpy(float) == pytest.approx((frame["trace"] / frame["squared_gradient"]).to_numpy(float))


def test_train_loss_stands_beside_it_where_it_was_evaluated(found: NoiseStudy) -> None:
    probe = found.frames["noise"].query("mode == 'probe'").set_index("update").train_loss
    assert np.isnan(probe[0])
    assert (probe[10], probe[100]) == (pytest.approx(2 / 10**0.5, rel=0.01), pytest.approx(0.2))
    assert loss_at(None, 5.0) is None
    assert loss_at(found.runs[0].loss, 101.0) is None


def test_where_the_gradient_vanishes_it_says_at_least_and_leaves_the_value_empty(synthetic: ModuleType, noise_made: ModuleType) -> None:
    study = made_study(synthetic, noise_made, mean=0.0)  # the data set's own gradient is zero
    (sentences,) = study.sentences.values()
    assert "at least " in sentences[0]
    assert "is not separated from 0" in sentences[0]
    frame = study.frames["noise"]
    assert frame[frame["squared_gradient"] <= 0]["noise_scale"].isna().all()
    assert frame["noise_scale_high"].isna().any()


def test_without_the_probes_a_sentence_says_which_to_name(synthetic: ModuleType) -> None:
    found = study("made", *synthetic.digits_suite(1, only=["SB"]))
    assert found.sentences == {
        "noise scale": ["No run has measured it; name the probe noise_scale or noise_scale_stream in [run] of the suite."]
    }
    assert found.frames["noise"].empty


def test_texts_of_scales(found: NoiseStudy) -> None:
    scale = found.runs[0].probed[0].dataset
    assert scale_text(scale).count("95 % interval") == 1
