"""Figures of noise scales show what the frame holds, few runs with intervals and many as dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from gapbench.analysis.noise_scale import RunNoise, loss_at, study
from gapbench.report.figures import Figures
from gapbench.report.noise_scale import CROWDED, noise_scale_drawings
from tests.analysis import synthetic
from tests.analysis.noise_scale.made import made_study
from tests.report.drawn import entries, texts


def drawn(found: Sequence[RunNoise]) -> Figure:
    return Figures(noise_scale_drawings(found))["noise_scale"]


def test_the_numbers_of_the_frame_are_what_is_drawn() -> None:
    found = made_study()
    figure = drawn(found.parts)
    left, right = figure.axes
    bars = [one for one in left.containers if isinstance(one, ErrorbarContainer)]
    frame = found.frames["noise"].query("batch_size == 64 and mode == 'probe' and update > 0")
    assert bars[0].lines[0].get_xdata() == pytest.approx(frame["examples"].to_numpy(float))
    assert bars[0].lines[0].get_ydata() == pytest.approx(frame["noise_scale"].to_numpy(float))
    assert bars[0].has_yerr
    losses = next(one for one in right.containers if isinstance(one, ErrorbarContainer)).lines[0].get_xdata()
    assert losses == pytest.approx(frame["train_loss"].to_numpy(float))
    assert right.get_xlim()[0] > right.get_xlim()[1]  # falling to the right
    assert entries(figure) == [["B 64", "B 256"]]
    assert [part.get_suptitle() for part in figure.subfigs] == ["digits, mlp, recipe digits", ""]  # the panel's band, and the caption's


def test_many_runs_are_dots_with_one_entry_for_each_batch_size() -> None:
    found = made_study(seeds=3, rates=(0.1, 0.2)).parts
    assert len(found) > CROWDED
    figure = drawn(found)
    left, _ = figure.axes
    assert not any(one.has_yerr for one in left.containers if isinstance(one, ErrorbarContainer))
    assert entries(figure) == [["batch size 64 (2 cells)", "batch size 256 (2 cells)"]]
    assert any("intervals stand in noise.csv" in text for text in texts(figure))


def test_losses_below_zero_are_drawn_on_a_linear_axis() -> None:
    shifted = tuple(replace(run, loss=replace(run.loss, values=run.loss.values - 2.0)) for run in made_study().parts if run.loss)
    figure = drawn(shifted)
    left, right = figure.axes
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert right.get_xlim()[0] > right.get_xlim()[1]
    losses = next(one for one in right.containers if isinstance(one, ErrorbarContainer)).lines[0].get_xdata()
    assert max(losses) < 0
    run = shifted[0]
    assert run.loss is not None
    assert loss_at(run.loss, float(run.loss.updates[-1])) == pytest.approx(run.loss.values[-1])


def test_without_measurements_the_figure_says_so() -> None:
    figure = drawn(study("made", *synthetic.digits_suite(1, only=["SB"])).parts)
    assert "No run has measured its noise scale." in texts(figure)
