"""A user's own images by class, such as ImageNet's: decoded and scaled once, then mapped into memory like every other data set."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from gapbench.core.errors import DataError
from gapbench.core.machine import python_environment, usable_cores
from gapbench.core.progress import Progress, say
from gapbench.suite import facts
from gapbench.workloads.datasets.arrays import DataContext, Pool
from gapbench.workloads.datasets.cache import cached_in_place, write_atomically, write_pool

# One image file as a square of bytes: read, made RGB, scaled and cut exactly as torchvision does it.

DECODER = 1
"""Raised whenever `read_square` gives other pixels for the same file."""

MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
"""Of Pillow: images of eight bits a channel at most, which become RGB without a choice to make."""


class UnreadablePictureError(Exception):
    """A file that is no image, is damaged, or is of a kind that has no one RGB form."""


def read_square(file: Path, size: int) -> npt.NDArray[np.uint8]:
    """Returns the middle square of an image whose shorter side is scaled to `size`: uint8 [size, size, 3].

    Equal to torchvision's `pil_loader`, `Resize(size)` (bilinear, antialiased) and `CenterCrop(size)`. As there, orientation marks of
    cameras are not obeyed.

    Raises:
        UnreadablePictureError: with what is wrong with the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged camera data and the like: the pixels are all that counts
            with Image.open(file) as image:
                if image.mode not in MODES:
                    raise UnreadablePictureError(f"its pixels are of Pillow's mode {image.mode}, which has no one RGB form of 8 bits")
                picture = image.convert("RGB")
            width, height = picture.size
            if width <= height:
                picture = picture.resize((size, int(size * height / width)), Image.Resampling.BILINEAR)
            else:
                picture = picture.resize((int(size * width / height), size), Image.Resampling.BILINEAR)
            left, top = (round((side - size) / 2.0) for side in picture.size)
            return np.asarray(picture.crop((left, top, left + size, top + size)))
    except UnreadablePictureError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadablePictureError(f"{type(error).__name__}: {error}") from error


def imagefolder(context: DataContext, *, path: str, size: int = 256, content: str = "") -> Pool:
    """Returns the images of train/<class>/ and val/<class>/, uint8 [examples, size, size, 3]: val is the test set.

    Each image is scaled so that its shorter side has `size` pixels, and its middle square is kept, as torchvision's Resize and CenterCrop
    do; grayscale, palette and CMYK images become RGB. What was decoded is kept by content: where it is there, the folder is not looked at.

    Args:
        context: its `suite_dir` is what `path` is relative to.
        path: of the folder.
        size: of the stored squares, in pixels.
        content: hash of the files that the run was planned with, part of its identity; empty: whatever the folder holds.

    Raises:
        DataError: the folder is missing, has other content or another form, holds images that cannot be read (they are named), or the
            cache lacks space.
    """
    root = (context.suite_dir or Path.cwd()) / Path(path).expanduser()
    wanted = content or facts.content_of(root)
    checksums = {"content": wanted, "size": str(size), "decoder": str(DECODER)}
    return cached_in_place("imagefolder", checksums, lambda folder: _fill(folder, root, size, wanted), context.decoded_dir)


def _fill(folder: Path, root: Path, size: int, wanted: str) -> None:
    """Decodes all images into `folder`, going on where an earlier process stopped."""
    facts.look_again()
    counts = facts.count(root)
    if counts.content != wanted:
        raise DataError(
            f"{root} holds other images than those that the run was planned with (content {counts.content}, expected {wanted}); "
            "bring back those images, or start again with these"
        )
    found = facts.list_images(root)
    files, labels = zip(*found.examples(), strict=True)
    decode(folder, files, size, about={**counts.counted, "size": size, "decoder": DECODER})
    facts.look_again()
    if facts.content_of(root) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"images in {root} changed while they were decoded; start again when the folder is at rest")
    pool = {"classes": counts.classes, "pixel_max": 255.0, "official_train": counts.train_examples}
    manifest = {"root": str(root), "names": list(found.classes), **json.loads((folder / ABOUT).read_text(encoding="utf-8"))}
    write_pool(folder, np.asarray(labels, np.int64), pool, manifest)


# Many image files decoded into one array on disk, by parallel processes, so that a process killed at any moment loses a few seconds.
#
# The array is written in chunks. A chunk counts as done only once its bytes have reached the disk and its number stands in the journal;
# whatever else is in the file is written again, to the same bytes. Decoders are processes of their own that read orders from stdin, so
# that they end with whoever started them.

IMAGES = "images.npy"
JOURNAL = "done.txt"
ABOUT = "decoded.json"
"""What is being decoded, and with which version of Pillow: another one starts anew, for its pixels may differ in the last bit."""

CHUNK_BYTES = 1 << 25
"""Decoded at once: what a process that is killed loses."""
ALONE = 256
"""So few images are decoded by this process itself: others would take as long to start."""
SPARE_BYTES = 1 << 28
"""Left free on the disk beyond the array."""
NAMED = 10
"""Unreadable files that an error names, of however many there are."""
Answer = tuple[int, list[str] | str]
"""Number of an order, and the unreadable files among its files, or why it could not be carried out."""
DECODER_COMMAND = (sys.executable, "-P", "-m", "gapbench.workloads.datasets.imagefolder")


def decode(folder: Path, files: Sequence[Path], size: int, *, about: Mapping[str, Any]) -> None:
    """Decodes files, in their order, into `images.npy` of a folder: uint8 [files, size, size, 3].

    Goes on where an earlier process stopped. The caller holds the lock of the folder.

    Args:
        folder: where to; made where it is not there.
        files: of images.
        size: of the squares that are kept, in pixels.
        about: what is decoded; a folder that was begun with other values is emptied first.

    Raises:
        DataError: files that cannot be read, by name; not enough space on the disk; a decoder that was killed.
        OSError: the folder cannot be written to.
    """
    about = {**about, "pillow": PIL.__version__, "images": len(files)}
    per_chunk = max(1, CHUNK_BYTES // (3 * size * size))
    _begin(folder, about, (len(files), size, size, 3))
    done = _read_journal(folder, about, per_chunk)
    left = [chunk for chunk in range(-(-len(files) // per_chunk)) if chunk not in done]
    finished = sum(min(per_chunk, len(files) - chunk * per_chunk) for chunk in done)
    _check_space(folder, len(files) * 3 * size * size)
    if done:
        say(f"imagefolder: going on after {finished:,} of {len(files):,} images that are decoded already")
    orders: list[dict[str, Any]] = [
        {"target": str(folder / IMAGES), "first": first, "size": size, "files": [str(file) for file in files[first : first + per_chunk]]}
        for first in (chunk * per_chunk for chunk in left)
    ]
    progress = Progress("imagefolder: decoding,", len(files), "images", finished)
    bad: list[str] = []
    with (folder / JOURNAL).open("a", encoding="ascii") as journal:

        def note(number: int, unreadable: Sequence[str]) -> None:
            bad.extend(unreadable)
            if not unreadable:
                journal.write(f"{left[number]}\n")
                journal.flush()
                os.fsync(journal.fileno())
            progress.add(len(orders[number]["files"]))

        if sum(len(order["files"]) for order in orders) <= ALONE:
            for number, order in enumerate(orders):
                note(number, decode_chunk(order))
        else:
            _decode_in_parallel(orders, note)
    progress.end()
    if bad:
        raise _unreadable(bad)


def decode_chunk(order: Mapping[str, Any]) -> list[str]:
    """Decodes files into their place in the array. Returns what is wrong with those that cannot be read, once the rest is on the disk."""
    files, size = order["files"], int(order["size"])
    squares = np.zeros((len(files), size, size, 3), np.uint8)
    bad = []
    for position, file in enumerate(files):
        try:
            squares[position] = read_square(Path(file), size)
        except UnreadablePictureError as error:
            bad.append(f"{file}: {error}".encode(errors="replace").decode())
    with open(order["target"], "r+b") as target:  # noqa: PTH123 - a text from an order
        offset = _offset(Path(order["target"])) + int(order["first"]) * squares[0].nbytes
        target.seek(offset)
        target.write(squares.data)
        target.flush()
        os.fsync(target.fileno())
    return bad


def _begin(folder: Path, about: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Makes the folder with an array that is all holes, unless it was begun with the same values."""
    try:
        known = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    if known == dict(about):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=shape).flush()
    write_atomically(folder / ABOUT, json.dumps(dict(about)).encode())  # last: what has it is begun


def _read_journal(folder: Path, about: Mapping[str, Any], per_chunk: int) -> set[int]:
    """Returns the chunks that are done. A last line without its end was being written when the process was killed: it does not count."""
    try:
        text = (folder / JOURNAL).read_text(encoding="ascii")
    except FileNotFoundError:
        text = ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        (folder / JOURNAL).write_text(whole, encoding="ascii")
    chunks = -(-int(about["images"]) // per_chunk)
    return {int(line) for line in whole.split() if line.isdecimal() and int(line) < chunks}


def _check_space(folder: Path, needed: int) -> None:
    """Raises DataError where the disk has not enough space left for what is not yet written; says how much it takes where that is a lot."""
    status = (folder / IMAGES).stat()
    written = getattr(status, "st_blocks", 0) * 512
    missing, free = max(0, needed - written) + SPARE_BYTES, shutil.disk_usage(folder).free
    gib = 1 << 30
    if missing > free:
        others = ", ".join(path.name for path in sorted(folder.parent.glob(".*.partial")) if path != folder)
        raise DataError(
            f"imagefolder: the decoded images take {needed / gib:.1f} GiB, and {folder.parent} has {free / gib:.1f} GiB free, "
            f"{(missing - free) / gib:.1f} GiB too few; set GAPBENCH_CACHE to a directory with more space, or choose a smaller `size`"
            + (f"; unfinished there, of other images or sizes, and free to be deleted: {others}" if others else "")
        )
    if needed > gib:
        say(f"imagefolder: the decoded images take {needed / gib:.1f} GiB in {folder.parent} ({free / gib:.1f} GiB free)")


def _unreadable(bad: Sequence[str]) -> DataError:
    more = len(bad) - NAMED
    listed = "\n  ".join([*sorted(bad)[:NAMED], *([f"and {more:,} more"] if more > 0 else [])])
    count = "1 image" if len(bad) == 1 else f"{len(bad):,} images"
    return DataError(f"imagefolder: {count} cannot be read; replace or remove them, and start again:\n  {listed}")


def _offset(array: Path) -> int:
    """Returns where the data of an .npy file begin."""
    with array.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        read(file)
        return file.tell()


def _decode_in_parallel(orders: Sequence[Mapping[str, Any]], note: Callable[[int, Sequence[str]], None]) -> None:
    """Hands the orders to one process for each core; `note` is called in this thread with the number of each order and what was wrong."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    for number in range(len(orders)):
        waiting.put(number)
    decoders = [_start_decoder() for _ in range(min(usable_cores(), len(orders)))]
    try:
        for decoder in decoders:
            threading.Thread(target=_drive, args=(decoder, orders, waiting, answers), daemon=True).start()
        for _ in orders:
            number, unreadable = answers.get()
            if isinstance(unreadable, str):
                raise DataError(f"imagefolder: {unreadable}; what is decoded is kept: start again to go on")
            note(number, unreadable)
    finally:
        for decoder in decoders:
            decoder.kill()
            decoder.wait()
            for pipe in (decoder.stdin, decoder.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def _start_decoder() -> subprocess.Popen[str]:
    environment = {**python_environment(), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(DECODER_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)


def _drive(
    decoder: subprocess.Popen[str],
    orders: Sequence[Mapping[str, Any]],
    waiting: queue.SimpleQueue[int],
    answers: queue.SimpleQueue[Answer],
) -> None:
    """Gives a decoder one order after another, until there are no more or it is gone."""
    assert decoder.stdin is not None
    assert decoder.stdout is not None
    while True:
        try:
            number = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            decoder.stdin.write(json.dumps(orders[number]) + "\n")
            decoder.stdin.flush()
            answer = json.loads(decoder.stdout.readline())
        except (OSError, ValueError):  # it is gone, or was ended with the rest
            answers.put((number, f"a process that decodes images ended with status {decoder.wait()}, perhaps for want of memory"))
            return
        answers.put((number, answer))


def _serve() -> None:
    """Carries out orders from stdin until it closes, as it does when the process that gives them is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that gives the orders
    for line in sys.stdin:
        order = json.loads(line)
        answer: list[str] | str
        try:
            answer = decode_chunk(order)
        except OSError as error:
            answer = f"{order['target']} cannot be written to: {error.strerror or error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
