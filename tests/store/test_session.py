"""session.json is read as it was written, or as nothing at all."""

from __future__ import annotations

import json
import os

import pytest

from gapbench.store import Session, SessionJob, read_session, write_session

SESSION = Session(
    state="training",
    host="here",
    pid=7,
    command="gapbench run small.toml",
    folder="/tmp",
    started_at="2026-01-01T00:00:00+00:00",
    seconds=12.5,
    slots=2,
    threads=1,
    devices=("cpu",),
    jobs=(SessionJob("SB × 2", ("a", "b"), 3, 10, 0.9, 4.0), SessionJob("LB", ("c",), 0, 5, None, None)),
    seconds_left=None,
    rough=True,
)


def test_a_session_is_read_as_it_was_written(tmp_path):
    write_session(tmp_path, SESSION)
    assert read_session(tmp_path).session == SESSION


def test_its_age_is_that_of_the_file(tmp_path):
    write_session(tmp_path, SESSION)
    path = tmp_path / "session.json"
    os.utime(path, (path.stat().st_mtime - 100.0,) * 2)
    assert read_session(tmp_path).age_seconds == pytest.approx(100.0, abs=5.0)
    os.utime(path, (path.stat().st_mtime + 1000.0,) * 2)  # another machine's clock may be ahead
    assert read_session(tmp_path).age_seconds == 0.0


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"state": "training"}', "\x00"])
def test_what_is_no_session_or_is_missing_is_none(tmp_path, text):
    assert read_session(tmp_path) is None
    (tmp_path / "session.json").write_text(text)
    assert read_session(tmp_path) is None


@pytest.mark.parametrize("change", [{"jobs": [1]}, {"jobs": 5}, {"seconds_left": "soon"}, {"seconds": None}, {"jobs": [{"title": "x"}]}])
def test_damaged_fields_make_it_none(tmp_path, change):
    write_session(tmp_path, SESSION)
    path = tmp_path / "session.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_session(tmp_path) is None
