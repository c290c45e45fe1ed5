from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import Curves
from gapbench.report.accuracy import accuracy_figure
from gapbench.report.series import facets
from gapbench.report.style import PAPER, arm_style, batch_style, house_style, regime_style, render
from gapbench.report.training_curves import training_curves_figure
from gapbench.report.weight_distance import weight_distance_figure


def drawn(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Iterator[Figure]:
    panels, curves = read_panels(tables[0]), Curves(tables[1])
    with house_style():
        for figure in (weight_distance_figure(panels, curves), accuracy_figure(panels), training_curves_figure(panels, curves)):
            figure.canvas.draw()
            yield figure


def plots(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible() and axes.axison]


def legends(figure: Any) -> list[Any]:
    return [*figure.legends, *(legend for part in figure.subfigs for legend in legends(part))]


def lightness(color: Any) -> float:
    red, green, blue = mpl.colors.to_rgb(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("kind", ["arms", "grid", "both"])
def test_legends_never_cover_an_axes_and_nothing_leaves_the_page(synthetic: ModuleType, kind: str) -> None:
    arms, grid = synthetic.digits_suite(3), synthetic.grid_suite(3, (128, 512))
    tables = {"arms": arms, "grid": grid, "both": tuple(pd.concat(pair) for pair in zip(arms, grid, strict=True))}[kind]
    for figure in drawn(tables):
        page = figure.bbox
        boxes = [axes.get_tightbbox() for axes in plots(figure)]
        assert boxes
        for legend in legends(figure):
            box = legend.get_window_extent()
            assert not any(box.overlaps(other) for other in boxes)
            assert box.x1 <= page.x1
            assert box.y0 >= page.y0
        assert all(box.x0 >= page.x0 - 1 and box.x1 <= page.x1 and box.y0 >= page.y0 for box in boxes)


def test_axes_are_labelled_with_their_units(synthetic: ModuleType) -> None:
    distance, accuracy, training = drawn(synthetic.digits_suite(2, only=["SB", "LB"]))
    assert plots(distance)[0].get_xlabel() == "updates (log scale)"
    assert plots(distance)[0].get_xscale() == "log"
    assert plots(accuracy)[0].get_xlabel() == "batch size (examples, log scale)"
    assert plots(accuracy)[0].get_ylabel() == "test accuracy (%)"
    assert [axes.get_ylabel() for axes in plots(training)] == ["train loss (nats)", "test accuracy (%)"]


def test_every_seed_is_a_dot(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(5, only=["SB", "LB"])
    _, figure, _ = drawn((runs, curves))
    dots = [line for line in plots(figure)[0].get_lines() if line.get_alpha() == 0.45]
    values = [value for line in dots for value in line.get_ydata()]
    assert sorted(values) == pytest.approx(sorted(100 * runs["test_accuracy"]))


def test_weight_distance_is_the_mean_of_the_ok_runs_and_others_are_thin_and_dotted(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(4, only=["SB", "LB"], diverged=[("LB", 1)])
    figure = next(drawn((runs, curves)))
    lines = {line.get_label(): line for line in plots(figure)[0].get_lines()}
    table = curves[(curves["metric"] == "weight_distance") & (curves["layer"] == "")]
    ids = runs[(runs["cell"] == "LB") & (runs["outcome"] == "ok")]["run_id"]
    expected = table[table["run_id"].isin(ids)].groupby("update")["value"].mean()
    assert lines["LB (B 512)"].get_ydata() == pytest.approx(expected.to_numpy())
    thin = [line for line in lines.values() if line.get_linewidth() < 1]
    assert len(thin) == 1
    assert max(thin[0].get_xdata()) <= 0.4 * 52


def test_grids_have_one_axes_per_regime_and_ghost_setting_with_one_curve_per_batch_size(synthetic: ModuleType) -> None:
    runs, _ = synthetic.grid_suite(2)
    (panel,) = read_panels(runs)
    found = facets(panel)
    assert [facet.title for facet in found] == [
        f"{regime}, ghost {ghost}" for ghost in ("off", 128) for regime in ("baseline", "sqrt-lr", "adapted")
    ]
    assert [series.label for series in found[0].series] == [f"batch size {size}" for size in (128, 512, 2048, 4096)]
    assert found[0].reference is None  # it is one of the curves there
    assert found[-1].reference is not None
    assert found[-1].reference.name == "B 128, baseline"


def test_arms_and_grid_of_one_suite_do_not_share_an_axes(synthetic: ModuleType) -> None:
    runs, curves = synthetic.grid_suite(2, (128, 512))
    runs.loc[runs["cell"] == "B 512, adapted, ghost 128", "arm"] = "RA"
    (panel,) = read_panels(runs)
    assert next(facet.title for facet in facets(panel)) == ""
    _, figure, _ = drawn((runs, curves))
    assert len(plots(figure)) == 2


def test_series_differ_by_more_than_their_color() -> None:
    styles = [arm_style(position) for position in range(35)]
    assert len({(str(style.dashes), style.marker) for style in styles[:10]}) == 10
    assert len({(style.color, str(style.dashes), style.marker) for style in styles}) == 35
    sizes = [batch_style(position, 5) for position in range(5)]
    steps = np.diff([lightness(style.color) for style in sizes])
    assert (steps > 0.05).all()  # from dark to light also in gray
    assert len({(str(style.dashes), style.marker) for style in sizes}) == 5
    assert (regime_style(1, 0).filled, regime_style(1, 1).filled) == (True, False)


def test_the_users_own_matplotlib_settings_are_neither_used_nor_changed(synthetic: ModuleType) -> None:
    tables = synthetic.digits_suite(1, only=["SB"])
    plain = [render(figure, "svg") for figure in drawn(tables)]
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "mine"}):
        assert [render(figure, "svg") for figure in drawn(tables)] == plain
        assert mpl.rcParams["font.size"] == 30


def test_figures_hold_no_date(synthetic: ModuleType) -> None:
    for figure in drawn(synthetic.digits_suite(1, only=["SB"])):
        assert b"dc:date" not in render(figure, "svg")
        assert b"Software" not in render(figure, "png")[:200]


def test_the_papers_numbers_are_gray_marks(synthetic: ModuleType) -> None:
    rows = []
    for name, batch_size in (("SB", 128), ("LB", 4096)):
        rows += [
            synthetic.run_row(
                name, seed, recipe="hoffer2017/f1-mnist", dataset="mnist", model="f1", model_options="{}", batch_size=batch_size,
                train_examples=60000, reference_batch_size=128, reference_updates=23437, planned_updates=23437 * 128 // batch_size,
                split_drawn=False, reference_cell=name == "SB", test_accuracy=0.98 + 0.001 * seed,
            )
            for seed in range(3)
        ]  # fmt: skip
    figure = list(drawn(synthetic.tables(rows, [])))[1]
    marks = [line for line in plots(figure)[0].get_lines() if line.get_color() == PAPER]
    assert [float(line.get_ydata()[0]) for line in marks] == pytest.approx([98.27, 97.05])
