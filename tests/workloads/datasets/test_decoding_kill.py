"""Killing whoever decodes an image folder, at any moment, loses nothing and leaves nothing that is taken for a whole pool."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from gapbench.suite import facts
from gapbench.workloads.datasets import cache, imagefolder
from gapbench.workloads.datasets.imagefolder import read_square

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

COUNT, SIZE, PER_CHUNK = 120, 32, 3
DEADLINE_SECONDS = 120.0
DECODE = f"""
import sys, time
from pathlib import Path
from gapbench.workloads.datasets import imagefolder
from gapbench.workloads.datasets.arrays import DataContext

imagefolder.CHUNK_BYTES = {PER_CHUNK} * 3 * {SIZE} * {SIZE}
if sys.argv[3] == "parallel":
    imagefolder.ALONE = 0
else:
    imagefolder.ALONE = 10**9
    plain = imagefolder.decode_chunk
    imagefolder.decode_chunk = lambda order: (time.sleep(0.01), plain(order))[1]
imagefolder.imagefolder(DataContext(None, Path(sys.argv[2])), path=sys.argv[1], size={SIZE})
"""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    facts.look_again()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        part = "val" if number % 6 == 0 else "train"
        path = tmp_path / "images" / part / f"n0{number % 2 if part == 'train' else number // 6 % 2}" / f"{number:03}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (60, 50, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def start(images: Path, folder: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DECODE, str(images), str(folder), how], stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


def chunks_done(folder: Path) -> int:
    return sum(len(journal.read_text().splitlines()) for journal in folder.glob("datasets/.*.partial/done.txt"))


def more_are_done(folder: Path, chunks: int) -> bool:
    return chunks_done(folder) >= chunks


def finish(process: subprocess.Popen[bytes]) -> str:
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors.decode()
    return errors.decode()


def assert_whole(images: Path, folder: Path) -> None:
    (entry,) = (path for path in (folder / "datasets").glob("imagefolder-*") if path.is_dir())
    pool = cache._read(entry)
    assert pool is not None
    expected = [(read_square(path, SIZE), label) for path, label in facts.list_images(images).examples()]
    np.testing.assert_array_equal(pool.images, np.stack([image for image, _ in expected]))
    assert pool.labels.tolist() == [label for _, label in expected]
    assert list((folder / "datasets").glob(".*.partial")) == []


@pytest.mark.parametrize("how", ["parallel", "alone"])
def test_a_killed_decoder_goes_on_where_it_was(how: str, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    before = 0
    for moment in (0, 2, 9):  # when the array is made, and after some chunks
        process = start(images, folder, how)
        if moment:
            wait_for(partial(more_are_done, folder, before + moment), process)
        else:
            wait_for(lambda: any(folder.glob("datasets/.*.partial/images.npy")), process)
        process.kill()
        process.communicate()
        assert [path for path in (folder / "datasets").glob("imagefolder-*") if path.is_dir()] == []
        assert chunks_done(folder) >= before
        before = chunks_done(folder)
    said = finish(start(images, folder, how))
    assert "imagefolder: going on after " in said
    assert_whole(images, folder)


def test_decoders_end_with_the_one_that_orders_them(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path / "cache", "parallel")
    wait_for(lambda: bool(psutil.Process(process.pid).children()), process)
    children = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, timeout=DEADLINE_SECONDS)[1] == []


def test_of_two_processes_one_decodes_and_the_other_waits(images: Path, tmp_path: Path) -> None:
    both = [start(images, tmp_path / "cache", "alone") for _ in range(2)]
    for process in both:
        finish(process)
    assert_whole(images, tmp_path / "cache")


def test_a_chunk_without_a_whole_line_in_the_journal_is_decoded_again(tmp_path: Path) -> None:
    files = []
    for number in range(6):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((9, 9, 3), 10 * number + 5, np.uint8)).save(files[-1])
    folder = tmp_path / "partial"
    imagefolder.decode(folder, files, 8, about={})
    expected = np.array(np.load(folder / imagefolder.IMAGES))
    (folder / imagefolder.JOURNAL).write_text("0")  # torn: its line has no end
    with (folder / imagefolder.IMAGES).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(bytes(100))
    imagefolder.decode(folder, files, 8, about={})
    np.testing.assert_array_equal(np.load(folder / imagefolder.IMAGES), expected)
    assert (folder / imagefolder.JOURNAL).read_text() == "0\n"


def test_a_folder_that_was_begun_for_other_files_is_begun_anew(tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(np.full((9, 9, 3), 100 * number, np.uint8)).save(tmp_path / f"{number}.png")
    imagefolder.decode(tmp_path / "partial", [tmp_path / "0.png"], 8, about={"content": "a"})
    imagefolder.decode(tmp_path / "partial", [tmp_path / "1.png"], 8, about={"content": "b"})
    assert (np.load(tmp_path / "partial" / imagefolder.IMAGES) == 100).all()
