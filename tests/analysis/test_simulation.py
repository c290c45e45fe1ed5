"""The arms table against simulation: seeded draws with a known gap, and without one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import stdtr, stdtrit

from gapbench.analysis.stats import Contrast, contrast, difference, holm, share_closed, share_contrast

Samples = npt.NDArray[np.float64]

MANY, FEW = 100_000, 5_000
"""Draws of whole arrays, and of those that go through the table's own functions one by one."""


def allowance(rate: float, draws: int) -> float:
    """Three standard errors of a proportion: a test whose true rate is `rate` shows more than rate + allowance in 0.13 % of all seeds.

    At 100,000 draws and a rate of 5 % it is 0.21 %, so a test that errs with 5.5 % cannot pass (it would have to fall short by 4 standard
    errors). Paired tests need it, as their rate is 5 % exactly and half of all seeds are above.
    """
    return float(3 * np.sqrt(rate * (1 - rate) / draws))


def cells(n: int, spreads: list[float], *, paired: bool, draws: int = MANY) -> list[Samples]:
    """Returns cells [draws, n] with mean 0 and these spreads; where paired they share what a split does, with correlation about 0.6."""
    rng = np.random.default_rng([n, paired, len(spreads)])
    split = rng.normal(0, 1.2, (draws, n)) if paired else 0.0
    return [split + rng.normal(0, spread, (draws, n)) for spread in spreads]


def p_values(found: Contrast) -> Samples:
    return np.asarray(2 * stdtr(found.degrees, -np.abs(found.estimate / found.error)))


def sample(values: Samples) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "welch"])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_a_known_gap_in_93_to_97_percent_of_draws(n: int, paired: bool, spread: float) -> None:
    reference, cell = cells(n, [1.0, spread], paired=paired)
    gap = 1.7
    found = contrast((reference + gap, cell), (1, -1), paired=paired)
    covered = np.abs(found.estimate - gap) <= stdtrit(found.degrees, 0.975) * found.error
    assert 0.93 <= covered.mean() <= 0.97
    one_by_one = [difference(sample(reference[draw] + gap), sample(cell[draw]), paired=paired) for draw in range(FEW)]
    inside = [one is not None and one.low is not None and one.high is not None and one.low <= gap <= one.high for one in one_by_one]
    assert inside == covered[:FEW].tolist()
    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "welch"])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_without_a_gap_a_table_claims_one_in_at_most_5_percent_of_draws(n: int, paired: bool, count: int) -> None:
    reference, *others = cells(n, [1.0] * (count + 1), paired=paired)
    p = np.stack([p_values(contrast((reference, cell), (1, -1), paired=paired)) for cell in others])
    claimed = count * p.min(axis=0) <= 0.05  # Holm claims something if and only if it claims the smallest
    assert claimed.mean() <= 0.05 + allowance(0.05, MANY)
    for draw in range(FEW):
        assert (min(holm(p[:, draw].tolist())) <= 0.05) == claimed[draw]


def test_beside_real_gaps_cells_without_one_are_claimed_in_at_most_5_percent_of_draws() -> None:
    draws = 20_000
    reference, *others = cells(5, [1.0] * 7, paired=True, draws=draws)
    others = [cell - (6.0 if position < 3 else 0.0) for position, cell in enumerate(others)]
    p = np.stack([p_values(contrast((reference, cell), (1, -1), paired=True)) for cell in others])
    wrong = sum(min(holm(p[:, draw].tolist())[3:]) <= 0.05 for draw in range(draws))
    assert 0.03 <= wrong / draws <= 0.05 + allowance(0.05, draws)


@pytest.mark.parametrize(
    ("n", "spread", "count", "low", "high"),
    [(3, 1, 19, 0.015, 0.025), (5, 1, 1, 0.04, 0.047), (3, 8, 1, 0.05, 0.065), (3, 12, 19, 0.10, 0.125)],
)
def test_welch_at_few_seeds_errs_as_often_as_the_notes_say(n: int, spread: float, count: int, low: float, high: float) -> None:
    reference, *others = cells(n, [1.0] + [spread] * count, paired=False, draws=20_000)
    p = np.stack([p_values(contrast((reference, cell), (1, -1), paired=False)) for cell in others])
    assert low <= (count * p.min(axis=0) <= 0.05).mean() <= high


@pytest.mark.parametrize("spreads", [(1, 1, 1), (10, 1, 1), (0.3, 1, 1), (1, 3, 1), (1, 1, 3)])
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "welch"])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_a_share_cover_it_in_93_to_97_percent_of_draws(n: int, paired: bool, spreads: tuple[float, float, float]) -> None:
    arm, baseline, reference = cells(n, [*spreads], paired=paired)
    share, gap = 0.3, 400.0
    arm, reference = arm + share * gap, reference + gap
    found = share_contrast(arm, baseline, reference, share, paired=paired)
    covered = np.abs(found.estimate) <= stdtrit(found.degrees, 0.975) * found.error
    assert 0.93 <= covered.mean() <= 0.97
    for draw in range(300):
        ratio = share_closed(sample(arm[draw]), sample(baseline[draw]), sample(reference[draw]), paired=paired)
        assert (ratio.low <= share <= ratio.high) == covered[draw]


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "welch"])
def test_intervals_of_a_share_of_a_small_gap_are_unbounded_rather_than_wrong(paired: bool) -> None:
    arm, baseline, reference = cells(5, [1.0, 1.0, 1.0], paired=paired, draws=1500)
    share, gap = 0.3, 2.0
    arm, reference = arm + share * gap, reference + gap
    bounded = wrong = 0
    for draw in range(1500):
        ratio = share_closed(sample(arm[draw]), sample(baseline[draw]), sample(reference[draw]), paired=paired)
        whole = difference(sample(reference[draw]), sample(baseline[draw]), paired=paired)
        assert (ratio.low is not None) == (whole.p_value < 0.05)
        bounded += ratio.low is not None
        wrong += ratio.low is not None and ratio.high is not None and not ratio.low <= share <= ratio.high
    assert 500 < bounded < 1400
    assert wrong / 1500 <= 0.05 + allowance(0.05, 1500)  # of all draws; unbounded sets of shares hold the true one more often yet
