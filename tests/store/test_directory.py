"""A results directory belongs to one suite and to one process at a time, and newer schemas are refused in words."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store import CheckpointHeader, ResultsDirectory, find_leftovers, find_results, remove, write_checkpoint
from gapbench.store.schema import SCHEMA_VERSION, Migration, migrate, read_schema


def create(path, suite="small"):
    with ResultsDirectory.create(path, suite):
        pass


def test_a_directory_knows_its_suite_and_schema(results):
    schema = read_schema(results.path)
    assert (schema["schema"], schema["suite"]) == (SCHEMA_VERSION, "small")
    assert ResultsDirectory.open_existing(results.path).suite == "small"


def test_a_directory_in_use_is_refused_by_name(results):
    with pytest.raises(StoreError, match=f"{results.path}: another gapbench"):
        create(results.path)
    assert results.in_use()


def test_a_lock_ends_with_its_holder(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from gapbench.store import ResultsDirectory\n"
        "ResultsDirectory.create(Path(sys.argv[1]), 'small').__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "small")], check=False)
    assert not ResultsDirectory.open_existing(tmp_path / "small").in_use()
    create(tmp_path / "small")


def test_another_suites_directory_is_refused(tmp_path):
    create(tmp_path / "small")
    with pytest.raises(StoreError, match='holds the results of suite "small", not of "other"'):
        create(tmp_path / "small", "other")


def test_somebody_elses_folder_is_left_alone(tmp_path):
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("precious")
    with pytest.raises(StoreError, match="is no results directory"):
        create(tmp_path)
    assert thesis.read_text() == "precious"
    assert not (tmp_path / "schema.json").exists()


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "small").write_text("a file")
    with pytest.raises(StoreError, match="small"):
        create(tmp_path / "small")
    with pytest.raises(StoreError, match="is a file"):
        ResultsDirectory.check(tmp_path / "small", "small")


def test_a_newer_schema_is_refused_in_words(tmp_path):
    create(tmp_path / "small")
    path = tmp_path / "small" / "schema.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA_VERSION + 1, "gapbench_version": "9.0"}))
    for use in (create, ResultsDirectory.open_existing, lambda folder: ResultsDirectory.check(folder, "small")):
        with pytest.raises(StoreError, match=r"newer gapbench \(gapbench 9\.0\).*Upgrade"):
            use(tmp_path / "small")


def test_a_missing_directory_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match="gapbench run"):
        ResultsDirectory.open_existing(tmp_path / "nothing")


def test_an_older_schema_is_migrated_step_by_step_where_there_is_a_way(tmp_path):
    create(tmp_path / "small")
    with pytest.raises(StoreError, match="too old"):
        migrate(tmp_path / "small", (), target=2)
    steps = [Migration(version, f"step {version}", lambda folder: (folder / "log").open("a").write("x")) for version in (2, 1)]
    assert migrate(tmp_path / "small", steps, target=3) == ["step 1", "step 2"]
    assert (tmp_path / "small" / "log").read_text() == "xx"
    assert json.loads((tmp_path / "small" / "schema.json").read_text())["schema"] == 3


def test_retired_attempts_are_numbered_and_not_lost(results, build):
    planned = build.run()
    for number in range(3):
        build.finish(results.run(planned.run_id), planned, build.outcome(accuracy=0.1 * number))
        assert results.retire(planned.run_id).name == f"{planned.run_id}~{number + 1}"
    assert len(results.attempts()) == 3
    assert results.run_folders() == []


def test_results_are_found_below_a_folder(tmp_path):
    create(tmp_path / "b")
    create(tmp_path / "a")
    (tmp_path / "other").mkdir()
    assert [path.name for path in find_results(tmp_path)] == ["a", "b"]
    assert find_results(tmp_path / "a") == [tmp_path / "a"]
    assert find_results(tmp_path / "nothing") == []


# Cleaning removes what nothing needs, and never a result or the way to resume one.


def checkpoint(run, *stack):
    header = CheckpointHeader(tuple(member.run_id for member in stack), 5, (0,) * len(stack), 1.0)
    write_checkpoint(run.checkpoint_path, header, lambda file: file.write(b"x" * 100))


def test_old_attempts_half_written_files_and_checkpoints_of_finished_runs_go(results, build):
    planned = build.run()
    run = results.run(planned.run_id)
    build.finish(run, planned, build.outcome())
    results.retire(planned.run_id)
    build.finish(run, planned, build.outcome(Outcome.CRASHED))
    checkpoint(run, run)
    (run.path / ".env.json.1-1.tmp").write_bytes(b"half")
    found = find_leftovers(results)
    assert sorted(leftover.what for leftover in found) == ["checkpoint of a finished run", "half-written file", "old attempt"]
    assert all(leftover.size_bytes > 0 and leftover.results == results.path for leftover in found)
    remove(found)
    assert find_leftovers(results) == []
    assert run.state() is Outcome.CRASHED


def test_checkpoints_that_a_run_goes_on_from_stay(results, build):
    first, second = (results.run(build.run(seed=seed).run_id) for seed in (0, 1))
    build.finish(first, build.run(seed=0), build.outcome())
    build.finish(second, build.run(seed=1))
    checkpoint(first, first, second)  # the first run's folder holds the whole stack's slices
    checkpoint(second, second)
    assert find_leftovers(results) == []
