"""Directories of one suite merge into one: nothing averaged, nothing lost, nothing mixed, and nothing written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store import CheckpointHeader, ResultsDirectory, StoredPlan, merge, read_tables, write_checkpoint

SUITE = 'name = "small"\n'


@pytest.fixture
def machine(tmp_path, build):
    """Makes a results directory: its plan, and the outcomes of those runs that it trained (None: unfinished)."""

    def make(name, plan, outcomes=None, suite="small", toml=SUITE):
        with ResultsDirectory.create(tmp_path / name, suite) as directory:
            directory.write_plan(StoredPlan(suite, tuple(plan)), toml)
            for run in plan:
                if outcomes is None or run.run_id in outcomes:
                    outcome = build.outcome() if outcomes is None else outcomes[run.run_id]
                    build.finish(directory.run(run.run_id), run, outcome)
        return tmp_path / name

    return make


@pytest.fixture
def runs(build):
    return [build.run("SB", seed) for seed in range(4)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(path: Path) -> dict[str, tuple[str, float]]:
    rows = read_tables(path).runs
    return {
        run_id: (outcome, accuracy) for run_id, outcome, accuracy in rows[["run_id", "outcome", "test_accuracy"]].itertuples(index=False)
    }


def test_disjoint_runs_of_two_machines_are_all_there(machine, build, runs, tmp_path):
    first = machine("a", runs, {run.run_id: build.outcome() for run in runs[:2]})
    second = machine("b", runs, {run.run_id: build.outcome() for run in runs[2:]})
    before = content(first), content(second)
    merged = merge([first, second], tmp_path / "c")
    assert merged.runs == {first: 2, second: 2}
    assert (merged.identical, merged.conflicts, merged.begin_anew, merged.grown) == (0, (), (), False)
    assert {outcome for outcome, _ in read(tmp_path / "c").values()} == {"ok"}
    assert (tmp_path / "c" / "suite.toml").read_text() == SUITE
    assert (content(first), content(second)) == before


def test_each_run_is_copied_with_its_files_and_without_locks(machine, build, runs, tmp_path):
    first = machine("a", runs[:1])
    second = machine("b", runs[1:])
    run = first / "runs" / runs[0].run_id
    (run / "weights-1.pt").write_bytes(b"weights")
    (run / ".lock").touch()
    (run / ".x.1-2.tmp").touch()
    expected = {name: data for name, data in content(run).items() if not name.startswith(".")}
    merge([first, second], tmp_path / "c")
    assert content(tmp_path / "c" / "runs" / runs[0].run_id) == expected


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        (Outcome.OK, Outcome.DIVERGED, "ok"),
        (Outcome.CRASHED, Outcome.OK, "ok"),
        (None, Outcome.OK, "ok"),
        (Outcome.TIMEOUT, Outcome.DIVERGED, "diverged"),
        (None, Outcome.CRASHED, "crashed"),
        (Outcome.CRASHED, Outcome.TIMEOUT, "crashed"),
    ],
)
def test_the_better_outcome_is_kept(machine, build, runs, tmp_path, one, other, kept):
    plan = runs[:1]
    sources = [
        machine(name, plan, {plan[0].run_id: outcome and build.outcome(outcome)}) for name, outcome in (("a", one), ("b", other))
    ]  # fmt: skip
    merged = merge(sources, tmp_path / "c")
    assert read(tmp_path / "c")[plan[0].run_id][0] == kept
    assert len(merged.conflicts) == (one is not None)


def test_numbers_that_differ_are_listed_and_never_averaged(machine, build, runs, tmp_path):
    (run, *_) = plan = runs[:1]
    first = machine("a", plan, {run.run_id: build.outcome(accuracy=0.9)})
    second = machine("b", plan, {run.run_id: build.outcome(accuracy=0.8)})
    merged = merge([second, first], tmp_path / "c")
    assert read(tmp_path / "c")[run.run_id] == ("ok", 0.8)
    (conflict,) = merged.conflicts
    assert (conflict.run_id, conflict.kept) == (run.run_id, second)
    assert conflict.found == {second: "ok, test accuracy 80.000 %", first: "ok, test accuracy 90.000 %"}


def test_equal_numbers_are_one_run_whatever_it_took(machine, build, runs, tmp_path):
    plan = runs[:1]
    slow = build.outcome(finished_at="2027-01-01T00:00:00+00:00", replicas=3)
    merged = merge([machine("a", plan), machine("b", plan, {plan[0].run_id: slow})], tmp_path / "c")
    assert (merged.identical, merged.conflicts) == (1, ())


def test_a_suite_that_has_grown_becomes_the_union(machine, build, runs, tmp_path):
    large = [build.run("LB", seed, batch_size=64) for seed in range(2)]
    first = machine("a", runs[:2], toml='name = "small" # before\n')
    second = machine("b", [*runs[2:], *large], toml='name = "small" # after\n')
    merged = merge([first, second], tmp_path / "c")
    assert merged.grown
    plan = ResultsDirectory.open_existing(tmp_path / "c").plan()
    assert set(plan.run_ids) == {run.run_id for run in (*runs, *large)}
    assert {run.labels.cell: run.labels.cell_order for run in plan.runs} == {"SB": 0, "LB": 0}  # the longer plan's labels
    toml = (tmp_path / "c" / "suite.toml").read_text()
    assert 'name = "small" # before\n' in toml
    assert '\n# name = "small" # after\n' in toml


def test_cells_that_only_the_shorter_plan_has_come_last(machine, build, runs, tmp_path):
    first = machine("a", runs[:3])
    second = machine("b", [build.run("LB", 0, batch_size=64)])
    merge([first, second], tmp_path / "c")
    plan = ResultsDirectory.open_existing(tmp_path / "c").plan()
    assert [(run.labels.cell, run.labels.cell_order) for run in plan.runs] == [("SB", 0)] * 3 + [("LB", 1)]


@pytest.mark.parametrize("seed", [0, 9])
def test_a_label_that_stands_for_other_values_is_refused(machine, build, runs, tmp_path, seed):
    other = [build.run("SB", seed, learning_rate=0.2)]
    with pytest.raises(StoreError, match=r"SB \(learning_rate 0.1 against 0.2\)"):
        merge([machine("a", runs), machine("b", other)], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_another_suite_is_refused(machine, runs, tmp_path):
    with pytest.raises(StoreError, match=r'"other".*"small"'):
        merge([machine("a", runs), machine("b", runs, suite="other")], tmp_path / "c")


def test_a_target_that_exists_is_left_alone(machine, runs, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "precious").touch()
    with pytest.raises(StoreError, match="exists already"):
        merge([machine("a", runs[:2]), machine("b", runs[2:])], tmp_path / "c")
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["precious"]


def test_a_directory_is_named_once_and_not_alone(machine, runs, tmp_path):
    first = machine("a", runs)
    with pytest.raises(StoreError, match="named twice"):
        merge([first, tmp_path / "." / "a"], tmp_path / "c")
    with pytest.raises(StoreError, match="two results directories"):
        merge([first], tmp_path / "c")


def test_a_directory_in_which_somebody_trains_is_refused(machine, runs, tmp_path):
    first, second = machine("a", runs[:2]), machine("b", runs[2:])
    with ResultsDirectory.open_existing(second).locked(), pytest.raises(StoreError, match="another gapbench"):
        merge([first, second], tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_bundle_has_no_runs_to_merge(machine, runs, tmp_path):
    first, second = machine("a", runs[:2]), machine("b", runs[2:])
    (second / "runs").rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="no folder runs/"):
        merge([first, second], tmp_path / "c")


def test_an_error_on_the_way_leaves_nothing_behind(machine, runs, tmp_path, monkeypatch):
    first, second = machine("a", runs[:2]), machine("b", runs[2:])
    monkeypatch.setattr("gapbench.store.merging.build_tables", lambda _: (_ for _ in ()).throw(StoreError("disk full")))
    with pytest.raises(StoreError, match="disk full"):
        merge([first, second], tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_of_two_unfinished_copies_the_further_one_is_kept(machine, build, runs, tmp_path):
    (run, *_) = plan = runs[:1]
    sources = [machine(name, plan, {}) for name in ("a", "b")]
    for source, updates in zip(sources, ((1, 3), (1, 5)), strict=True):
        build.finish(ResultsDirectory.open_existing(source).run(run.run_id), run, None, updates)
    merged = merge(sources, tmp_path / "c")
    assert merged.runs == {sources[0]: 0, sources[1]: 1}
    assert ResultsDirectory.open_existing(tmp_path / "c").run(run.run_id).updates_done() == 5


def test_a_checkpoint_moves_with_its_stack_or_not_at_all(machine, build, runs, tmp_path):
    plan = runs[:2]
    header = CheckpointHeader(tuple(run.run_id for run in plan), 3, (0, 0), 1.0)

    def stacked(name, updates):
        path = machine(name, plan, {})
        directory = ResultsDirectory.open_existing(path)
        for run, done in zip(plan, updates, strict=True):
            if done:
                build.finish(directory.run(run.run_id), run, None, (1, done))
        if updates[0]:
            write_checkpoint(directory.run(plan[0].run_id).checkpoint_path, header, lambda file: None)
        return path

    whole = merge([stacked("a", (3, 3)), stacked("b", (0, 2))], tmp_path / "whole")
    assert whole.begin_anew == ()
    assert ResultsDirectory.open_existing(tmp_path / "whole").run(plan[0].run_id).checkpoint() == header
    mixed = merge([tmp_path / "a", stacked("d", (0, 9))], tmp_path / "mixed")
    assert mixed.begin_anew == (plan[0].run_id,)
    assert ResultsDirectory.open_existing(tmp_path / "mixed").run(plan[0].run_id).checkpoint() is None
