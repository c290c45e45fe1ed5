"""Figures of critical batch sizes: what is drawn is what was fitted, and what did not arrive is shown as such."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gapbench.analysis.critical_batch.hyperbola import Predicted
from gapbench.analysis.critical_batch.study import study_of_curves, study_series
from gapbench.analysis.critical_batch.targets import Passage
from gapbench.analysis.frames import Study
from gapbench.catalog.published import tasks
from gapbench.report.critical_batch import critical_batch_drawings
from gapbench.report.figures import Figures
from gapbench.report.pages import write_analysis
from tests.report.drawn import lines, plots, texts

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def passages(*, lost: tuple[int, ...] = ()) -> list[Passage]:
    """Runs on a hyperbola of B_crit 100 and S_min 50, two seeds each."""
    random = np.random.default_rng(0)
    out = []
    for size in SIZES:
        for seed in range(2):
            steps = 50 * (1 + 100 / size) * float(np.exp(0.03 * random.standard_normal()))
            out.append(Passage(size, 0.1, seed, None if size in lost else steps, 3 * steps))
    return out


def with_predictions(found: Study) -> Study:
    (curve,) = found.parts
    predictions = tuple(Predicted(size, 120.0, 200.0, 45.0) for size in (16, 64, 64, 1024))
    return study_of_curves(found.suite, [replace(curve, predictions=predictions)])


@pytest.fixture(scope="module")
def found() -> Study:
    return with_predictions(study_series("mine", {"mine": passages(lost=(2048,))}))


@pytest.fixture(scope="module")
def figures(found: Study) -> Figures:
    return Figures(critical_batch_drawings(found.parts))


def test_steps_fit_perfect_scaling_and_runs_that_did_not_arrive_are_drawn(found: Study, figures: Figures) -> None:
    (axes,) = figures["steps_vs_batch_size"].axes
    drawn = lines(axes)
    (curve,) = found.parts
    assert curve.fit is not None
    assert drawn["runs"].get_ydata() == pytest.approx([steps for _, steps in curve.points])
    assert drawn["fit"].get_ydata() == pytest.approx(curve.fit.steps(drawn["fit"].get_xdata()))
    guide = drawn["perfect scaling"]
    assert np.diff(np.log(guide.get_ydata())) == pytest.approx(-np.diff(np.log(guide.get_xdata())))
    assert [*drawn["not reached"].get_xdata()] == [2048, 2048]
    (shade,) = axes.patches
    critical = curve.fit.critical_batch
    assert shade.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([critical.low, critical.high])
    assert not any("\\times" in tick.get_text() for tick in axes.get_yticklabels())


def test_the_critical_batch_is_at_twice_the_least_of_both(found: Study, figures: Figures) -> None:
    (axes,) = figures["steps_vs_examples"].axes
    (curve,) = found.parts
    assert curve.fit is not None
    (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == pytest.approx(
        (2 * curve.fit.smallest_examples, 2 * curve.fit.smallest_steps.value)
    )


def test_predictions_stand_beside_the_papers_tasks_and_the_figure_holds_all_of_them(found: Study, figures: Figures) -> None:
    (axes,) = figures["predicted_vs_measured"].axes
    names = {text.get_text() for text in axes.texts}
    assert names == {task.task for task in tasks()}
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert all(low < task.noise_scale[1] < high and bottom < task.critical_batch[1] < top for task in tasks())
    dots = [one.lines[0] for one in axes.containers]
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx([120.0] * 3)  # one a batch size
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, False, True]  # only 64 is within a factor 4
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["the target"]


def test_the_frame_of_predictions_has_what_is_drawn(found: Study) -> None:
    frame = found.frames["predictions"]
    assert [*frame.batch_size] == [16, 64, 64, 1024]
    assert [*frame.counts] == [False, True, True, False]
    assert (frame.predicted_naive == 200.0).all()
    assert frame.smallest_examples.to_numpy(float) == pytest.approx(45.0 * 120.0)
    (sentences,) = found.sentences.values()
    told = [text for text in sentences if "predicts" in text]
    assert len(told) == 3
    assert "the noise scale of 2 runs at batch size 64 predicts 120 (mean over progress; 200 over updates)" in told[1]
    assert ["does not count" in text for text in told] == [True, False, True]


def test_nothing_that_arrives_is_said_and_there_is_no_figure_of_predictions_without_one() -> None:
    none = study_series("none", {"none": passages(lost=SIZES)})
    figures = Figures(critical_batch_drawings(none.parts))
    assert [*figures] == ["steps_vs_batch_size", "steps_vs_examples"]
    assert [*lines(figures["steps_vs_batch_size"].axes[0])] == ["not reached"]
    assert "No hyperbola could be fitted." in texts(figures["steps_vs_examples"])


def test_files_are_written_and_the_same_again(found: Study, tmp_path: Path) -> None:
    drawings = critical_batch_drawings(found.parts)
    one, two = (write_analysis("critical-batch", "mine", found.sentences, found.frames, drawings, tmp_path / name) for name in ("1", "2"))
    assert {path.name for path in one} == {
        "critical-batch.md", "passages.csv", "fits.csv", "predictions.csv",
        *(f"{name}.{kind}" for name in drawings for kind in ("png", "svg")),
    }  # fmt: skip
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    page = (tmp_path / "1" / "critical-batch.md").read_text(encoding="utf-8")
    assert "by the definition of 20 % more examples (Zhang et al. 2024)" in page


def test_published_series_have_a_plot_each() -> None:
    sizes = {name: passages() for name in ("a", "b", "c")}
    figure = Figures(critical_batch_drawings(study_series("three", sizes).parts))["steps_vs_batch_size"]
    assert len(plots(figure)) == 3
