"""A file is whole or absent, whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import math

import pytest

from gapbench.core.errors import StoreError
from gapbench.store.files import (
    read_json,
    read_json_or_none,
    temporary_files,
    to_json,
    whole_folder,
    write_atomically,
    write_bytes,
    write_json,
)


def test_a_failing_write_leaves_the_old_content_and_no_leftover(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(file):
        file.write(b"half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert not temporary_files(tmp_path)


def test_content_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "file"

    def look(file):
        file.write(b"half")
        assert not path.exists()
        assert len(temporary_files(tmp_path)) == 1

    write_atomically(path, look)
    assert path.read_bytes() == b"half"


def test_a_folder_that_is_missing_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(StoreError, match=r"nowhere.file: cannot be written"):
        write_bytes(tmp_path / "nowhere" / "file", b"")


def test_floats_that_json_cannot_hold_survive(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": [math.nan, math.inf, -math.inf, 0.1]})
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    values = [float(value) for value in read_json(path)["a"]]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 0.1]


def test_finite_floats_are_kept_exactly(tmp_path):
    value = 0.1 + 0.2
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert to_json((1, "x", None)) == [1, "x", None]


def test_damaged_json_is_an_error_or_nothing_as_the_reader_asks(tmp_path):
    path = tmp_path / "value.json"
    path.write_text('{"a": ')
    assert read_json_or_none(path) is None
    assert read_json_or_none(tmp_path / "missing.json") is None
    with pytest.raises(StoreError, match=r"value\.json: cannot be read"):
        read_json(path)


def test_a_folder_is_whole_or_absent(tmp_path):
    with whole_folder(tmp_path / "deep" / "folder") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "deep" / "folder").exists()
    assert (tmp_path / "deep" / "folder" / "x").read_text() == "x"
    with pytest.raises(StoreError, match="exists already"), whole_folder(tmp_path / "deep" / "folder"):
        pass
    with pytest.raises(ValueError), whole_folder(tmp_path / "deep" / "other") as folder:
        (folder / "x").write_text(json.loads("half"))
    with pytest.raises(StoreError, match="cannot be written"), whole_folder(tmp_path / "deep" / "other") as folder:
        (folder / "no" / "such" / "folder").write_text("x")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]


def test_a_full_disk_is_refused_in_words_also_where_a_serializer_hides_it(tmp_path):
    def write(_file):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")  # as torch.save does

    with pytest.raises(StoreError, match=r"kept: cannot be written .No space"):
        write_atomically(tmp_path / "kept", write)
    assert list(tmp_path.iterdir()) == []
