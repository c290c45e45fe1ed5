from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from gapbench.analysis import arms_table
from gapbench.analysis.cells import Panel, Run, read_panels
from gapbench.analysis.examples import HeldOut, Pair, drawn_test_sets, error_over_examples
from gapbench.suite.runspec import Component, RunSpec
from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.splits import split
from tests.analysis.synthetic import row_of

Indices = npt.NDArray[np.int64]


def bootstrap_error(pairs: list[Pair], draws: int = 4000) -> float:
    """The slow way: draw as many examples of the pool with replacement, each with all its places in the test sets, and look again."""
    rng = np.random.default_rng(0)
    pool = np.unique(np.concatenate([pair.examples for pair in pairs]))
    places = [np.searchsorted(pool, pair.examples) for pair in pairs]
    gaps = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, len(pool), len(pool)), minlength=len(pool))
        gaps.append(np.mean([np.average(pair.better, weights=times[own]) for pair, own in zip(pairs, places, strict=True)]))
    return float(np.std(gaps))


def networks(rng: np.random.Generator, count: int, size: int, gap: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which of `size` examples `count` pairs of networks get right; what is hard for one is mostly hard for the others."""
    hard = rng.normal(0, 1, size)
    ours, theirs = (hard + 0.7 * rng.normal(0, 1, (count, size)) for _ in range(2))
    return ours < 1.6, theirs < 1.6 - gap


def test_error_at_one_test_set_is_the_bootstraps_over_its_examples() -> None:
    ours, theirs = networks(np.random.default_rng(1), 5, 800, 0.2)
    pairs = [Pair(np.arange(800), ours.mean(axis=0) - theirs.mean(axis=0))]
    error, examples = error_over_examples(pairs)
    assert examples == 800
    assert error == pytest.approx(pairs[0].better.std(ddof=1) / np.sqrt(800))
    assert error == pytest.approx(bootstrap_error(pairs), rel=0.04)


def test_error_over_splits_is_the_bootstraps_over_the_pool_that_they_share() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = networks(rng, 8, 600, 0.25)
    sets = [np.sort(rng.permutation(600)[:300]) for _ in range(8)]
    pairs = [Pair(own, (ours[s, own].astype(float) - theirs[s, own])) for s, own in enumerate(sets)]
    error, examples = error_over_examples(pairs)
    assert examples == len(np.unique(np.concatenate(sets)))
    assert error == pytest.approx(bootstrap_error(pairs), rel=0.04)
    # Neither of the shortcuts is right: pairs as independent, or all pairs as one.
    apart = [pair.better.std(ddof=1) / np.sqrt(300) for pair in pairs]
    assert np.sqrt(np.sum(np.square(apart))) / 8 < 0.95 * error
    assert np.mean(apart) > 1.5 * error


@pytest.mark.parametrize("splits", [1, 8])
def test_intervals_over_examples_cover_the_gap_that_these_networks_have_in_the_population(splits: int) -> None:
    rng = np.random.default_rng(3)
    ours, theirs = networks(rng, 8, 40_000, 0.2)
    gap = float(np.mean(ours.mean(axis=1) - theirs.mean(axis=1)))
    covered, draws = 0, 1000
    for _ in range(draws):  # another pool of 600 examples, and from it each split's 300 (or one test set of 300 for all)
        pool = rng.integers(0, 40_000, 600)
        sets = [rng.permutation(600)[:300] for _ in range(splits)]
        if splits == 1:
            pairs = [Pair(sets[0], ours[:, pool[sets[0]]].mean(axis=0) - theirs[:, pool[sets[0]]].mean(axis=0))]
        else:
            pairs = [Pair(own, ours[s, pool[own]].astype(float) - theirs[s, pool[own]]) for s, own in enumerate(sets)]
        error, _ = error_over_examples(pairs)
        covered += abs(np.mean([pair.better.mean() for pair in pairs]) - gap) <= 1.965 * error
    assert covered / draws == pytest.approx(0.95, abs=0.021)  # three standard errors of a proportion over 1,000 draws


@pytest.mark.parametrize("test_size", [0, 200])
@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_bits_stand_for_the_examples_that_the_split_gives(
    name: str, test_size: int, synthetic: ModuleType, spec: Callable[..., RunSpec]
) -> None:
    sizes = {"digits": (1797, None), "mnist": (70_000, 60_000)}
    total, official = sizes[name]
    pool = Pool(np.zeros((total, 1, 1, 1), np.uint8), np.zeros(total, np.int64), 10, 255.0, official)
    count = test_size or {"digits": 897, "mnist": 10_000}[name]
    bits = np.packbits(np.ones(count, dtype=bool)).tobytes()
    rows = [
        synthetic.run_row("SB", seed, dataset=name, dataset_options=f'{{"test_size":{test_size}}}', test_accuracy=1.0, test_correct=bits)
        for seed in (0, 1, 5)
    ]
    (panel,) = read_panels(synthetic.tables(rows, [])[0])
    found = drawn_test_sets(panel, panel.cells[0].ok_runs)
    assert isinstance(found, HeldOut)
    assert found.size == count
    made = {seed: split(pool, _spec(spec, name, test_size, seed)).test for seed in (0, 1, 5)}
    for seed in made:  # the same example has the same number, whatever it is counted from
        for other in made:
            ours, theirs = (np.isin(sets[seed], sets[other]) for sets in (found.examples, made))
            assert np.array_equal(ours, theirs)


def _spec(spec: Callable[..., RunSpec], name: str, test_size: int, seed: int) -> RunSpec:
    options = {"train_size": 0, "test_size": test_size}
    return spec(dataset=Component(name=name, options=options), split_seed=seed)


def test_the_table_holds_the_interval_over_examples_beside_the_one_over_seeds(synthetic: ModuleType) -> None:
    runs, curves = synthetic.grid_suite(3, (128, 4096))
    table = arms_table(runs, curves)
    row = row_of(table, "B 4096, baseline")
    bits = {
        cell: np.mean([np.unpackbits(np.frombuffer(one, np.uint8))[:10_000] for one in own["test_correct"]], axis=0)
        for cell, own in runs.groupby("cell")
    }
    better = 100 * (bits["B 128, baseline"] - bits["B 4096, baseline"])
    found, gap = row.batch_gap_examples, row.batch_gap
    assert found.examples == 10_000
    assert found.error == pytest.approx(better.std(ddof=1) / 100)
    assert (found.low + found.high) / 2 == pytest.approx(gap.estimate)
    frame = table.frame().set_index("cell")
    assert frame.loc["B 4096, baseline", "batch_gap_pp_examples_low"] == found.low
    assert frame.loc["B 4096, baseline", "batch_gap_examples"] == 10_000
    assert table.cells(row)[table.columns.index("other test set, pp")] == f"{found.low:.2f} to {found.high:.2f}"
    (note,) = (note for note in table.notes if note.startswith("Two intervals of the batch gap"))
    assert "Batch gap: what other seeds would give on this test set. Other test set: what these same networks would give" in note


def test_results_without_bits_have_a_table_and_a_note(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"])
    for older in (runs.drop(columns="test_correct"), runs.assign(test_correct=None)):
        table = arms_table(older, curves)
        assert "other test set, pp" not in table.columns
        assert "No interval over test examples for LB: it is not recorded which test examples were right." in table.notes
        assert row_of(table, "LB").batch_gap == row_of(arms_table(runs, curves), "LB").batch_gap


def test_bits_of_another_test_set_give_no_interval(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"])
    runs["test_correct"] = b"\xff"
    assert "No interval over test examples for LB: the recorded bits are not those of its test set." in arms_table(runs, curves).notes


def test_no_table_column_holds_an_interval_from_one_seed(synthetic: ModuleType) -> None:
    frame = arms_table(*synthetic.digits_suite(1)).frame()
    assert set(frame["batch_gap_examples_reason"].dropna()) == {"one seed"}
    bounds = [name for name in frame.columns if name.endswith(("_low", "_high", "_error", "_percent", "_1_pp", "_p", "_holm"))]
    assert len(bounds) > 20
    assert frame[bounds].isna().all(axis=None)


def own_data(synthetic: ModuleType, dataset: str, size: int, **fields: object) -> tuple[Panel, list[Run]]:
    """Runs on a user's data, whose size no catalog knows."""
    rows = []
    for seed in range(3):
        right = np.arange(size) > 3 * seed + 4
        bits = np.packbits(right).tobytes()
        rows.append(synthetic.run_row("SB", seed, dataset=dataset, test_accuracy=float(right.mean()), test_correct=bits, **fields))
    (panel,) = read_panels(synthetic.tables(rows, [])[0])
    return panel, [*panel.cells[0].ok_runs]


@pytest.mark.parametrize("size", [57, 60, 64, 1001])
def test_the_size_of_an_own_test_set_follows_from_bits_and_accuracies(synthetic: ModuleType, size: int) -> None:
    found = drawn_test_sets(*own_data(synthetic, "npz", size))
    assert isinstance(found, HeldOut)
    assert found.size == size
    assert all(np.array_equal(one, np.arange(size)) for one in found.examples.values())


def test_splits_of_a_pool_that_is_not_known_are_not_guessed(synthetic: ModuleType) -> None:
    reason = drawn_test_sets(*own_data(synthetic, "somebody's", 60))
    assert isinstance(reason, str)
    assert "the pool that somebody's is split from is not known here" in reason
    assert isinstance(drawn_test_sets(*own_data(synthetic, "somebody's", 60, split_seed=4, split_drawn=False)), HeldOut)


def test_runs_on_one_drawn_split_count_as_one(synthetic: ModuleType) -> None:
    runs, curves = synthetic.digits_suite(4, only=["SB", "LB"])
    twice = pd.concat([runs, runs.assign(seed=runs["seed"] + 10, run_id=runs["run_id"] + "-again")])
    once, again = (row_of(arms_table(table, curves), "LB") for table in (runs, twice))
    assert once.batch_gap_examples == again.batch_gap_examples
    assert once.batch_gap == again.batch_gap
