"""The search against simulated score functions: where it goes, when it stops, and that no cell is searched harder than another."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapbench.tuning.search import (
    NOT_ELIGIBLE,
    Point,
    Range,
    Rules,
    Score,
    Search,
    Stage,
    around,
    best_of,
    ends_of,
    ranked,
    rate_of,
    replay,
)

RULES = Rules(trials=5, extend_by=2, extend_at_most=6)
Landscape = Callable[[Point], Score]


def peak(at: float, *, diverges_from: float = float("inf"), noise: float = 0.0, seed: int = 0) -> Landscape:
    """Accuracy falls by 1 pp with each step away from the peak; from some rate on every run diverges."""

    def score(point: Point) -> Score:
        if point.power >= diverges_from:
            return NOT_ELIGIBLE
        luck = noise * random.Random(f"{seed} {point}").gauss(0.0, 1.0)
        return Score(0.9 - 0.01 * abs(point.power - at) + luck, abs(point.power - at))

    return score


def train(landscapes: Mapping[str, Landscape], rules: Rules = RULES, centres: Mapping[str, int] | None = None) -> tuple[Search, list[str]]:
    """Plays a whole search, one point at a time, replayed from scratch each time; returns it and the names of its rounds."""
    known: dict[tuple[str, Point, Stage], Score] = {}

    def score(cell: str, point: Point, stage: Stage) -> Score | None:
        return known.get((cell, point, stage))

    centres = centres or dict.fromkeys(landscapes, 0)
    for _ in range(10_000):
        search = replay(centres, rules, score)
        if search.complete:
            return search, [tried.name for tried in search.rounds]
        tried = search.rounds[-1]
        missing = [(cell, point) for cell, points in tried.points.items() for point in points if (cell, point, tried.stage) not in known]
        cell, point = missing[0]
        known[cell, point, tried.stage] = landscapes[cell](point)
    raise AssertionError("the search does not end")


@pytest.mark.parametrize(
    ("at", "reached", "extensions"),
    [(1, Range(-2, 2), 0), (2, Range(-2, 4), 1), (-2, Range(-4, 2), 1), (4, Range(-2, 6), 2), (6, Range(-2, 8), 3), (50, Range(-2, 8), 3)],
)
def test_the_range_is_extended_until_the_optimum_is_interior_or_it_may_not_grow(at: int, reached: Range, extensions: int) -> None:
    search, rounds = train({"SB": peak(at)})
    assert search.ranges["SB"] == reached
    assert rounds == ["grid", *(f"extension {number}" for number in range(1, extensions + 1)), "check"]
    best = search.rounds[-1].points["SB"][0].power
    assert (best, reached.holds_inside(best)) == ((at, True) if at < 50 else (8, False))


def test_every_cell_is_extended_by_the_same_count_where_one_needs_it() -> None:
    search, _ = train({"SB": peak(-1), "LB": peak(3), "LB+GBN": peak(1)}, centres={"SB": 0, "LB": 0, "LB+GBN": 0})
    assert {own.size for own in search.ranges.values()} == {7}
    assert search.ranges["SB"] == Range(-4, 2)  # on the side where its own optimum lies
    assert search.ranges["LB+GBN"] == Range(-2, 4)


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(0, 8), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_no_cell_ever_has_more_trials_than_another(peaks: list[int], most: int, by: int, others: int, seed: int) -> None:
    rules = Rules(trials=4, extend_by=by, extend_at_most=most, others=others)
    landscapes = {f"cell {number}": peak(at, noise=0.02, diverges_from=at + 2 + seed, seed=seed) for number, at in enumerate(peaks)}
    search, _ = train(landscapes, rules)
    for tried in search.rounds[:-1]:
        assert len({len(points) for points in tried.points.values()}) == 1
        assert len({point for points in tried.points.values() for point in points}) > 0
    assert len({own.size for own in search.ranges.values()}) == 1
    assert all(own.size <= 4 + most for own in search.ranges.values())


def test_a_rate_at_which_a_run_diverged_is_never_best_and_makes_what_lies_below_it_interior() -> None:
    search, rounds = train({"LB": peak(9, diverges_from=2)})
    assert rounds == ["grid", "check"]
    assert search.rounds[-1].points["LB"] == (Point(1), Point(0), Point(-1))
    assert search.ranges["LB"].holds_inside(1)


def test_where_every_rate_diverges_the_range_goes_down_until_one_does_not() -> None:
    search, _ = train({"LB": peak(-5, diverges_from=-3)})
    assert search.ranges["LB"] == Range(-6, 2)
    assert search.rounds[-1].points["LB"][0] == Point(-5)


def test_a_cell_that_diverges_everywhere_ends_the_search_without_a_finalist() -> None:
    search, rounds = train({"LB": peak(0, diverges_from=-99)})
    assert rounds[-1] == "extension 3"
    assert search.complete
    both, rounds = train({"LB": peak(0, diverges_from=-99), "SB": peak(0)})
    assert both.rounds[-1].points == {"LB": (), "SB": (Point(0), Point(-1), Point(1))}


def test_equal_accuracies_are_told_apart_by_loss_and_then_by_the_lower_rate() -> None:
    scores = {Point(0): Score(0.9, 0.3), Point(1): Score(0.9, 0.2), Point(2): Score(0.9, 0.2), Point(3): Score(0.8, 0.1)}
    assert ranked(list(scores), scores.get) == [Point(1), Point(2), Point(0), Point(3)]


def test_all_combinations_are_tried_at_every_rate_and_the_best_three_points_of_all_are_checked() -> None:
    def score(point: Point) -> Score:
        return Score(0.9 - 0.01 * abs(point.power - 1) - (0.0 if point.other == 1 else 0.05))

    search, _ = train({"SB": score}, Rules(trials=5, extend_by=2, extend_at_most=6, others=3))
    assert len(search.rounds[0].points["SB"]) == 15
    assert [point.other for point in search.rounds[-1].points["SB"]] == [1] * 3


def test_where_the_rate_is_not_searched_one_round_and_the_check_suffice() -> None:
    search, rounds = train({"SB": peak(0)}, Rules(trials=1, extend_by=1, extend_at_most=0, others=4))
    assert rounds == ["grid", "check"]
    assert len(search.rounds[0].points["SB"]) == 4


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_decisions_follow_from_outcomes_alone_however_often_the_search_is_begun_anew(seed: int) -> None:
    landscapes = {"SB": peak(-3, noise=0.02, seed=seed), "LB": peak(4, noise=0.02, diverges_from=6, seed=seed + 1)}
    stepwise, _ = train(landscapes)
    whole = replay(dict.fromkeys(landscapes, 0), RULES, lambda cell, point, stage: landscapes[cell](point))
    assert stepwise == whole


def test_a_missing_score_of_any_cell_holds_the_decision_back() -> None:
    landscape = peak(0)
    search = replay({"SB": 0, "LB": 0}, RULES, lambda cell, point, stage: None if (cell, point.power) == ("LB", 2) else landscape(point))
    assert not search.complete
    assert [tried.name for tried in search.rounds] == ["grid"]


def test_under_noise_the_check_on_fresh_seeds_finds_a_rate_near_the_optimum() -> None:
    found = []
    for seed in range(200):
        trial, check = peak(1, noise=0.005, seed=seed), peak(1, noise=0.002, seed=seed + 1000)
        search = replay({"SB": 0}, RULES, lambda cell, point, stage, t=trial, c=check: (t if stage == "trial" else c)(point))
        found.append(ranked(search.rounds[-1].points["SB"], check)[0].power)
    assert sum(abs(power - 1) <= 1 for power in found) > 190


def test_the_rates_that_are_like_the_best_one_have_no_gap() -> None:
    alike = {-4: True, -2: False, 0: True, 1: True, 2: True, 4: True, 6: False}
    assert around(1, [-4, -2, 0, 1, 2, 4, 6], alike.__getitem__) == (0, 4)
    assert around(-2, [-4, -2, 0], lambda _: False) == (-2, -2)
    assert around(0, [-1, 0, 1], lambda _: True) == (-1, 1)


HALVES = Rules(trials=5, extend_by=2, extend_at_most=6, stride=2, finalists=5)


@pytest.mark.parametrize(("at", "refined"), [(0, (-1, 1)), (2, (1, 3)), (1, (-1, 1)), (14, (13, 15)), (99, (15, 17))])
def test_the_rates_half_a_step_beside_the_best_one_are_tried_before_the_check(at: int, refined: tuple[int, int]) -> None:
    search, rounds = train({"LB": peak(at)}, HALVES)
    assert rounds[-2:] == ["refinement", "check"]
    assert tuple(point.power for point in search.rounds[-2].points["LB"]) == refined
    assert [point.power for point in search.tried("LB") if point.power % 2] == list(refined)
    best = min(search.tried("LB"), key=lambda point: (abs(point.power - at), point.power))
    assert search.rounds[-1].points["LB"][0] == best
    assert len(search.rounds[-1].points["LB"]) == 5


def test_a_cell_that_diverges_everywhere_is_not_refined_and_holds_no_other_back() -> None:
    search, rounds = train({"LB": peak(0, diverges_from=-99), "SB": peak(0)}, HALVES)
    assert rounds[-2:] == ["refinement", "check"]
    assert search.rounds[-2].points == {"LB": (), "SB": (Point(-1), Point(1))}


def test_rates_are_written_with_four_digits() -> None:
    assert [rate_of(0.1, 2.0, power) for power in (-2, 0, 5)] == [0.025, 0.1, 3.2]
    assert rate_of(0.1, 1.4142, 1) == 0.1414


ENDS = Rules(trials=5, extend_by=2, extend_at_most=6, stride=2, finalists=3, ends=True)


def test_the_ends_of_what_cannot_be_told_apart_are_tried_on_fresh_seeds_until_both_are() -> None:
    """On the search's seed rates up to 3 steps away are alike, on fresh seeds those up to half a step away."""
    known: dict[tuple[Point, Stage], Score] = {}

    def score(_: str, point: Point, stage: Stage) -> Score | None:
        return known.get((point, stage))

    def alike(_: str, point: Point, best: Point, stage: Stage) -> bool:
        return abs(point.power - best.power) <= (6 if stage == "trial" else 1)

    rounds = []
    while not (search := replay({"SB": 0}, ENDS, score, alike)).complete:
        rounds.append((search.rounds[-1].name, [point.power for point in search.rounds[-1].points["SB"]]))
        known |= {(point, search.rounds[-1].stage): peak(0)(point) for point in search.rounds[-1].points["SB"]}
    assert rounds == [
        ("grid", [-4, -2, 0, 2, 4]), ("refinement", [-1, 1]), ("check", [0, -1, 1]), ("ends 1", [-4, 4]), ("ends 2", [-2, 2])
    ]  # fmt: skip
    best = best_of(search, "SB", score)
    assert best == Point(0)
    assert ends_of(search, "SB", best, score, alike) == (Point(-1), Point(1))
    # The decisions of a round do not change with what later rounds found.
    assert [tried.name for tried in search.rounds] == [name for name, _ in rounds]


def test_a_rate_that_is_better_on_fresh_seeds_than_the_finalists_is_the_best_one() -> None:
    def score(_: str, point: Point, stage: Stage) -> Score:
        return (peak(0) if stage == "trial" else peak(4))(point)

    search = replay({"SB": 0}, ENDS, score, lambda _cell, point, best, stage: stage == "trial" or abs(point.power - best.power) <= 1)
    assert best_of(search, "SB", score) == Point(4)
    assert [tried.name for tried in search.rounds][-1].startswith("ends")
