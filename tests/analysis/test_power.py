from __future__ import annotations

import itertools
from types import ModuleType

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import stdtr

from gapbench.analysis import arms_table
from gapbench.analysis.formats import chances_text
from gapbench.analysis.notes import spread_factors
from gapbench.analysis.stats import Difference, Power, contrast, power, t_quantile
from gapbench.catalog import metrics


def compared(n: int, spread: float, other: float = 0.0, *, paired: bool = False) -> Difference:
    """A comparison of cells with these spreads, or of pairs whose differences have the first."""
    variances = (spread**2 / n,) if paired else (spread**2 / n, other**2 / n)
    error, sizes = float(np.sqrt(sum(variances))), (n,) * len(variances)
    return Difference(0.3, None, None, None, "paired" if paired else "welch", n, error, None, variances, sizes)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("comparisons", [1, 19])
@pytest.mark.parametrize("spread", [20.0, 2.0, 0.2, 0.05, 1e-4])
def test_chance_of_pairs_is_the_noncentral_t_tail(n: int, comparisons: int, spread: float) -> None:
    critical, noncentrality = t_quantile(1 - 0.05 / comparisons, n - 1), np.sqrt(n) / spread

    def density(chi: float) -> float:  # T = (Z + noncentrality) / (chi / sqrt(n - 1)), integrated over chi
        return float(stats.chi.pdf(chi, n - 1) * stats.norm.cdf(noncentrality - critical * chi / np.sqrt(n - 1)))

    slow = sum(integrate.quad(density, low, high, limit=500)[0] for low, high in itertools.pairwise([0, 0.01, 0.1, 1, 5, 40]))
    told = power(compared(n, spread, paired=True), comparisons, asked=1.0)
    assert told.chance == pytest.approx(slow, abs=1e-6)
    unasked = power(compared(n, spread, paired=True), comparisons, asked=None)
    assert unasked == Power(None, told.smallest_gap, comparisons)


@pytest.mark.parametrize("count", [1, 6, 19])
@pytest.mark.parametrize("spreads", [(0.5, 0.5), (0.3, 0.9)], ids=["alike", "unlike"])
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "welch"])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_a_table_sees_a_gap_as_often_as_its_power_says(n: int, paired: bool, spreads: tuple[float, float], count: int) -> None:
    draws = 40_000
    rng = np.random.default_rng([n, paired, count])
    split = rng.normal(0, 1, (draws, n)) if paired else 0.0
    reference, cell = (split + rng.normal(0, spread, (draws, n)) for spread in spreads)
    told = power(compared(n, float(np.hypot(*spreads)), paired=True) if paired else compared(n, *spreads), count, asked=1.0)
    for gap, chance in ((1.0, told.chance), (told.smallest_gap, 0.8)):
        found = contrast((reference + gap, cell), (1, -1), paired=paired)
        seen = (count * 2 * stdtr(found.degrees, -np.abs(found.estimate / found.error)) <= 0.05) & (found.estimate > 0)
        assert seen.mean() == pytest.approx(chance, abs=0.0085)  # at most 3.4 standard errors of a proportion over so many draws


def test_no_power_from_one_seed_or_without_spread() -> None:
    assert power(None, asked=1.0) is None
    assert power(Difference(0.3, None, None, None, "welch", 1), asked=1.0) is None
    assert power(compared(3, 0.0), asked=1.0) is None


def test_power_is_told_wherever_a_cell_is_not_separated(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.digits_suite())
    (row,) = (row for row in table.rows if row.verdict == "not separated")
    assert row.power == power(row.batch_gap, table.comparisons, asked=1.0)
    verdict = arms_table(*_close(synthetic)).verdict
    (sentence,) = (text for text in verdict if "batch 512 (LB) is not separated from batch 16 (SB) (" in text)
    assert "; a gap of 1 pp would have been seen with probability " in sentence
    notes = " ".join(table.notes)
    assert "measured spreads taken as the true ones, a gap of 1 pp would have been seen with probability" in notes
    assert f"{row.cell.name} {row.power.smallest_gap:.2f} pp" in notes
    frame = table.frame().set_index("cell")
    assert frame.loc[row.cell.name, "batch_gap_chance_of_1_pp"] == row.power.chance
    assert frame.loc[row.cell.name, "batch_gap_pp_seen_with_80_percent"] == row.power.smallest_gap
    assert frame.loc["LB", "batch_gap_comparisons"] == 6
    assert frame.loc["LB", "batch_gap_n"] == 8


def _close(synthetic: ModuleType) -> tuple[object, object]:
    """A suite whose LB is a cell at another budget, so that it is told by itself, and no worse than SB."""
    runs, curves = synthetic.digits_suite(only=["SB", "LB"])
    other = runs["cell"] == "LB"
    runs.loc[other, ["learning_rate_rule", "regime"]] = ["set", "sqrt-lr"]
    small = runs.loc[runs["cell"] == "SB", "test_accuracy"].to_numpy(dtype=float)
    runs.loc[other, "test_accuracy"] = small + np.array([1, -1, 2, -2, 1, -1, 0, 1]) / 897
    return runs, curves


def test_large_tables_tell_the_range_of_their_power(synthetic: ModuleType) -> None:
    table = arms_table(*synthetic.grid_suite())
    assert any("Not separated is not equal: a gap of 1 pp would have been seen with probability" in sentence for sentence in table.verdict)
    (note,) = (note for note in table.notes if note.startswith("Power"))
    assert "pp by cell. " in note


@pytest.mark.parametrize(
    ("chances", "text"), [([0.9312], "93 %"), ([0.9999], "> 99 %"), ([0.999, 0.004, 0.5], "< 1 to > 99 %"), ([0.2, 0.201], "20 %")]
)
def test_chances_are_never_said_to_be_certain(chances: list[float], text: str) -> None:
    assert (
        chances_text([Power(chance, 1.0, 1) for chance in chances], metrics()["accuracy"])
        == f"a gap of 1 pp would have been seen with probability {text}"
    )


@pytest.mark.parametrize("n", [2, 3, 8])
def test_spread_factors_hold_the_true_spread_in_95_percent_of_draws(n: int) -> None:
    measured = np.random.default_rng(n).normal(0, 1, (50_000, n)).std(axis=1, ddof=1)
    low, high = spread_factors(n)
    assert np.mean((measured * low <= 1) & (measured * high >= 1)) == pytest.approx(0.95, abs=0.005)
