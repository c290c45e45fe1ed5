"""The figure and the table of a tuning."""

from __future__ import annotations

import dataclasses
from typing import Any

import matplotlib.colors as mcolors
import pytest
from matplotlib.text import Text

from gapbench.analysis.stats import t_interval
from gapbench.report.style import house_style, render
from gapbench.report.tuning import learning_rate_figure, tuning_markdown, tuning_notes, tuning_row
from gapbench.tuning import CellResult, Point, Rules, Tuned
from gapbench.tuning.results import Tried


def cell(title: str, batch_size: int, accuracies: list[float | None], best: int, **changes: Any) -> CellResult:
    """A cell whose rates are powers of 2 times 0.1."""
    rates = [0.1 * 2**power for power in range(len(accuracies))]
    tried = tuple(
        Tried(power, rate, None if value is None else t_interval([value - 0.002, value + 0.002]), best - 1 <= power <= best)
        for power, (rate, value) in enumerate(zip(rates, accuracies, strict=True))
    )
    fields: dict[str, Any] = {
        "title": title, "cells": (title,), "words": (tuple(title.split(", ")),), "batch_size": batch_size,
        "regimes": ("baseline",), "budget": "epochs", "panel": "digits, mlp",
        "tried": tried, "trials": len(rates), "diverged": sum(value is None for value in accuracies), "best": Point(best),
        "rate": rates[best], "interior": 0 < best < len(rates) - 1, "near": (rates[max(0, best - 1)], rates[best]),
        "near_ends": (best > 1, True), "accuracy": t_interval([0.97, 0.98, 0.975]), "loss": 0.0812, "rate_of_lowest_loss": 0.4,
    }  # fmt: skip
    return CellResult(**(fields | changes))


def tuned(*cells: CellResult, **changes: Any) -> Tuned:
    fields: dict[str, Any] = {
        "suite": "fair", "rules": Rules(5, 2, 4), "step": 2.0, "search": ("learning_rate",), "holdout": 0.2, "held_out": (180,), "folds": 5,
        "seeds": (0, 1), "check_seeds": (2, 3, 4), "cells": cells, "complete": True, "rounds": ("grid", "check"), "failed": 0,
    }  # fmt: skip
    return Tuned(**(fields | changes))


SB = cell("SB", 16, [0.96, 0.97, 0.95, None], 1)
LB = cell("LB", 512, [0.90, 0.93, 0.95, 0.96], 3)


def figure_of(one: Tuned) -> Any:
    with house_style():
        figure = learning_rate_figure(one)
        assert render(figure, "png").startswith(b"\x89PNG")
    return figure


def test_every_cell_is_a_line_of_its_batch_size_with_its_optimum_and_the_range_near_it() -> None:
    (axes,) = figure_of(tuned(SB, LB)).axes
    by_label = {line.get_label(): line for line in axes.get_lines()}
    assert {"SB, B 16", "LB, B 512 (no best rate inside)"} <= set(by_label)
    line = by_label["SB, B 16"]
    assert list(line.get_xdata()) == pytest.approx([0.1, 0.2, 0.4])
    rings = [other for other in axes.get_lines() if other.get_markersize() == 10]
    assert [list(ring.get_xdata()) for ring in rings] == [[pytest.approx(0.2)], [pytest.approx(0.8)]]
    broad = [other for other in axes.get_lines() if other.get_linewidth() == 7]
    assert list(broad[0].get_xdata()) == pytest.approx([0.1, 0.2])
    assert mcolors.same_color(rings[0].get_color(), line.get_color())
    assert axes.get_xscale() == "log"


def test_rates_that_diverged_are_crosses_at_the_lower_end() -> None:
    (axes,) = figure_of(tuned(SB, LB)).axes
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[pytest.approx(0.8)]]


def test_budgets_and_models_have_axes_of_their_own_and_many_cells_one_for_each_regime() -> None:
    other = cell("LB, updates", 512, [0.9, 0.95, 0.9], 1, budget="updates")
    titles = [axes.get_title(loc="left") for axes in figure_of(tuned(SB, LB, other)).axes]
    assert titles == ["digits, mlp, equal epochs", "digits, mlp, equal updates"]
    many = [cell(f"B {size}, {regime}", size, [0.9, 0.95, 0.9], 1, regimes=(regime,)) for regime in ("a", "b") for size in range(2, 9)]
    assert [axes.get_title(loc="left") for axes in figure_of(tuned(*many)).axes] == ["digits, mlp, a", "digits, mlp, b"]


def test_a_name_leaves_out_what_the_other_lines_of_its_axes_say_too() -> None:
    cells = [cell(f"model norm batch, B {size}, budget epochs", size, [0.9, 0.95, 0.9], 1) for size in (16, 512)]
    (axes,) = figure_of(tuned(*cells)).axes
    assert {"B 16", "B 512"} <= {line.get_label() for line in axes.get_lines()}
    regimes = [cell(f"B 512, {regime}", 512, [0.9, 0.95, 0.9], 1) for regime in ("baseline", "sqrt-lr")]
    (axes,) = figure_of(tuned(*regimes)).axes
    assert {"B 512, baseline", "B 512, sqrt-lr"} <= {line.get_label() for line in axes.get_lines()}


def test_a_title_stays_over_its_axes() -> None:
    panel = "digits, mlp (widths [128, 128, 128], norm batch, bias False, and more)"
    other = cell("LB, updates", 512, [0.9, 0.95, 0.9], 1, budget="updates", panel=panel)
    figure = figure_of(tuned(SB, other))
    for axes in figure.axes:
        (title,) = [text for text in axes.findobj(Text) if text.get_text() and text.get_text() == axes.get_title(loc="left")]
        assert title.get_window_extent().x1 < axes.get_window_extent().x1 + 10


def test_before_any_trial_has_ended_the_figure_says_so() -> None:
    empty = dataclasses.replace(SB, tried=(), best=None, rate=None, near=None, interior=None, accuracy=None)
    (axes,) = figure_of(tuned(empty, complete=False)).axes
    assert axes.texts[0].get_text() == "No trial has ended yet."


def test_the_same_results_give_the_same_bytes() -> None:
    with house_style():
        first, second = (render(learning_rate_figure(tuned(SB, LB)), "svg") for _ in range(2))
    assert first == second


def test_the_table_says_where_the_optimum_lies_and_what_its_accuracy_rests_on() -> None:
    both = tuned(SB, LB)
    rows = [tuning_row(both, one) for one in both.cells]
    assert rows[0] == {
        "cell": "SB", "batch": "16", "regime": "baseline", "points": "4 (1 diverged)", "best rate": "0.2", "optimum": "interior",
        "not told apart": "0.1 (or less) to 0.2", "held-out acc. (%)": "97.50 ± 1.24", "held-out loss": "0.0812 (lowest at 0.4)",
        "fresh seeds": "3 x 5 folds",
    }  # fmt: skip
    assert rows[1]["optimum"] == "at the edge"
    notes = " ".join(tuning_notes(both))
    assert "one example is 0.11 pp" in notes
    assert "At the edge of what was tried, so that there may be a better rate: LB." in notes
    assert "| " in tuning_markdown(both)


def test_other_searched_values_stand_beside_the_rate() -> None:
    one = tuned(
        cell("SB", 16, [0.9, 0.95, 0.9], 1, other={"momentum": 0.9}, other_at_edge=("momentum",)), search=("learning_rate", "momentum")
    )
    assert tuning_row(one, one.cells[0])["best momentum"] == "0.9 (end of its list)"


def test_no_interval_is_drawn_or_written_from_one_seed() -> None:
    single = tuple(Tried(power, 0.1 * 2**power, t_interval([0.9])) for power in range(3))
    one = tuned(cell("SB", 16, [0.9] * 3, 1, tried=single, accuracy=t_interval([0.97])), seeds=(0,), check_seeds=(1,), folds=1)
    (axes,) = figure_of(one).axes
    assert not axes.collections
    assert "±" not in tuning_markdown(one).split("## Notes")[0]
