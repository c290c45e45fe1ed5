"""The notebook's view: the same as the command line, as objects."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from gapbench import api
from gapbench.api.running import smoke_suite
from gapbench.core.errors import DataError, StoreError
from gapbench.core.events import Outcome
from gapbench.execution.notices import JobStarted
from gapbench.store import read_plan
from gapbench.suite import load_suite

pytestmark = pytest.mark.usefixtures("fake_worker", "no_figures")

GHOST = '[[arm]]\nlabel = "LB+GBN"\nbatch_size = 512\nghost_batch_size = 16\n'


@pytest.fixture
def suite(suite: Path) -> Path:
    suite.write_text(suite.read_text() + GHOST)
    return suite


def change(suite: Path, old: str, new: str) -> None:
    suite.write_text(suite.read_text().replace(old, new))


def test_run_returns_outcomes_and_files_and_results_can_be_loaded(suite):
    notices = []
    done = api.run(suite, observe=notices.append)
    assert set(done.outcomes.values()) == {Outcome.OK}
    assert (done.exit_status, done.interrupted) == (0, False)
    assert [row.cell.name for row in done.files.arms.rows] == ["SB", "LB", "LB+GBN"]
    assert any(isinstance(notice, JobStarted) for notice in notices)
    tables = api.load_results(done.results)
    assert len(tables.runs) == 6
    assert set(tables.curves.run_id) == set(done.outcomes)


def test_equal_runs_under_two_labels_train_once(suite):
    change(suite, GHOST, GHOST + '[[arm]]\nlabel = "the same"\nbatch_size = 512\n')
    done = api.run(suite)
    assert len(done.outcomes) == 6
    assert len(api.load_results(done.results).runs) == 8


def test_what_is_no_longer_asked_for_leaves_the_tables_and_comes_back(suite):
    api.run(suite)
    change(suite, "seed = [0, 1]", "seed = [0]")
    assert len(api.load_results(api.run(suite).results).runs) == 3
    change(suite, "seed = [0]", "seed = [0, 1]")
    again = []
    api.run(suite, observe=again.append)
    assert not any(isinstance(notice, JobStarted) for notice in again)


def test_the_data_are_checked_before_anything_is_written(suite, monkeypatch):
    def missing(*_):
        raise DataError("digits: gone")

    monkeypatch.setattr("gapbench.workloads.datasets.check_available", missing)
    with pytest.raises(DataError, match="gone"):
        api.run(suite)
    assert not Path("results").exists()


def test_a_plan_says_what_runs_take_and_how_many_are_done(suite):
    plan = api.plan(suite, devices="cpu", slots=2)
    assert [(cell.cell, cell.runs, cell.done) for cell in plan.cells] == [("SB", 2, 0), ("LB", 2, 0), ("LB+GBN", 2, 0)]
    assert (plan.runs, plan.done, plan.slots, plan.unknown) == (6, 0, 2, 0)
    cells = sum(cell.seconds for cell in plan.cells)
    assert cells < plan.device_seconds < cells + 10.0  # and what the first jobs of a worker and of a program take longer
    assert plan.wall_seconds > plan.device_seconds / 2  # and what it takes until workers train
    api.run(suite, only="arm=LB")
    after = api.plan(suite, devices="cpu", slots=2)
    assert after.done == 2
    assert [cell.done for cell in after.cells] == [0, 2, 0]


def test_planning_a_selection_keeps_the_slots_of_the_whole(suite):
    whole, part = api.plan(suite, devices="cpu"), api.plan(suite, devices="cpu", only="arm=LB,seed=0")
    assert part.runs == 1
    assert (part.slots, part.threads) == (whole.slots, whole.threads)


def test_the_newest_results_are_found_without_a_name(suite, tmp_path):
    with pytest.raises(StoreError, match="gapbench run"):
        api.find()
    api.run(suite)
    change(suite, 'name = "small"', 'name = "other"')
    api.run(suite, only="arm=LB")
    assert api.find().name == "other"
    assert api.find("small") == Path("results/small")


def test_smoke_runs_every_program_once_with_three_updates(suite):
    small, notes = smoke_suite(load_suite(suite), "cpu")
    assert small.name == "small.smoke"
    assert [run.labels.cell for run in small.runs] == ["SB", "LB", "LB+GBN"]
    assert {run.spec.updates for run in small.runs} == {3}
    assert {run.labels.suite for run in small.runs} == {"small.smoke"}
    assert len({run.run_id for run in small.runs}) == 3
    assert "3 of 6 runs" in notes[0]


def test_smoke_trains_every_size_of_a_growing_batch():
    small, notes = smoke_suite(load_suite("batch-ramp"), "cpu", fits=lambda *_: False)
    updates = {run.labels.cell: (run.spec.updates, run.spec.batches.sizes) for run in small.runs}
    # Batches 8 and 32 in full, in their proportion, however far they were divided
    assert {sizes[-1] // sizes[0] for _, sizes in updates.values()} == {1, 4}
    assert all(count < 60 for count, _ in updates.values())
    assert all(min(sizes) >= 2 for _, sizes in updates.values())
    assert "3 updates each, more where the batch grows" in notes[0]


def test_smoke_divides_batch_and_ghost_by_the_same_power_of_two_and_says_so(suite):
    small, notes = smoke_suite(load_suite(suite), "cpu", fits=lambda spec, _kind: spec.batch_size <= 128)
    sizes = {run.labels.cell: (run.spec.batch_size, run.spec.ghost_batch_size) for run in small.runs}
    assert sizes == {"SB": (16, None), "LB": (128, None), "LB+GBN": (128, 4)}
    assert "LB+GBN: batch 512 -> 128, ghost 16 -> 4, so that an update fits" in notes


def test_smoke_never_makes_groups_that_batch_norm_cannot_use(suite):
    small, _ = smoke_suite(load_suite(suite), "cpu", fits=lambda *_: False)
    assert min(run.spec.ghost_batch_size or run.spec.batch_size for run in small.runs) == 2


def test_a_finished_run_keeps_the_prediction_that_was_made_before_it_trained(suite):
    done = api.run(suite, only="arm=SB")
    first = read_plan(done.results / "plan.parquet").predictions
    assert len(first) == 6  # of the whole suite, also what was not selected
    assert all(prediction.seconds > 0 and prediction.basis in ("measured", "calibrated", "rough") for prediction in first.values())
    api.run(suite)
    second = read_plan(done.results / "plan.parquet").predictions
    assert len(second) == 6
    # What trained in between has taught the second prediction; the first is still what was said before.
    assert all(second[run_id] == first[run_id] for run_id in done.outcomes)


def test_a_damaged_plan_is_written_anew_by_the_next_run(suite):
    done = api.run(suite, only="arm=SB,seed=0")
    (done.results / "plan.parquet").write_bytes(b"PAR1")
    again = api.run(suite, only="arm=SB,seed=0")
    assert again.exit_status == 0
    assert len(read_plan(done.results / "plan.parquet").runs) == 6


def test_a_bundle_brings_the_page_and_makes_it_again(suite, tmp_path):
    api.run(suite)
    api.export("results/small", tmp_path / "away" / "small.zip")
    assert "small/report.html" in zipfile.ZipFile(tmp_path / "away" / "small.zip").namelist()
    page = api.report(tmp_path / "away" / "small.zip").page
    assert page == tmp_path / "away" / "small" / "report.html"
    assert "No prediction was kept" not in page.read_text(encoding="utf-8")


def test_a_place_serves_every_function_and_keywords_change_it_for_one_call(suite, tmp_path):
    lab = api.Place(results=tmp_path / "lab", devices="cpu", slots=1)
    done = api.run(suite, lab, only="arm=SB")
    assert done.results == tmp_path / "lab" / "small"
    assert api.plan(suite, lab).done == 2
    assert api.plan(suite, lab, results="elsewhere").done == 0
    assert (api.plan(suite, lab).slots, api.plan(suite, lab, slots=2).slots) == (1, 2)
    with pytest.raises(TypeError, match="device"):
        api.plan(suite, device="cpu")
