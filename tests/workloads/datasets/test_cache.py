from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gapbench.core.errors import DataError
from gapbench.workloads.datasets import cache
from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.cache import cached, known_md5, md5_of_bytes


def make_pool(seed: int = 0) -> Pool:
    images = np.random.default_rng(seed).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    return Pool(images, np.arange(9) % 3, classes=3, pixel_max=255.0, official_train=6)


class Decoder:
    def __init__(self, pool: Pool) -> None:
        self.pool, self.calls = pool, 0

    def __call__(self) -> Pool:
        self.calls += 1
        return self.pool


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def assert_equal(pool: Pool, other: Pool) -> None:
    assert np.array_equal(pool.images, other.images)
    assert np.array_equal(pool.labels, other.labels)
    assert (pool.images.dtype, pool.labels.dtype) == (other.images.dtype, other.labels.dtype)
    assert (pool.classes, pool.pixel_max, pool.official_train) == (other.classes, other.pixel_max, other.official_train)


def test_a_data_set_is_decoded_once(tmp_path: Path) -> None:
    decode = Decoder(make_pool())
    first = cached("toy", {"a": "1"}, decode, tmp_path)
    assert cached("toy", {"a": "1"}, decode, tmp_path) is first
    cache.forget()
    again = cached("toy", {"a": "1"}, decode, tmp_path)
    assert decode.calls == 1
    assert_equal(first, decode.pool)
    assert_equal(again, decode.pool)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no umask")
@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_whoever_may_read_the_cache_may_read_all_of_it(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        cached("toy", {"a": "1"}, Decoder(make_pool()), tmp_path / "datasets")
        (tmp_path / "data").write_bytes(b"one")
        known_md5(tmp_path / "data", tmp_path / "datasets")
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "datasets").rglob("*")}
    assert len(found) > 5
    assert {mode for path, mode in found.items() if path.is_dir()} == {folder}
    assert {mode for path, mode in found.items() if path.is_file()} == {file}


def test_other_checksums_or_another_name_are_another_entry(tmp_path: Path) -> None:
    cached("toy", {"a": "1"}, Decoder(make_pool(0)), tmp_path)
    changed = cached("toy", {"a": "2"}, Decoder(make_pool(1)), tmp_path)
    other = cached("doll", {"a": "1"}, Decoder(make_pool(2)), tmp_path)
    assert_equal(changed, make_pool(1))
    assert_equal(other, make_pool(2))
    assert len(entries(tmp_path)) == 3


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "pool.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed"])
def test_a_damaged_entry_is_decoded_again(file: str, damage: str, tmp_path: Path) -> None:
    decode = Decoder(make_pool())
    cached("toy", {}, decode, tmp_path)
    cache.forget()
    path = entries(tmp_path)[0] / file
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7] if damage == "truncated" else b"")
    assert_equal(cached("toy", {}, decode, tmp_path), decode.pool)
    cache.forget()
    cached("toy", {}, decode, tmp_path)
    assert decode.calls == 2


def test_what_a_killed_process_left_is_no_entry_and_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a killed process does not clean up

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            cached("toy", {}, Decoder(make_pool()), tmp_path)
    monkeypatch.undo()
    assert len(entries(tmp_path)) == 1
    assert_equal(cached("toy", {}, Decoder(make_pool(1)), tmp_path), make_pool(1))
    assert [path.name.startswith(".") for path in entries(tmp_path)] == [False]


def test_an_error_while_decoding_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Pool:
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        cached("toy", {}, fail, tmp_path)
    assert entries(tmp_path) == []
    assert_equal(cached("toy", {}, Decoder(make_pool()), tmp_path), make_pool())


def test_a_pool_that_breaks_the_rules_is_not_kept(tmp_path: Path) -> None:
    pool = make_pool()
    with pytest.raises(DataError, match="labels run from 0 to 2; for 2 classes"):
        cached("toy", {}, Decoder(Pool(pool.images, pool.labels, 2, 255.0, 6)), tmp_path)
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="GAPBENCH_CACHE"):
        cached("toy", {}, Decoder(make_pool()), tmp_path / "file")


def test_writing_into_a_pool_does_not_change_the_cache(tmp_path: Path) -> None:
    pool = cached("toy", {}, Decoder(make_pool()), tmp_path)
    pool.images[:] = 0
    cache.forget()
    assert_equal(cached("toy", {}, Decoder(make_pool()), tmp_path), make_pool())


def test_only_a_few_pools_stay_in_memory(tmp_path: Path) -> None:
    first = cached("toy", {"n": "0"}, Decoder(make_pool()), tmp_path)
    for number in range(1, cache.KEPT_IN_MEMORY + 1):
        cached("toy", {"n": str(number)}, Decoder(make_pool()), tmp_path)
    assert len(cache._in_memory) == cache.KEPT_IN_MEMORY
    assert cached("toy", {"n": "0"}, Decoder(make_pool()), tmp_path) is not first


DECODE_SLOWLY = """
import sys, time
from pathlib import Path
import numpy as np
from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.cache import cached

folder, number = Path(sys.argv[1]), sys.argv[2]

def decode():
    (folder / f"decoded-by-{number}").touch()
    time.sleep(0.3)
    return Pool(np.full((9, 4, 4, 3), 7, np.uint8), np.arange(9) % 3, 3, 255.0, 6)

(folder / f"ready-{number}").touch()
while not (folder / "go").exists():
    time.sleep(0.005)
pool = cached("toy", {}, decode, folder / "cache")
assert (pool.images == 7).all() and pool.images.shape == (9, 4, 4, 3)
"""


def test_of_processes_that_decode_at_the_same_time_one_does_and_the_others_wait(tmp_path: Path) -> None:
    workers = [subprocess.Popen([sys.executable, "-c", DECODE_SLOWLY, str(tmp_path), str(number)]) for number in range(3)]
    while len(list(tmp_path.glob("ready-*"))) < 3 and all(worker.poll() is None for worker in workers):
        time.sleep(0.005)
    (tmp_path / "go").touch()
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert len(list(tmp_path.glob("decoded-by-*"))) == 1
    assert len(entries(tmp_path / "cache")) == 1


def test_a_remembered_checksum_follows_a_change_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "data"
    for content in (b"one", b"two", b"longer"):  # of the same size, too: then the time of change tells
        file.write_bytes(content)
        assert known_md5(file, tmp_path / "cache") == md5_of_bytes(content)


def test_a_damaged_note_of_a_checksum_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"one")
    known_md5(file, tmp_path / "cache")
    note = next((tmp_path / "cache").rglob("*.json"))
    note.write_text('{"md5": ')
    assert known_md5(file, tmp_path / "cache") == md5_of_bytes(b"one")
