"""Suites whose batches differ within a run: what they plan, and what they are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gapbench.suite import RunSpec, Suite, load_suite, run_id
from gapbench.suite.runspec import Phase

Load = Callable[..., Suite]
Mistakes = Callable[..., list[str]]
RUN = '[run]\nrecipe = "digits"\nreference_batch_size = 8\n'
QUARTERS = "phases = [{}, {start = 0.4, learning_rate_factor = 0.25}, {start = 0.6, learning_rate_factor = 0.0625}]\n"


def only(suite: Suite) -> RunSpec:
    (run,) = suite.runs
    return run.spec


def rates(spec: RunSpec) -> list[tuple[float, float, float]]:
    return [(phase.start, phase.learning_rate_factor, phase.batch_size_factor) for phase in spec.phases]


def test_a_ramp_grows_the_batch_by_the_inverse_of_each_drop_up_to_a_tenth_of_the_data(load: Load) -> None:
    small = only(load(f'{RUN}batch_size = 5\nregime = "batch-ramp"\n{QUARTERS}'))  # 5, 20, 80 of 900
    assert rates(small) == [(0.0, 1.0, 1.0), (0.4, 1.0, 4.0), (0.6, 1.0, 16.0)]
    large = only(load(f'{RUN}batch_size = 8\nregime = "batch-ramp"\n{QUARTERS}'))  # 8, 32, and 128 would be too many
    assert rates(large) == [(0.0, 1.0, 1.0), (0.4, 1.0, 4.0), (0.6, 0.25, 4.0)]
    assert (large.updates, large.unramped_updates, large.examples) == (1350 + 1 + 168 + 337 + 1, 3375, 27_000)


def test_a_ramp_has_exactly_the_examples_of_the_decayed_rate(load: Load) -> None:
    suite = load(f'{RUN}batch_size = 8\n{QUARTERS}[grid]\nregime = ["baseline", "batch-ramp"]\nepochs = [1.3, 30]\n')
    by_epochs: dict[int, set[int]] = {}
    for run in suite.runs:
        by_epochs.setdefault(run.spec.reference_updates, set()).add(run.spec.examples)
    assert all(len(examples) == 1 for examples in by_epochs.values())
    assert len(by_epochs) == 2


def test_once_the_rate_drops_it_goes_on_dropping_and_a_rise_stays_a_rise(load: Load) -> None:
    phases = (
        "phases = [{learning_rate_factor = 0.1}, {start = 0.2}, {start = 0.4, learning_rate_factor = 0.5}, "
        "{start = 0.6, learning_rate_factor = 0.01}, {start = 0.8, learning_rate_factor = 0.005}]\n"
    )
    spec = only(load(f'{RUN}batch_size = 8\nregime = "batch-ramp"\n{phases}'))
    assert rates(spec) == [(0.0, 0.1, 1.0), (0.2, 1.0, 1.0), (0.4, 1.0, 2.0), (0.6, 0.02, 2.0), (0.8, 0.01, 2.0)]


def test_a_ramp_that_grows_nothing_is_the_baseline_and_says_so(load: Load) -> None:
    suite = load(f'{RUN}batch_size = 64\n{QUARTERS}[grid]\nregime = ["baseline", "batch-ramp"]\n')
    assert len({run.run_id for run in suite.runs}) == 1
    assert any("batch-ramp makes no batch larger: a tenth of the training set is 90 examples" in warning for warning in suite.warnings)


def test_a_regime_of_ones_own_may_grow_the_batch_and_scale_the_rate(load: Load) -> None:
    suite = load(
        f'{RUN}batch_size = 16\nregime = "mine"\n{QUARTERS}[regimes.mine]\nlearning_rate_scaling = "sqrt"\ndrops = "batch"\n'
        'budget = { kind = "examples", factor = 0.5 }\n'
    )
    spec = only(suite)
    assert spec.learning_rate == pytest.approx(0.1 * 2**0.5)
    assert spec.batches.sizes[-1] == 64
    assert spec.examples == 13_488  # half of 3,375 updates of 8, in updates of 16


def test_growing_batches_change_the_id_and_neutral_factors_do_not(spec: Callable[..., RunSpec]) -> None:
    plain = spec()
    assert run_id(plain) == run_id(spec(phases=(Phase(batch_size_factor=1.0), Phase(start=0.5, learning_rate_factor=0.1))))
    growing = spec(phases=(Phase(), Phase(start=0.5, batch_size_factor=3.0)), unramped_updates=30, updates=20)
    assert run_id(growing) != run_id(spec(updates=20, phases=(Phase(), Phase(start=0.5))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f'batch_size = 8\nregime = "batch-ramp"\n{QUARTERS}[[override]]\nwhere = {{ batch_size = 8 }}\nset = {{ updates = 10 }}',
            "the updates of a run whose batch grows follow from its phases; set epochs",
        ),
        (
            'batch_size = 8\nregime = "batch-ramp"\nphases = [{}, {start = 0.5, learning_rate_factor = 0.3}]',
            "from start = 0.5 on, 3.33333 times the batch size 8 is 26.6667, which is no whole number of examples; "
            "choose another batch size or other factors of the rate",
        ),
        (
            "batch_size = 8\nphases = [{}, {start = 0.5, batch_size_factor = 200}]",
            "the batch of 1600 from start = 0.5 on is larger than the training set (900 examples); choose a smaller factor",
        ),
        (
            'batch_size = 8\nregime = "batch-ramp"\nphases = [{}, {start = 0.5, batch_size_factor = 2}]',
            "phases with batch_size_factor and the regime batch-ramp both change the batch size; choose one of them",
        ),
        (
            'batch_size = 8\ntail = "drop"\nphases = [{}, {start = 0.5, batch_size_factor = 2}]',
            'a batch that grows goes on from epoch to epoch, so tail = "drop" is not for it; choose "stream"',
        ),
        (
            'batch_size = 8\nbudget = { kind = "updates" }\nphases = [{}, {start = 0.5, batch_size_factor = 2}]',
            'a run whose batch grows makes fewer updates than another of its examples; choose a budget of kind "epochs" or "examples"',
        ),
        (
            "batch_size = 8\nghost_batch_size = 8\nphases = [{}, {start = 0.5, batch_size_factor = 1.5}]",
            'the ghost batch size 8 does not divide the batch size 12; choose a divisor, "off", or drop the run by [[exclude]]',
        ),
        (
            'batch_size = 31\ntail = "ragged"',
            "the last batch of an epoch has one of 900 examples, and batch norm needs two or more; "
            'choose another batch size, or tail = "stream"',
        ),
        (
            'batch_size = 100\nghost_batch_size = 50\ntail = "ragged"\ndataset = { train_size = 803 }',
            "the last batch of an epoch has 3 examples, which the released code cuts into 2 groups of 2, the last of 1: "
            'batch norm needs two or more; choose another batch or ghost batch size, or tail = "stream"',
        ),
    ],
    ids=["updates", "not whole", "too large", "twice", "tail", "budget", "ghost", "rest of one", "group of one"],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(mistakes: Mistakes, text: str, expected: str) -> None:
    (found,) = mistakes(f"{RUN}{text}\n")
    assert found.endswith(f": {expected}")


def test_a_ghost_batch_of_the_first_batch_size_stays_when_the_batch_grows(load: Load) -> None:
    suite = load(
        f'{RUN}batch_size = 8\nregime = "batch-ramp"\n{QUARTERS}[grid]\nghost_batch_size = ["off", 8]\nseed = [0]\n'
        "[[override]]\nwhere = { ghost_batch_size = 8 }\nset = { clip_norm = 1.0 }\n"
    )
    assert [(run.spec.ghost_batch_size, run.spec.clip_norm) for run in suite.runs] == [(None, 5.0), (8, 1.0)]


def test_ragged_epochs_count_as_in_the_released_code(load: Load) -> None:
    suite = load(f'{RUN}tail = "ragged"\n[grid]\nbatch_size = [8, 64]\nregime = ["baseline", "adapted"]\n')
    updates = {(run.spec.batch_size, run.labels.regime): run.spec.updates for run in suite.runs}
    assert updates == {(8, "baseline"): 30 * 113, (64, "baseline"): 30 * 15, (8, "adapted"): 30 * 113, (64, "adapted"): 30 * 113}
    seen = {(run.spec.batch_size, run.labels.regime): run.spec.examples for run in suite.runs}
    assert seen[8, "baseline"] == seen[64, "baseline"] == 27_000
    assert seen[64, "adapted"] == 30 * 113 // 15 * 900


def test_a_ragged_tail_and_a_stream_are_the_same_examples_but_not_the_same_run(load: Load) -> None:
    suite = load(f'{RUN}batch_size = 64\nepochs = 4\n[grid]\ntail = ["stream", "drop", "ragged"]\n')
    assert len({run.run_id for run in suite.runs}) == 3
    assert [run.spec.examples for run in suite.runs] == [56 * 64, 56 * 64, 3600]


def test_the_shipped_ramp_is_held_against_the_decayed_rate_at_equal_examples() -> None:
    runs = {run.labels.cell: run for run in load_suite("batch-ramp", only="seed=0").runs}
    assert {run.spec.examples for run in runs.values()} == {27_000}
    assert [run.spec.updates for run in runs.values()] == [3375, 1857, 1857, 3375]
    assert [cell for cell, run in runs.items() if run.labels.reference_cell] == ["decayed rate"]
    assert [run.spec.ghost_batch_size for run in runs.values()] == [None, None, 8, None]
