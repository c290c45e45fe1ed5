"""Cleaning removes what nothing needs, and never a result or the way to resume one."""

from __future__ import annotations

from gapbench.core.events import Outcome
from gapbench.store import CheckpointHeader, find_leftovers, remove, write_checkpoint


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
