from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import Curves, matched_loss_gap
from gapbench.report.accuracy import accuracy_figure, seeds_figure
from gapbench.report.curves import loss_accuracy_figure, mean_path, training_curves_figure, weight_distance_figure
from gapbench.report.drawing import OTHERS, arm_series, facets
from gapbench.report.factorial import factorial_figure
from gapbench.report.style import PAPER, arm_style, batch_style, house_style, regime_style, render
from tests.analysis import synthetic
from tests.report.drawn import legends, lines, plots, texts

FIGURES = ("distance", "accuracy", "training", "seeds", "losses")


def drawn(tables: tuple[pd.DataFrame, pd.DataFrame], *names: str) -> list[Figure]:
    """The figures of these names, or all."""
    panels, curves = read_panels(tables[0]), Curves(tables[1])
    draw = (
        lambda: weight_distance_figure(panels, curves),
        lambda: accuracy_figure(panels),
        lambda: training_curves_figure(panels, curves),
        lambda: seeds_figure(panels),
        lambda: loss_accuracy_figure(panels, curves),
    )
    with house_style():
        figures = [draw[FIGURES.index(name)]() for name in names or FIGURES]
        for figure in figures:
            figure.draw_without_rendering()
    return figures


def lightness(color: Any) -> float:
    red, green, blue = mpl.colors.to_rgb(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("kind", ["arms", "grid", "both"])
def test_legends_never_cover_an_axes_and_nothing_leaves_the_page(kind: str) -> None:
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


def test_axes_are_labelled_with_their_units() -> None:
    distance, accuracy, training, seeds, losses = drawn(synthetic.digits_suite(2, only=["SB", "LB"]))
    assert plots(distance)[0].get_xlabel() == "updates (log scale)"
    assert plots(distance)[0].get_xscale() == "log"
    assert plots(accuracy)[0].get_xlabel() == "batch size (examples, log scale)"
    assert plots(accuracy)[0].get_ylabel() == "test accuracy (%)"
    assert [axes.get_ylabel() for axes in plots(training)] == ["train loss (nats)", "test accuracy (%)"]
    assert plots(seeds)[0].get_xlabel() == "test accuracy (%)"
    part = losses.subfigs[0].subfigs[0]
    assert part.get_supxlabel() == "train loss (nats, log scale), falling to the right as training proceeds"
    assert part.get_supylabel() == "test accuracy (%)"


def test_every_seed_is_a_dot() -> None:
    runs, curves = synthetic.digits_suite(5, only=["SB", "LB"])
    accuracy, seeds, losses = drawn((runs, curves), "accuracy", "seeds", "losses")
    up = [value for line in plots(accuracy)[0].get_lines() if line.get_alpha() == 0.45 for value in line.get_ydata()]
    across = [value for line in plots(seeds)[0].get_lines() if line.get_alpha() == 0.55 for value in line.get_xdata()]
    for values in (up, across):
        assert sorted(values) == pytest.approx(sorted(100 * runs["test_accuracy"]))
    ends = [value for line in plots(losses)[0].get_lines() if line.get_alpha() == 0.6 for value in line.get_ydata()]
    last = curves[curves["metric"] == "recalibrated_test_accuracy"].groupby("run_id")["value"].last()
    assert sorted(ends) == pytest.approx(sorted(last))


def intervals(axes: Any) -> list[Any]:
    """The drawn intervals: segments of error bars that have a length, and bands."""
    bars = [segment for found in axes.containers for bar in found.lines[2] for segment in bar.get_segments()]
    return [one for one in bars if np.ptp(np.asarray(one)) > 0] + [one for one in axes.collections if isinstance(one, PolyCollection)]


def test_no_figure_draws_an_interval_from_one_seed() -> None:
    for figure in drawn(synthetic.digits_suite(1)):
        assert not any(intervals(axes) for axes in plots(figure))
    shown = [any(intervals(axes) for axes in plots(figure)) for figure in drawn(synthetic.digits_suite(3))]
    assert shown == [True, True, True, True, False]  # the last one draws seeds and no interval


def test_runs_on_one_drawn_split_make_no_band() -> None:
    runs, curves = synthetic.digits_suite(4, only=["SB", "LB"])
    runs["split_seed"] = 0
    assert not any(intervals(axes) for figure in drawn((runs, curves)) for axes in plots(figure))


def test_rows_of_seeds_are_in_table_order_with_their_counts() -> None:
    tables = synthetic.digits_suite(3, only=["SB", "LB", "LB+LR"], diverged=[("LB", 1)])
    (figure,) = drawn(tables, "seeds")
    axes = plots(figure)[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SB (B 16), n = 3", "LB (B 512), 2 of 3 ok", "LB+LR (B 512), n = 3"]
    low, high = axes.get_ylim()
    assert low > high  # the first cell stands on top
    (line,) = (line for line in axes.get_lines() if len(set(line.get_xdata())) == 1 and list(line.get_ydata()) == [0, 1])
    own = tables[0][tables[0]["cell"] == "SB"]["test_accuracy"]
    assert line.get_xdata()[0] == pytest.approx(100 * own.mean())  # the reference


def test_intervals_that_leave_the_axis_of_seeds_say_so() -> None:
    (figure,) = drawn(synthetic.digits_suite(2, only=["SB", "LB", "LB+LR"]), "seeds")
    arrows = [line.get_marker() for line in plots(figure)[0].get_lines() if line.get_marker() in ("<", ">")]
    assert arrows
    assert any("An arrow: the interval goes on beyond the axis." in text for text in texts(figure))


def test_distance_of_two_lines_at_one_train_loss_is_the_matched_loss_gap() -> None:
    tables = synthetic.digits_suite(5, only=["SB", "LB"])
    panels, curves = read_panels(tables[0]), Curves(tables[1])
    losses, accuracies = curves.of("recalibrated_train_loss"), curves.of("recalibrated_test_accuracy")
    reference, cell = panels[0].cells
    found = matched_loss_gap(reference, cell, curves)
    assert found.gap_pp is not None
    assert found.train_loss is not None
    heights = []
    for one in (reference, cell):
        path = mean_path(one, losses, accuracies)
        assert path is not None
        heights.append(np.interp(-np.log(found.train_loss), -path.log_loss, path.accuracy))
    assert 100 * (heights[0] - heights[1]) == pytest.approx(found.gap_pp.estimate, abs=0.02)


def test_captions_say_n_and_that_intervals_are_pointwise() -> None:
    for figure in drawn(synthetic.digits_suite(3, only=["SB", "LB"], diverged=[("LB", 1)])):
        (caption,) = figure.subfigs[-1].texts
        text = caption.get_text().replace("\n", " ")
        assert "n = 2 to 3 by cell." in text
        assert ("pointwise 95 % t interval" in text) == any(intervals(axes) for axes in plots(figure))


def test_weight_distance_is_the_mean_of_the_ok_runs_and_others_are_thin_and_dotted() -> None:
    runs, curves = synthetic.digits_suite(4, only=["SB", "LB"], diverged=[("LB", 1)])
    (figure,) = drawn((runs, curves), "distance")
    by_label = lines(plots(figure)[0])
    table = curves[(curves["metric"] == "weight_distance") & (curves["layer"] == "")]
    ids = runs[(runs["cell"] == "LB") & (runs["outcome"] == "ok")]["run_id"]
    expected = table[table["run_id"].isin(ids)].groupby("update")["value"].mean()
    assert by_label["LB (B 512)"].get_ydata() == pytest.approx(expected.to_numpy())
    thin = [line for line in by_label.values() if line.get_linewidth() < 1]
    assert len(thin) == 1
    assert max(thin[0].get_xdata()) <= 0.4 * 52


def test_grids_have_one_axes_per_regime_and_ghost_setting_with_one_curve_per_batch_size() -> None:
    runs, _ = synthetic.grid_suite(2)
    (panel,) = read_panels(runs)
    found = facets(panel)
    assert [facet.title for facet in found] == [
        f"{regime}{ghost}" for ghost in ("", ", ghost 128") for regime in ("baseline", "sqrt-lr", "adapted")
    ]
    assert [series.label for series in found[0].series] == [f"batch size {size}" for size in (128, 512, 2048, 4096)]
    assert found[0].reference is None  # it is one of the curves there
    assert found[-1].reference is not None
    assert found[-1].reference.name == "B 128, baseline"


def test_a_line_over_batch_sizes_has_the_cells_whose_names_differ_in_the_batch_alone() -> None:
    """At the ghost batch size itself a batch is one group, and ghosts are off; it is a point of the same line."""
    runs, curves = synthetic.grid_suite(2, (128, 512))
    runs = runs[runs["regime"].eq("sqrt-lr") & runs["ghost_batch_size"].eq(128) | runs["cell"].eq("B 128, baseline")].copy()
    names = {"B 128, baseline": "B 128, budget epochs", "B 512, sqrt-lr, ghost 128": "B 512, budget epochs"}
    runs["cell"] = runs["cell"].map(names)
    runs["words"] = [json.dumps({"batch_size": name.split(", ")[0], "budget": "budget epochs"}) for name in runs["cell"]]
    (panel,) = read_panels(runs)
    (facet,) = facets(panel)
    assert [series.cell.batch_size for series in facet.series] == [128, 512]
    (figure,) = drawn((runs, curves), "accuracy")
    (axes,) = plots(figure)
    assert axes.get_legend_handles_labels()[1] == ["sqrt-lr"]  # of words that all cells have none is left


def test_of_many_arms_the_reference_and_the_best_stand_out() -> None:
    (few,) = drawn(many_arms(8), "accuracy")
    assert OTHERS not in plots(few)[0].get_legend_handles_labels()[1]
    (many,) = drawn(many_arms(9), "accuracy")
    (axes,) = plots(many)
    handles, labels = axes.get_legend_handles_labels()
    assert set(labels) == {"arm 0 (B 16)", "arm 1 (B 512)", OTHERS}
    colours = {label: handle.lines[0].get_color() for handle, label in zip(handles, labels, strict=True)}
    assert colours[OTHERS] == PAPER
    assert PAPER not in (colours["arm 0 (B 16)"], colours["arm 1 (B 512)"])
    assert [text.get_text() for text in legends(many)[0].get_texts()][-1] == OTHERS


def test_an_interval_of_two_seeds_and_a_wide_one_do_not_set_the_scale_and_accuracies_end_at_0_and_100() -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"])
    lb = runs["cell"] == "LB"
    runs.loc[lb, "test_accuracy"] = [0.96, 0.50, 0.97]
    (figure,) = drawn((runs, curves), "accuracy")
    low, high = plots(figure)[0].get_ylim()
    assert 30 < low < 50 < 100 < high < 100.5
    assert any("An arrow" in text for text in texts(figure))
    runs.loc[lb & (runs["seed"] == 1), "outcome"] = "diverged"
    (figure,) = drawn((runs, curves), "accuracy")
    assert plots(figure)[0].get_ylim()[0] > 94  # the interval of 96 and 97 reaches to 90
    runs.loc[lb, ["outcome"]] = "ok"
    runs.loc[lb, "test_accuracy"] = [0.96, 0.03, 0.97]
    (figure,) = drawn((runs, curves), "accuracy")
    assert plots(figure)[0].get_ylim()[0] == pytest.approx(-0.15)


def test_the_axis_of_weight_distances_ends_with_the_runs_that_are_ok() -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"], diverged=[("LB", 1)])
    run = runs.loc[(runs["cell"] == "LB") & (runs["seed"] == 1), "run_id"].item()
    curves.loc[curves["run_id"].eq(run) & curves["metric"].eq("weight_distance"), "value"] *= 1e9
    (figure,) = drawn((runs, curves), "distance")
    assert plots(figure)[0].get_ylim()[1] < 100
    assert any("left the axis" in " ".join(text.split()) for text in texts(figure))


def test_titles_of_small_axes_are_broken_so_that_they_do_not_reach_into_their_neighbours() -> None:
    runs, curves = synthetic.grid_suite(2, (128, 512))
    runs["cell"] = runs["cell"].str.replace("adapted", "adapted with momentum reset at every epoch and weight decay scaled")
    (figure,) = drawn((runs, curves), "distance")
    figure.canvas.draw()
    places = [axes for axes in plots(figure) if axes.get_title(loc="left")]
    boxes = [axes._left_title.get_window_extent() for axes in places]
    assert any("\n" in axes.get_title(loc="left") for axes in places)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_arms_and_grid_of_one_suite_do_not_share_an_axes() -> None:
    runs, curves = synthetic.grid_suite(2, (128, 512))
    runs.loc[runs["cell"] == "B 512, adapted, ghost 128", "arm"] = "RA"
    (panel,) = read_panels(runs)
    assert next(facet.title for facet in facets(panel)) == ""
    (figure,) = drawn((runs, curves), "accuracy")
    assert len(plots(figure)) == 2


def test_series_differ_by_more_than_their_color_and_only_the_reference_is_black() -> None:
    styles = [arm_style(position) for position in range(35)]
    assert [position for position, style in enumerate(styles) if style.color == "#000000"] == [0]
    assert len({(str(style.dashes), style.marker) for style in styles[:10]}) == 10
    assert len({(style.color, str(style.dashes), style.marker) for style in styles}) == 35
    sizes = [batch_style(position, 5) for position in range(5)]
    steps = np.diff([lightness(style.color) for style in sizes])
    assert (steps > 0.05).all()  # from dark to light also in gray
    assert len({(str(style.dashes), style.marker) for style in sizes}) == 5
    assert (regime_style(1, 0).filled, regime_style(1, 1).filled) == (True, False)


def files(tables: tuple[pd.DataFrame, pd.DataFrame], kind: str) -> list[bytes]:
    """All figures as files of a kind, as a report writes them."""
    figures = drawn(tables)
    with house_style():
        return [render(figure, kind) for figure in figures]


def test_the_users_own_matplotlib_settings_are_neither_used_nor_changed() -> None:
    tables = synthetic.digits_suite(1, only=["SB"])
    plain = files(tables, "svg")
    assert not any(b"dc:date" in text for text in plain)
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "mine"}):
        assert files(tables, "svg") == plain
        assert mpl.rcParams["font.size"] == 30
    assert not any(b"Software" in image[:200] for image in files(tables, "png"))


def test_the_papers_numbers_are_gray_marks() -> None:
    shared: dict[str, Any] = {
        "recipe": "hoffer2017/f1-mnist", "dataset": "mnist", "model": "f1", "model_options": "{}",
        "reference_batch_size": 128, "reference_updates": 23437, "split_drawn": False,
    }  # fmt: skip
    rows = [
        synthetic.run_row(
            name, seed, batch_size=size, reference_cell=name == "SB", test_accuracy=0.98 + 0.001 * seed,
            **shared, **synthetic.effective(recipe="hoffer2017/f1-mnist", preset="paper", batch_size=size),
        )
        for name, size in (("SB", 128), ("LB", 4096)) for seed in range(3)
    ]  # fmt: skip
    (figure,) = drawn(synthetic.tables(rows, []), "accuracy")
    marks = [line for line in plots(figure)[0].get_lines() if line.get_color() == PAPER]
    assert [float(line.get_ydata()[0]) for line in marks] == pytest.approx([98.27, 97.05])


def test_many_arms_are_spread_over_several_axes_with_the_reference_behind() -> None:
    runs, curves = many_arms(20)
    (panel,) = read_panels(runs)
    found = facets(panel)
    assert [facet.title for facet in found] == ["arms 1 to 6 of 20", "arms 7 to 13 of 20", "arms 14 to 20 of 20"]
    assert [facet.reference.name if facet.reference else None for facet in found] == [None, "arm 0", "arm 0"]
    assert sum(len(facet.series) for facet in found) == 20
    for figure in drawn((runs, curves)):
        for legend in legends(figure):
            assert legend.get_window_extent().y0 >= legend.figure.bbox.y0 - 1, "the legend stays beside its panel"


def test_effects_are_drawn_one_row_each_filled_where_separated() -> None:
    rows = []
    for order, (ghost, budget) in enumerate(itertools.product(("off", "16"), ("epochs", "updates"))):
        axes = json.dumps({"ghost_batch_size": ghost, "budget": budget})
        for seed in range(5):
            odd = 0.001 * seed + 0.0003 * ((3 * seed + 5 * len(ghost) * len(budget)) % 7)
            accuracy = 0.95 + 0.02 * (budget == "updates") + odd
            fields = {"arm": "", "batch_size": 512, "cell_order": order, "axes": axes, "test_accuracy": accuracy}
            rows.append(synthetic.run_row(f"{ghost}, {budget}", seed, **fields))
    with house_style():
        (axes,) = plots(factorial_figure(read_panels(pd.DataFrame(rows))))
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "ghost batch size off → 16", "budget epochs → updates", "ghost batch size × budget",
    ]  # fmt: skip
    marks = [line for line in axes.get_lines() if line.get_marker() in ("o", "D")]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [True, False, True]
    assert marks[1].get_xdata()[0] == pytest.approx(2.0, abs=0.05)


def test_a_grid_that_is_no_factorial_says_so() -> None:
    with house_style():
        figure = factorial_figure(read_panels(synthetic.digits_suite(1)[0]))
    assert any("no factorial" in text for text in texts(figure))


def many_arms(count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A panel of `count` arms with the curves of one seed each."""
    runs = [
        synthetic.run_row(f"arm {number}", 0, reference_cell=number == 0, cell_order=number, batch_size=16 if number % 3 == 0 else 512)
        for number in range(count)
    ]
    curves = [
        synthetic.point(row["run_id"], update, metric, value / update**0.3)
        for row in runs
        for update in (1, 10, 100)
        for metric, value in (("train_loss", 1.0), ("test_accuracy", 0.9), ("weight_distance", 5.0))
    ]
    return pd.DataFrame(runs), pd.DataFrame(curves)


def test_a_name_that_says_the_batch_size_says_it_once() -> None:
    cells = read_panels(synthetic.digits_suite(3, only=["SB", "LB"])[0])[0].cells
    small, large = (next(cell for cell in cells if cell.name == name) for name in ("SB", "LB"))
    named = [replace(small, name="no reset, B 16", words={"batch_size": "B 16"}), large]
    assert [one.label for one in arm_series(named)] == ["no reset, B 16", "LB (B 512)"]
