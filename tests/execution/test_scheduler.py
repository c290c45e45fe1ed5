"""Whatever happens to a run becomes an outcome, and the others go on."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from gapbench import cost
from gapbench.core.errors import GapbenchError
from gapbench.core.events import Outcome
from gapbench.execution.devices import Device
from gapbench.execution.executor import LocalProcesses, Setup
from gapbench.execution.notices import Begun, Ended, JobEnded, JobProgressed, JobStarted, Notice, Said
from gapbench.execution.rules import MEMORY_HEADROOM_MIB
from gapbench.execution.scheduler import STARTS_AGAIN
from gapbench.store import commit
from gapbench.suite import load_suite


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch):
    def set_behavior(**by_seed: str) -> None:
        monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({name.removeprefix("seed"): what for name, what in by_seed.items()}))

    return set_behavior


def test_every_run_trains_in_a_stack_where_it_pays_and_leaves_only_what_a_finished_run_has(train, suite_file):
    done = train(suite_file())
    assert Counter(done.outcomes.values()) == {"ok": 6}
    for run_id in done.outcomes:
        names = {path.name for path in done.directory.run(run_id).path.iterdir()} - {".lock"}
        assert names == {"spec.json", "env.json", "events.jsonl", "outcome.json", "log.txt"}
    sizes = [len(notice.run_ids) for notice in done.notices if isinstance(notice, JobStarted)]
    assert sorted(sizes) == [1, 1, 1, 3]
    assert done.run_of("SB", 1).outcome().replicas == 3
    assert done.run_of("LB", 1).outcome().replicas == 1


def test_stray_prints_land_in_the_log_and_do_not_disturb_the_protocol(train, suite_file):
    done = train(suite_file(last_seed=0))
    log = done.run_of("LB", 0).log_path.read_text()
    assert "a stray print" in log
    assert "a stray write" in log


def test_observers_see_the_start_the_progress_and_the_end(train, suite_file):
    done = train(suite_file(last_seed=0))
    begun, *_ = done.notices
    assert begun.runs == 2
    assert {run_id for job in begun.jobs for run_id in job.run_ids} == set(done.outcomes)
    kinds = Counter(type(notice) for notice in done.notices)
    assert (kinds[Begun], kinds[JobStarted], kinds[JobEnded], kinds[Ended]) == (1, 2, 2, 1)
    assert kinds[JobProgressed] > 2
    assert isinstance(done.notices[-1], Ended)


def test_an_exception_is_a_crash_with_its_traceback_in_the_log_and_the_others_go_on(train, suite_file, behave):
    behave(seed1="raise")
    done = train(suite_file())
    crashed = done.run_of("LB", 1)
    assert crashed.outcome().outcome is Outcome.CRASHED
    assert re.fullmatch(r"ValueError: the model has a hole \(fake_worker\.py:\d+\)", crashed.outcome().reason)
    assert "Traceback" in crashed.log_path.read_text()
    assert done.run_of("LB", 0).state() is done.run_of("LB", 2).state() is Outcome.OK


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [("training-error", "model x does not fit data y"), ("exit", "the worker process ended with status 7")],
)
def test_an_error_of_our_own_and_a_worker_that_exits_by_itself_are_crashes(train, suite_file, behave, behavior, reason):
    behave(seed0=behavior)
    assert train(suite_file(last_seed=0)).run_of("LB", 0).outcome().reason == reason


def test_lack_of_memory_is_an_outcome_of_its_own(train, suite_file, behave):
    behave(seed1="memory")
    done = train(suite_file(last_seed=1))
    assert done.run_of("LB", 1).state() is done.run_of("SB", 1).state() is Outcome.OUT_OF_MEMORY
    assert done.run_of("LB", 0).state() is done.run_of("SB", 0).state() is Outcome.OK


def test_a_stack_without_enough_memory_trains_run_by_run(train, suite_file, behave):
    behave(seed0="stack-out-of-memory")
    done = train(suite_file())
    assert Counter(done.outcomes.values()) == {"ok": 6}
    assert done.run_of("SB", 1).outcome().replicas == 1
    assert any(isinstance(notice, Said) and "one by one" in notice.text for notice in done.notices)


def test_a_killed_worker_is_a_crash_of_its_job_alone(train, suite_file, behave):
    behave(seed1="kill")
    done = train(suite_file())
    assert re.search("killed by signal 9 .*memory", done.run_of("LB", 1).outcome().reason)
    assert {done.run_of(arm, seed).state() for arm, seed in (("LB", 1), ("SB", 0), ("SB", 1), ("SB", 2))} == {Outcome.CRASHED}
    assert {done.run_of("LB", seed).state() for seed in (0, 2)} == {Outcome.OK}


def test_a_worker_that_is_terminated_leaves_a_checkpoint_and_no_outcome(train, suite_file, behave):
    behave(seed1="terminate")
    path = suite_file()
    done = train(path)
    left = done.run_of("LB", 1)
    assert left.state() is Outcome.INTERRUPTED
    assert left.checkpoint().update == left.spec().updates // 2
    assert done.run_of("LB", 2).state() is Outcome.OK
    behave()
    assert Counter(train(path).outcomes.values()) == {"ok": 4}  # the stack and the one run, nothing else


def test_a_diverged_run_keeps_its_curve_and_has_no_numbers(train, suite_file, behave):
    behave(seed1="diverge")
    tables = train(suite_file()).tables()
    diverged = tables.runs[tables.runs.seed == 1]
    assert set(diverged.outcome) == {"diverged"}
    assert diverged[["test_accuracy", "train_loss"]].isna().all(axis=None)
    assert diverged.train_seconds.notna().all()
    assert set(diverged.run_id) <= set(tables.curves.run_id)


def test_a_time_limit_is_a_timeout(train, suite_file, monkeypatch):
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.02")
    path = suite_file(last_seed=0)
    path.write_text(path.read_text().replace("[grid]", "time_limit_seconds = 0.05\n[grid]"))
    done = train(path)
    assert set(done.outcomes.values()) == {"timeout"}


def test_fail_fast_stops_the_others(train, suite_file, behave, monkeypatch):
    behave(seed0="raise")
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.01")
    done = train(suite_file(), slots=1, fail_fast=True)
    assert "crashed" in done.outcomes.values()
    assert "ok" not in done.outcomes.values()


def test_an_interrupt_leaves_checkpoints_and_the_next_start_goes_on(train, suite_file, monkeypatch):
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.01")
    path = suite_file(last_seed=1, factor=0.02)

    def interrupt(notice):
        if isinstance(notice, JobProgressed) and notice.update == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    stopped = train(path, observe=interrupt)
    assert stopped.interrupted
    assert set(stopped.outcomes.values()) == {"interrupted"}
    assert stopped.run_of("LB", 0).checkpoint().update >= 5
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.delenv("FAKE_UPDATE_SECONDS")
    again = train(path)
    assert Counter(again.outcomes.values()) == {"ok": 4}
    assert max(notice.update for notice in again.notices if isinstance(notice, JobStarted)) >= 5


class Narrow(LocalProcesses):
    """Processes of a machine with little memory, which they never come to hold."""

    def __init__(self, mib: float) -> None:
        super().__init__((sys.executable, str(Path(__file__).parent / "fake_worker.py")))
        self._mib = mib

    def free_mib(self) -> float:
        return self._mib

    def held_mib(self, slot: int) -> float:
        return 0.0


class Beside:
    """Observes which runs train beside each other."""

    def __init__(self) -> None:
        self._running: dict[int, str] = {}
        self.seen: set[tuple[str, ...]] = set()

    def __call__(self, notice: Notice) -> None:
        if isinstance(notice, JobStarted):
            self._running[notice.slot] = notice.run_ids[0]
        if isinstance(notice, JobEnded):
            self._running.pop(notice.slot, None)
        self.seen.add(tuple(sorted(self._running.values())))

    @property
    def most(self) -> int:
        return max(map(len, self.seen))


def test_a_run_that_can_never_fit_in_memory_is_said_and_not_started(train, suite_file):
    done = train(suite_file(last_seed=1), executor=Narrow(300.0))
    assert set(done.outcomes.values()) == {"out-of-memory"}
    assert "MiB are free" in done.run_of("SB", 1).outcome().reason
    assert not any(isinstance(notice, JobStarted) for notice in done.notices)


def test_a_run_waits_for_memory_while_another_one_trains(train, suite_file):
    beside = Beside()
    path = suite_file(last_seed=1)
    needs = [cost.memory_mib(run.spec, replicas=2) for run in load_suite(path).runs]
    done = train(path, observe=beside, executor=Narrow(MEMORY_HEADROOM_MIB + 1.5 * max(needs)), slots=2)
    assert Counter(done.outcomes.values()) == {"ok": 4}
    assert beside.most == 1


@pytest.mark.parametrize(
    ("variable", "words"), [("FAKE_CANNOT_START", "libgomp is missing"), ("FAKE_REFUSES", "plugin p.py cannot be loaded")]
)
def test_a_worker_that_cannot_start_or_refuses_is_an_error_in_its_words_and_no_outcome(train, suite_file, monkeypatch, variable, words):
    monkeypatch.setenv(variable, words)
    with pytest.raises(GapbenchError, match=re.escape(words)):
        train(suite_file())


def test_a_worker_killed_before_it_is_ready_costs_a_restart_and_not_the_suite(train, suite_file, monkeypatch, tmp_path):
    deaths = tmp_path / "deaths"
    monkeypatch.setenv("FAKE_DIES_BEFORE_READY", str(deaths))
    deaths.write_text(str(STARTS_AGAIN))
    done = train(suite_file(last_seed=0))
    assert Counter(done.outcomes.values()) == {"ok": 2}
    assert sum(isinstance(notice, Said) and "starts again" in notice.text for notice in done.notices) == STARTS_AGAIN
    deaths.write_text(str(STARTS_AGAIN + 1))
    with pytest.raises(GapbenchError, match="could not start: the worker process was killed by signal 9"):
        train(suite_file(last_seed=1))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers wait a moment for the lock of a run."""
    monkeypatch.setattr("gapbench.execution.Setup", functools.partial(Setup, lock_seconds=0.05))


def test_a_run_that_another_process_still_trains_comes_after_the_others(train, suite_file, impatient):
    path = suite_file(last_seed=1)
    done = train(path)
    runs = [done.run_of("LB", seed) for seed in (0, 1)]
    for run in runs:
        (run.path / "outcome.json").unlink()
    with ExitStack() as held:
        held.enter_context(runs[0].locked())
        done = train(path, observe=lambda notice: held.close() if isinstance(notice, Said) else None)
    assert Counter(done.outcomes.values()) == {"ok": 2}
    assert any(isinstance(notice, Said) and "after the others" in notice.text for notice in done.notices)


def test_a_lock_that_stays_taken_is_an_error_once_all_others_have_trained(train, suite_file, impatient):
    path = suite_file(last_seed=1)
    done = train(path)
    held, other = done.run_of("LB", 0), done.run_of("LB", 1)
    for run in (held, other):
        (run.path / "outcome.json").unlink()
    with held.locked(), pytest.raises(GapbenchError, match=f"{held.run_id}: another process is still training this run"):
        train(path)
    assert held.outcome() is None
    assert other.state() is Outcome.OK


def test_a_folder_that_holds_another_run_is_an_error(train, suite_file):
    path = suite_file(last_seed=0)
    done = train(path)
    run, other = done.run_of("LB", 0), done.run_of("SB", 0)
    (run.path / "outcome.json").unlink()
    (run.path / "spec.json").write_bytes((other.path / "spec.json").read_bytes())
    with pytest.raises(GapbenchError, match="does not hold run"):
        train(path)


def test_a_grown_suite_trains_only_what_is_new_and_a_second_start_nothing(train, suite_file):
    train(suite_file(last_seed=1))
    grown = train(suite_file(last_seed=3))
    assert len(grown.outcomes) == 4
    assert len(grown.tables().runs) == 8
    assert train(suite_file(last_seed=3)).outcomes == {}


def test_kept_weights_stay_with_the_run(train, suite_file):
    path = suite_file(last_seed=0)
    path.write_text(path.read_text().replace("[grid]", "keep_weights = [1.0]\n[grid]"))
    assert (train(path).run_of("LB", 0).path / "weights-1.pt").is_file()


def test_outcomes_that_a_dying_worker_had_decided_are_kept(train, suite_file):
    """A stack's journal without its outcomes is what a kill between the two leaves."""
    path = suite_file()
    done = train(path)
    runs = {done.run_of("SB", seed): done.run_of("SB", seed).outcome() for seed in range(3)}
    commit(runs)
    leader = next(iter(runs))
    leader.journal_path.write_text(json.dumps({run.run_id: outcome.as_json() for run, outcome in runs.items()}))
    before = [Path(run.path / "outcome.json").read_bytes() for run in runs]
    for run in list(runs)[1:]:
        (run.path / "outcome.json").unlink()
    assert train(path).outcomes == {}
    assert [Path(run.path / "outcome.json").read_bytes() for run in runs] == before
    assert not leader.journal_path.exists()


def test_runs_say_how_many_could_share_their_device(train, suite_file):
    assert set(train(suite_file(), slots=2).tables().runs.slots) == {2}


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch):
    """Two slots of a GPU; runs of the small batch may share it, those of the large batch fill it."""
    monkeypatch.setattr(cost, "jobs_at_a_time", lambda spec, **_: 2 if spec.batch_size == 16 else 1)
    monkeypatch.setattr("gapbench.sizing.stack_pays", lambda *_: False)
    monkeypatch.setattr("gapbench.execution.usable_cores", lambda: 8)
    return {"devices": (Device("cuda:0", "cuda", "a GPU", "GPU-0", 80_000.0),), "slots": None}


def test_on_a_gpu_runs_train_beside_each_other_as_far_as_their_kind_allows(train, suite_file, sharing):
    beside = Beside()
    done = train(suite_file(last_seed=3), observe=beside, **sharing)
    assert Counter(done.outcomes.values()) == {"ok": 8}
    small = {done.run_of("SB", seed).run_id for seed in range(4)}
    assert {len(ids) for ids in beside.seen} == {0, 1, 2}
    assert all(set(ids) <= small for ids in beside.seen if len(ids) == 2)
    runs = done.tables().runs
    assert {arm: set(rows.slots) for arm, rows in runs.groupby("arm")} == {"SB": {2}, "LB": {1}}
    assert set(runs.device) == {"cuda:0"}


def test_on_a_gpu_a_run_waits_for_the_memory_of_another_one(train, suite_file, sharing, monkeypatch):
    monkeypatch.setattr(cost, "memory_mib", lambda *_, **__: 50_000.0)
    beside = Beside()
    done = train(suite_file(last_seed=1), observe=beside, **{**sharing, "slots": 2})
    assert Counter(done.outcomes.values()) == {"ok": 4}
    assert beside.most == 1
    assert set(done.tables().runs.slots) == {2}
