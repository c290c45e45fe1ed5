"""Effects of a factorial: known ones are recovered, intervals cover, and what cannot be said is not."""

from __future__ import annotations

import itertools
import json
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit

from gapbench.analysis import arms_table
from gapbench.analysis.cells import read_panels
from gapbench.analysis.factorial import contrast_coefficients, effect_notes, effect_rows, effect_sentences, effects_frame, factorials
from gapbench.analysis.stats import contrast
from gapbench.report.factorial import factorial_figure
from gapbench.report.tables import factorial_markdown

LEVELS = {"learning_rate_scaling": ("none", "sqrt"), "ghost_batch_size": ("off", "16"), "budget": ("epochs", "updates")}
TRUE = {(0,): 2.0, (1,): 0.5, (2,): 1.0, (0, 1): -0.25, (0, 2): 0.75, (1, 2): 0.0}
"""Effects in percentage points, by positions of the factors."""
ALL = [*TRUE]


def means(effects: dict[tuple[int, ...], float], count: int = 3, base: float = 95.0) -> np.ndarray:
    """Cell means with these effects, the last factor varying fastest: base + sum of half the effect times the signs."""
    signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    return base + sum(effect / 2 * signs[:, list(which)].prod(axis=1) for which, effect in effects.items())


def runs_of(
    synthetic: ModuleType,
    cell_means: np.ndarray,
    n: int = 5,
    spread: float = 0.3,
    levels: dict[str, tuple[str, ...]] = LEVELS,
    **fields: Any,
) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    split = rng.normal(0, 1.0, n) if fields.get("split_drawn", True) else np.zeros(n)
    rows = []
    for position, own in enumerate(itertools.product(*levels.values())):
        axes = dict(zip(levels, own, strict=True))
        for seed in range(n):
            accuracy = (cell_means[position] + split[seed] + rng.normal(0, spread)) / 100
            row = synthetic.run_row(
                ", ".join(own), seed, arm="", cell_order=position, axes=json.dumps(axes), batch_size=512, updates=52, planned_updates=52,
                test_accuracy=accuracy, test_loss=1 - accuracy, **fields,
            )  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


def test_coefficients_are_the_differences_that_they_stand_for() -> None:
    values = np.array([10.0, 11.0, 14.0, 18.0])  # a low b low, a low b high, a high b low, a high b high
    assert contrast_coefficients(2, (0,)) @ values == pytest.approx(((14 - 10) + (18 - 11)) / 2)
    assert contrast_coefficients(2, (1,)) @ values == pytest.approx(((11 - 10) + (18 - 14)) / 2)
    assert contrast_coefficients(2, (0, 1)) @ values == pytest.approx(((18 - 11) - (14 - 10)) / 2)
    for count, which in ((3, (0,)), (3, (1, 2)), (4, (3,))):
        coefficients = contrast_coefficients(count, which)
        assert coefficients.sum() == pytest.approx(0)
        assert np.abs(coefficients).sum() == pytest.approx(2)


@pytest.mark.parametrize("split_drawn", [True, False], ids=["paired", "welch"])
def test_known_effects_are_recovered(synthetic: ModuleType, split_drawn: bool) -> None:
    runs = runs_of(synthetic, means(TRUE), n=200, split_drawn=split_drawn)
    (found,) = factorials(read_panels(runs))
    accuracy = found.of("test_accuracy")
    assert [effect.factors for effect in accuracy] == [tuple(found.factors[position] for position in which) for which in ALL]
    for effect, which in zip(accuracy, ALL, strict=True):
        assert effect.estimate == pytest.approx(TRUE[which], abs=0.06)
        assert effect.low < effect.estimate < effect.high
        assert effect.separated == (TRUE[which] != 0)
        assert effect.method == ("paired" if split_drawn else "welch")
    loss = {effect.factors: effect for effect in found.of("test_loss")}
    assert all(loss[effect.factors].estimate == pytest.approx(-effect.estimate / 100) for effect in accuracy)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 8])
def test_intervals_cover_a_known_interaction_in_93_to_97_percent_of_draws(n: int, paired: bool) -> None:
    """Cells of unlike spread; where paired they share what a split does, which cancels in every contrast."""
    draws, which = 4000, (0, 2)
    rng = np.random.default_rng([n, paired])
    spreads = np.array([0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.6, 0.6])
    shared = rng.normal(0, 2.0, (draws, n)) if paired else 0.0
    samples = [shared + mean + rng.normal(0, spread, (draws, n)) for mean, spread in zip(means(TRUE), spreads, strict=True)]
    found = contrast(samples, contrast_coefficients(3, which), paired=paired)
    covered = np.abs(found.estimate - TRUE[which]) <= stdtrit(found.degrees, 0.975) * found.error
    # Welch and Satterthwaite's approximation is a little off at three values a cell, on the safe side.
    assert 0.93 <= np.mean(covered) <= (0.97 if paired or n > 3 else 0.98)


def test_two_factors_and_four_factors_are_factorials_too(synthetic: ModuleType) -> None:
    two = dict([*LEVELS.items()][:2])
    (found,) = factorials(read_panels(runs_of(synthetic, means({(0,): 1.0}, 2), levels=two)))
    assert [effect.name for effect in found.of("test_accuracy")] == [
        "learning rate scaling none → sqrt", "ghost batch size off → 16", "learning rate scaling × ghost batch size",
    ]  # fmt: skip
    four = LEVELS | {"momentum_reset": ("never", "epoch")}
    (found,) = factorials(read_panels(runs_of(synthetic, means({(3,): -1.5}, 4), n=50, levels=four)))
    assert len(found.of("test_accuracy")) == 4 + 6
    separated = {effect.name: effect.estimate for effect in found.of("test_accuracy") if effect.separated}
    assert separated == {"momentum reset never → epoch": pytest.approx(-1.5, abs=0.1)}


def test_an_axis_of_three_levels_gives_a_factorial_at_each(synthetic: ModuleType) -> None:
    levels = {"batch_size": ("64", "256", "512"), **dict([*LEVELS.items()][:2])}
    found = factorials(read_panels(runs_of(synthetic, np.repeat([95.0, 94.0, 93.0], 4), levels=levels)))
    assert [one.stratum for one in found] == [{"batch_size": size} for size in levels["batch_size"]]
    assert found[0].title.endswith(", batch size 64")
    assert all(len(one.cells) == 4 for one in found)


def test_grids_without_two_axes_of_two_levels_and_suites_of_arms_are_none(synthetic: ModuleType) -> None:
    one = {"learning_rate_scaling": ("none", "sqrt")}
    assert factorials(read_panels(runs_of(synthetic, np.array([95.0, 96.0]), levels=one))) == ()
    assert factorials(read_panels(synthetic.digits_suite(2)[0])) == ()
    assert effect_sentences(read_panels(synthetic.digits_suite(2)[0])[0]) == []


def test_a_missing_combination_or_a_diverged_run_is_said_and_nothing_is_imputed(synthetic: ModuleType) -> None:
    runs = runs_of(synthetic, means(TRUE))
    (found,) = factorials(read_panels(runs[runs["cell"] != "sqrt, 16, updates"]))
    assert (found.effects, found.reason) == ((), "1 of 8 combinations is not in the grid")
    runs.loc[runs.index[0], "outcome"] = "diverged"
    (found,) = factorials(read_panels(runs))
    assert found.reason == "none, off, epochs: 4 ok of 5, 1 diverged"
    assert effect_sentences(found.panel)[0].endswith("no effects (none, off, epochs: 4 ok of 5, 1 diverged).")


def test_one_seed_has_effects_and_no_interval(synthetic: ModuleType) -> None:
    (found,) = factorials(read_panels(runs_of(synthetic, means(TRUE), n=1)))
    assert all(effect.low is None and not effect.separated for effect in found.effects)
    assert effect_sentences(found.panel) == [
        "Factorial of learning rate scaling, ghost batch size and budget: no interval from one seed."
    ]  # fmt: skip
    assert effect_notes([found]) == []


def test_sentences_say_effects_with_intervals_and_interactions_by_name(synthetic: ModuleType) -> None:
    runs = runs_of(synthetic, means(TRUE), n=20)
    table = arms_table(runs, pd.DataFrame(columns=["run_id", "update", "examples", "metric", "layer", "value"]))
    main, interactions = (sentence for sentence in table.verdict if "Factorial" in sentence or "interactions" in sentence)
    assert main.startswith("Factorial of learning rate scaling, ghost batch size and budget, 8 cells: the largest of 3 main effects is ")
    assert "learning rate scaling none → sqrt, +2." in main or "learning rate scaling none → sqrt, +1.9" in main
    assert "separated from zero; the largest is learning rate scaling × budget, +0." in interactions
    nothing = runs_of(synthetic, np.full(8, 95.0), n=4)
    assert effect_sentences(read_panels(nothing)[0])[1].startswith("Of 3 interactions of two, 0 are separated from zero; ")


def test_tables_hold_every_effect_with_its_interval(synthetic: ModuleType) -> None:
    (found,) = factorials(read_panels(runs_of(synthetic, means(TRUE))))
    frame = effects_frame([found])
    assert len(frame) == 12
    assert (frame["low"] < frame["estimate"]).all()
    assert (frame["p_holm"] >= frame["p_value"]).all()
    rows = effect_rows(found)
    assert [row[0] for row in rows] == [effect.name for effect in found.of("test_accuracy")]
    assert all(" to " in row[2] and " to " in row[4] for row in rows)


@pytest.mark.parametrize("split_drawn", [True, False], ids=["paired", "welch"])
def test_equal_cells_have_effects_of_exactly_zero_that_nothing_separates(synthetic: ModuleType, split_drawn: bool) -> None:
    (found,) = factorials(read_panels(runs_of(synthetic, np.full(8, 95.1), n=7, spread=0.0, split_drawn=split_drawn)))
    assert {(effect.estimate, effect.low, effect.high, effect.p_value, effect.separated) for effect in found.effects} == {
        (0.0, 0.0, 0.0, None, False)
    }
    assert "learning rate scaling none → sqrt, +0.00 (no spread between seeds)" in effect_sentences(found.panel)[0]


@pytest.mark.parametrize("split_drawn", [True, False], ids=["paired", "welch"])
def test_effects_that_simply_add_have_no_interaction_and_no_spread_of_rounding(synthetic: ModuleType, split_drawn: bool) -> None:
    levels = LEVELS | {"momentum_reset": ("never", "epoch")}
    cell_means = means({(0,): 0.1, (1,): 0.7, (3,): -0.3}, 4, base=95.3)
    (found,) = factorials(read_panels(runs_of(synthetic, cell_means, n=7, spread=0.0, levels=levels, split_drawn=split_drawn)))
    for effect in found.effects:
        assert (effect.low, effect.high, effect.p_value, effect.separated) == (effect.estimate, effect.estimate, None, False)
    by_name = {effect.name: effect.estimate for effect in found.of("test_accuracy")}
    assert by_name["ghost batch size off → 16"] == pytest.approx(0.7)
    assert [estimate for name, estimate in by_name.items() if "×" in name] == [0.0] * 6


def test_effects_of_models_without_accuracy_are_on_test_loss(synthetic: ModuleType) -> None:
    runs = runs_of(synthetic, means(TRUE), n=20).assign(test_accuracy=None, train_accuracy=None, test_loss=lambda own: 100 * own.test_loss)
    (found,) = factorials(read_panels(runs))
    assert [effect.measure for effect in found.effects] == ["test_loss"] * 6
    assert found.headline == found.effects
    main, interactions = effect_sentences(found.panel)
    assert "learning rate scaling none → sqrt, −" in main
    assert " nats (" in main
    assert interactions.startswith("Of 3 interactions of two, ")
    page = factorial_markdown("mine", [found])
    assert "learning rate scaling none → sqrt" in page
    figure = factorial_figure([found.panel])
    (axes,) = figure.axes
    assert axes.get_xlabel() == "effect on test loss (nats)"
    low, high = axes.get_xlim()
    assert all(low < end < high for effect in found.effects for end in (effect.low, effect.high) if end is not None)
