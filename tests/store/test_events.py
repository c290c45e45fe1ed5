"""events.jsonl: what was measured survives as it was, and is cut exactly to a checkpoint."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gapbench.core.events import Measured
from gapbench.store.run_directory import EventLog, last_update, read_events


def event(update: int, *values: float) -> Measured:
    return Measured(0, update, 10 * update, tuple((f"metric{index}", "", value) for index, value in enumerate(values)))


def write(path, *events, keep_bytes=0) -> int:
    with EventLog(path, keep_bytes) as log:
        for one in events:
            log.append(one)
        return log.sync()


@given(values=st.lists(st.floats(allow_nan=False), max_size=4), update=st.integers(0, 2**40))
def test_events_come_back_as_they_were(tmp_path_factory, values, update):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    write(path, event(update, *values))
    assert list(read_events(path)) == [event(update, *values)]


def test_nan_comes_back_as_nan(tmp_path):
    write(tmp_path / "events.jsonl", event(1, math.nan))
    (only,) = read_events(tmp_path / "events.jsonl")
    assert math.isnan(only.values[0][2])


def test_resuming_cuts_what_lies_behind_the_checkpoint(tmp_path):
    path = tmp_path / "events.jsonl"
    size = write(path, event(1, 0.1), event(2, 0.2))
    write(path, event(3, 0.3), event(4, 0.4), keep_bytes=size)
    write(path, event(3, 0.5), keep_bytes=size)
    assert [one.update for one in read_events(path)] == [1, 2, 3]
    assert list(read_events(path))[-1] == event(3, 0.5)


def test_beginning_anew_cuts_everything(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, event(1, 0.1))
    write(path, event(1, 0.2))
    assert list(read_events(path)) == [event(1, 0.2)]


def test_a_torn_last_line_ends_the_log(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, event(1, 0.1))
    with path.open("ab") as file:
        file.write(b'{"update":2,"examples":20,"val')
    assert [one.update for one in read_events(path)] == [1]
    assert last_update(path) == 1


def test_the_last_update_is_found_at_the_end_of_a_long_log(tmp_path):
    path = tmp_path / "events.jsonl"
    write(path, *(event(update, 0.5) for update in range(3000)))
    assert last_update(path) == 2999
    assert last_update(tmp_path / "missing.jsonl") is None
    assert list(read_events(tmp_path / "missing.jsonl")) == []
