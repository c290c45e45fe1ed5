"""What planning needs to know about a data set without loading it: sizes, shape, classes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.core.errors import DataError
from gapbench.core.hashing import content_hash
from gapbench.core.machine import cache_dir, shown, write_note
from gapbench.core.progress import Progress
from gapbench.suite.runspec import Component

if TYPE_CHECKING:
    import numpy.typing as npt

CHUNK = 4096
"""Examples that are looked through at once."""
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class DatasetFacts:
    """Sizes of a data set before any subset."""

    train_examples: int
    test_examples: int
    shape: tuple[int, ...]
    """(height, width, channels) or (features,)."""
    classes: int
    content: str = ""
    """Hash of the arrays where they are the user's own."""

    @property
    def is_image(self) -> bool:
        """Whether examples are images."""
        return len(self.shape) == 3

    @property
    def counted(self) -> dict[str, Any]:
        """All but the shape, as JSON gives it back: what there is of an image folder at any size."""
        return {name: value for name, value in vars(self).items() if name != "shape"}

    @property
    def sides(self) -> str:
        """The shape in words."""
        return " x ".join(str(side) for side in self.shape)


def dataset_facts(component: Component) -> DatasetFacts:
    """Returns the facts of a data set; those of `npz` and `imagefolder` come from the user's files.

    Raises:
        DataError: files that are missing or not in the expected form.
    """
    entry = catalog.datasets()[component.name]
    if component.name == "imagefolder":
        return image_folder_facts(component)
    if entry.train_examples is None or entry.test_examples is None or entry.classes is None:
        return npz_facts(Path(str(component.option("path", ""))))
    return DatasetFacts(entry.train_examples, entry.test_examples, entry.shape, entry.classes)


def image_folder_facts(component: Component) -> DatasetFacts:
    """Returns the facts of an image folder; where its content is known and was counted before, without a look at the folder.

    Raises:
        DataError: the folder is missing or not in the expected form, or a file cannot be read.
    """
    size, content = int(component.option("size")), str(component.option("content", ""))
    known = (counted(content) if content else None) or count(Path(str(component.option("path", ""))))
    return replace(known, shape=(size, size, 3))


def npz_facts(path: Path) -> DatasetFacts:
    """Returns the facts of an .npz file with x_train, y_train, x_test, y_test.

    Raises:
        DataError: a file that is missing or not in the expected form.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}; name an .npz file with {', '.join(NPZ_ARRAYS)}") from error
    return _read_npz(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _read_npz(path: Path, modified: int, size: int) -> DatasetFacts:
    import numpy as np  # a third of the time that it takes to import this room, and only needed here

    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NPZ_ARRAYS if name not in file]
            if missing:
                raise DataError(f"{shown(path)} has no {', '.join(missing)}; it must have {', '.join(NPZ_ARRAYS)}")
            x_train, y_train, x_test, y_test = (file[name] for name in NPZ_ARRAYS)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{shown(path)} is no .npz file of plain arrays ({error}); write it with numpy.savez") from error
    for part, images, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
        if labels.ndim != 1 or len(labels) != len(images) or not len(images) or labels.dtype.kind not in "iu" or labels.min() < 0:
            wanted = f"one whole number of at least 0 for each of the {len(images)} examples of x_{part}"
            raise DataError(f"{shown(path)}: y_{part} must hold {wanted}")
    for part, images in (("train", x_train), ("test", x_test)):
        if (images.dtype == np.uint8) != (images.ndim in (3, 4)) or (images.dtype == np.float32) != (images.ndim == 2):
            raise DataError(
                f"{shown(path)}: x_{part} must be images as uint8 [n, height, width(, channels)] or features as float32 [n, features], "
                f"not {images.dtype} {list(images.shape)}; {conversion(images)}"
            )
    if x_train.shape[1:] != x_test.shape[1:] or x_train.ndim not in (2, 3, 4):
        raise DataError(
            f"{shown(path)}: x_train {x_train.shape} and x_test {x_test.shape} must be images [n, height, width(, channels)] "
            "or features [n, features] of one size"
        )
    shape = (*x_train.shape[1:], 1) if x_train.ndim == 3 else tuple(x_train.shape[1:])
    for part, features in (("train", x_train), ("test", x_test)):
        check_finite(features, f"{shown(path)}: x_{part}")
    classes = count_classes(y_train, y_test, shown(path))
    return DatasetFacts(len(x_train), len(x_test), shape, classes, content_hash(x_train, y_train, x_test, y_test))


def conversion(examples: npt.NDArray[Any]) -> str:
    """Returns how examples of another type or shape become images or features."""
    kind, images = examples.dtype.kind, examples.ndim in (3, 4)
    low, high = (float(examples.min()), float(examples.max())) if examples.size and kind in "biuf" else (0.0, 0.0)
    if images and kind == "b":
        return 'convert it to bytes: (255 * x).astype("uint8")'
    if images and kind == "f" and low >= 0 and high <= 1:
        return 'it looks like images from 0 to 1, so convert it to bytes: (255 * x).round().astype("uint8")'
    if images and kind in "iuf" and low >= 0 and high <= 255:
        return 'it looks like images from 0 to 255, so convert it to bytes: x.round().astype("uint8")'
    if images and kind in "iuf":
        return "it looks like images that were normalized; store the bytes that they were made from, and normalize in the suite"
    if examples.ndim == 2 and kind in "biuf":
        return 'convert it, for example with .astype("float32")'
    return "bring it into one of these forms, for example with .reshape(len(x), -1)" if kind in "biuf" else "it holds no numbers"


def check_finite(features: npt.NDArray[Any], place: str) -> None:
    """Raises DataError where features are NaN or infinite. Looks through them in pieces: they may be a mapped file of gigabytes."""
    import numpy as np

    for start in range(0, len(features) if features.dtype.kind == "f" else 0, CHUNK):
        finite = np.isfinite(features[start : start + CHUNK]).all(axis=1)
        if not finite.all():
            raise DataError(f"{place} must be finite: example {start + int(np.argmin(finite))} has NaN or infinite features")


def count_classes(y_train: npt.NDArray[Any], y_test: npt.NDArray[Any], place: str) -> int:
    """Returns the number of classes: labels of y_train are 0 .. classes - 1, and y_test has no other ones. Raises DataError otherwise."""
    import numpy as np

    known = np.unique(y_train)
    if not np.array_equal(known, np.arange(len(known))):
        odd = sorted(set(known.tolist()) - set(range(len(known))))[0]
        raise DataError(
            f"{place}: y_train has {len(known)} different labels, so they must be 0 to {len(known) - 1}, but {odd} occurs; "
            "renumber them, for example by numpy.unique(labels, return_inverse=True)[1]"
        )
    if len(known) < 2:
        raise DataError(f"{place}: y_train has only one class; there must be two or more")
    unknown = sorted(set(np.unique(y_test).tolist()) - set(known.tolist()))
    if unknown:
        raise DataError(f"{place}: y_test has the label {unknown[0]}, which y_train does not have (0 to {len(known) - 1})")
    return len(known)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the shape of an image, taken as (height, width, channels), looks like (channels, height, width)."""
    return len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 2, 3, 4)


def held_out(examples: int, fraction: float) -> int:
    """Returns how many of the training examples `holdout` keeps for validation."""
    return round(fraction * examples)


# A folder of images by class, as planning sees it: which files there are, and a hash of their content that names the data anywhere.
#
#     train/<class>/*.JPEG    val/<class>/*.JPEG
#
# The layout and the order of examples are those of torchvision's ImageFolder: classes sorted by name, and the files of each class folder
# by folder. The content is a hash of every file's place, size and bytes, never of times or of where the folder lies. So the files are read
# once, and after that only where the list of a class folder (names, sizes, times of change) is another one.

PARTS = ("train", "val")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of files that are examples, in any case: torchvision's."""
READERS = 8
"""Threads that read files for their hash."""


@dataclass(frozen=True)
class ClassFolder:
    """The files of one class in one part."""

    folder: Path
    files: tuple[str, ...]
    """Below `folder`, with forward slashes, in the order of examples."""
    sizes: tuple[int, ...]
    """Of the files, in bytes."""
    stamp: str
    """Hash of names, sizes and times of change: while it stays, the files are taken to be the same."""


@dataclass(frozen=True)
class ImageFolder:
    """What a folder of images holds."""

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, tuple[ClassFolder, ...]]
    """By part: the folder of each of `classes`; one that is not there has no files."""

    def count(self, part: str) -> int:
        """Returns the number of examples of a part."""
        return sum(len(folder.files) for folder in self.parts[part])

    def examples(self) -> Iterator[tuple[Path, int]]:
        """Yields (file, label) of every example, `train` before `val`: the order of the pool."""
        for part in PARTS:
            for label, folder in enumerate(self.parts[part]):
                for file in folder.files:
                    yield folder.folder / file, label


def count(root: Path) -> DatasetFacts:
    """Returns the content of a folder and its sizes (no shape), written down for `counted`. Raises DataError as `content_of`."""
    found = list_images(root)
    counts = DatasetFacts(found.count("train"), found.count("val"), (), len(found.classes), content_of(root))
    if counted(counts.content) != counts:
        _write_note(_count_note(counts.content), counts.counted)
    return counts


def counted(content: str) -> DatasetFacts | None:
    """Returns what `count` found of a content, also where the folder is no longer there; None where it was never counted here."""
    try:
        return DatasetFacts(**json.loads(_count_note(content).read_text(encoding="utf-8")), shape=())
    except (OSError, ValueError, TypeError):
        return None


def look_again() -> None:
    """Forgets what was found in this process: folders are listed anew."""
    list_images.cache_clear()
    content_of.cache_clear()


@functools.lru_cache(maxsize=8)
def list_images(root: Path) -> ImageFolder:
    """Returns what a folder holds, from names, sizes and times alone; once a process, until `look_again`.

    Raises:
        DataError: the folder is missing or not in the expected form; the text says which part, and the remedy.
    """
    names = {part: _subfolders(root, part) for part in PARTS}
    classes = names["train"]
    unknown = sorted(set(names["val"]) - set(classes))
    if unknown:
        raise DataError(f"{shown(root / 'val' / unknown[0])} is a class that {shown(root / 'train')} lacks; both need the same classes")
    if len(classes) < 2:
        raise DataError(f"{shown(root / 'train')} has only the class folder {classes[0]}; there must be two classes or more")
    parts = {part: tuple(_list_class(root / part / name) for name in classes) for part in PARTS}
    empty = [folder.folder for folder in parts["train"] if not folder.files]
    if empty:
        raise DataError(f"{shown(empty[0])} holds no image ({', '.join(EXTENSIONS)}); put images there, or remove the folder")
    found = ImageFolder(root, tuple(classes), parts)
    if not found.count("val"):
        raise DataError(f"the class folders of {shown(root / 'val')} hold no image ({', '.join(EXTENSIONS)})")
    return found


def _subfolders(root: Path, part: str) -> list[str]:
    """Returns the sorted names of the class folders of a part."""
    layout = "train/<class>/ and val/<class>/"
    try:
        with os.scandir(root / part) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise DataError(f"{shown(root / part)} cannot be read: {error.strerror}; an image folder has its images in {layout}") from error
    folders = sorted(name for name, is_folder in found if is_folder)
    if not folders:
        images = any(name.lower().endswith(EXTENSIONS) for name, _ in found)
        what = "its images lie side by side" if images else "it has no folders"
        raise DataError(f"{shown(root / part)}: {what}; sort the images into one folder for each class: {layout}")
    return folders


def _list_class(folder: Path) -> ClassFolder:
    """Lists a class folder in the order of torchvision: the folder itself, then those below it, each one's files sorted."""
    files, sizes, digest = [], [], hashlib.blake2b(digest_size=16)
    if folder.is_dir():
        for place, _, names in sorted(os.walk(folder, followlinks=True)):
            below = Path(place).relative_to(folder).as_posix()
            for name in sorted(names):
                if not name.lower().endswith(EXTENSIONS):
                    continue
                try:
                    status = (Path(place) / name).stat()
                except OSError as error:
                    raise DataError(f"{shown(Path(place) / name)} cannot be read: {error.strerror}") from error
                files.append(name if below == "." else f"{below}/{name}")
                sizes.append(status.st_size)
                digest.update(f"{files[-1]}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return ClassFolder(folder, tuple(files), tuple(sizes), digest.hexdigest())


@functools.lru_cache(maxsize=8)
def content_of(root: Path) -> str:
    """Returns 16 hexadecimal digits that depend on the place below `root`, the size and the bytes of every file, and on nothing else.

    Reads the files of each class folder once; their hash is remembered in the cache for as long as names, sizes and times of change stay.

    Raises:
        DataError: the folder is not in the expected form, a file cannot be read, or the cache cannot be written to.
    """
    found = list_images(root)
    digest = hashlib.blake2b(digest_size=8)
    folders = [(part, name, folder) for part in PARTS for name, folder in zip(found.classes, found.parts[part], strict=True)]
    progress = Progress(f"{shown(root)}: reading each file once for the identity of the data,", len(folders), "class folders")
    for part, name, folder in folders:
        digest.update(f"{part}/{name}\0{_class_content(folder)}\n".encode(errors="surrogateescape"))
        progress.add(1)
    progress.end()
    return digest.hexdigest()


def _class_content(folder: ClassFolder) -> str:
    """Returns the hash of a class folder's files, from the cache where the folder has not changed since they were read."""
    note = _notes() / f"{_hex(str(folder.folder.absolute()).encode(errors='surrogateescape'))}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == folder.stamp:
            return str(known["content"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there yet, or damaged: read the files
    digest = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor(READERS) as readers:
        contents = readers.map(_read_hash, (folder.folder / file for file in folder.files))
        for file, size, content in zip(folder.files, folder.sizes, contents, strict=True):
            digest.update(f"{file}\0{size}\0{content}\n".encode(errors="surrogateescape"))
    _write_note(note, {"folder": str(folder.folder.absolute()), "stamp": folder.stamp, "content": digest.hexdigest()})
    return digest.hexdigest()


def _read_hash(file: Path) -> str:
    try:
        return _hex(file.read_bytes())
    except OSError as error:
        raise DataError(f"{shown(file)} cannot be read: {error.strerror}; check its permissions") from error


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _count_note(content: str) -> Path:
    return _notes() / f"count-{content}.json"


def _notes() -> Path:
    return cache_dir() / "datasets" / "folders"


def _write_note(note: Path, values: Mapping[str, str | int]) -> None:
    try:
        write_note(note, values)
    except OSError as error:
        raise DataError(
            f"the cache {note.parent} cannot be written to: {error.strerror}; set GAPBENCH_CACHE to a writable directory with space"
        ) from error
