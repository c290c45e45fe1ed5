"""Data sets that come as official files with known checksums, read in place from a data directory in torchvision's layout."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from gapbench.core.errors import DataError
from gapbench.workloads.datasets.arrays import DataContext, Pool
from gapbench.workloads.datasets.cache import cached, known_md5, md5_of_bytes, md5_of_file, unreadable, unwritable_cache

# Downloads of official files, by torchvision: the only part of the data sets that imports it, and that uses the network.


def download(
    name: str, torchvision_class: str, context: DataContext, *, splits: Sequence[str | None] = (None,), files: Sequence[str] = ()
) -> None:
    """Downloads a data set and puts its files where they are missing below `context.root`, in torchvision's layout.

    Args:
        name: of the data set, for messages.
        torchvision_class: in torchvision.datasets.
        context: where to.
        splits: to ask torchvision for, one after another; None: no split is named.
        files: those that are wanted although they lie at the top of the layout, where torchvision also leaves archives behind.

    torchvision writes in place, so it works in a temporary folder: an interrupted download leaves nothing that looks
    like data, and no file that is there is written over. Its progress goes to the console.

    Raises:
        DataError: the data directory cannot be written to, or the download fails.
    """
    root = context.root
    try:
        context.decoded_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(context.decoded_dir / f"{name}.download.lock")
        lock.acquire()
    except OSError as error:
        raise unwritable_cache(context.decoded_dir, error) from error
    try:
        try:
            root.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=root, prefix=".gapbench-download-"))
        except OSError as error:
            raise DataError(
                f"{name}: some of its files are missing in the data directory {root}, which cannot be written to "
                f"({error.strerror or error}); name a writable directory with --data-dir or GAPBENCH_DATA, or none at all"
            ) from error
        try:
            for split in splits:
                _fetch_with_torchvision(name, torchvision_class, temporary, split)
            _move_missing(temporary, root, files)
        except OSError as error:
            raise DataError(f"{name}: the download to {root} failed: {error}; run `gapbench data fetch {name}` again") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        lock.release()


def _fetch_with_torchvision(name: str, torchvision_class: str, root: Path, split: str | None) -> None:
    import torchvision.datasets

    try:
        getattr(torchvision.datasets, torchvision_class)(root, download=True, **({} if split is None else {"split": split}))
    except RuntimeError as error:  # torchvision's word for a failed or damaged download
        raise DataError(
            f"{name}: the download failed: {' '.join(str(error).split())}; check the network and run `gapbench data fetch {name}` again, "
            "or copy the official files into a directory and name it with --data-dir or GAPBENCH_DATA"
        ) from error


def _move_missing(source: Path, target: Path, wanted: Sequence[str]) -> None:
    """Moves files that `target` does not have; at the top only those that are wanted, for archives stay behind: they were unpacked."""
    for file in sorted(source.rglob("*")):
        relative = file.relative_to(source)
        if file.is_file() and (len(relative.parts) > 1 or relative.name in wanted) and not (target / relative).exists():
            (target / relative.parent).mkdir(parents=True, exist_ok=True)
            file.replace(target / relative)


@dataclass(frozen=True)
class OfficialFile:
    """A file that a data set is read from. Data that have one of the two checksums are the official ones."""

    path: str
    """Below the data directory, with forward slashes."""
    md5: str
    packed_md5: str | None = None
    """MD5 of `path`.gz, where the data set is published so; None: there is no packed form."""
    torchvision_split: str | None = None
    """The `split` by which torchvision downloads this file alone; None: it downloads all files of the data set at once."""


@dataclass(frozen=True)
class FileStatus:
    """What was found of an official file."""

    path: Path
    """The file that is read or, where none can be, the one that should be there."""
    status: Literal["ok", "packed", "missing", "corrupt"]
    """`packed`: only the .gz has the official content, and it is read in place."""
    expected_md5: str
    found_md5: str | None
    """None where the file is missing."""


@dataclass(frozen=True)
class OfficialDataset:
    """A data set of official files. Calling it loads it."""

    name: str
    files: tuple[OfficialFile, ...]
    decode: Callable[[Iterable[bytes]], Pool]
    """From the unpacked contents of `files`, in their order, one after another."""
    torchvision_class: str
    """Name of the class in torchvision.datasets that downloads it."""

    def __call__(self, context: DataContext) -> Pool:
        """Returns the pool, from the cache where these very files were decoded before; downloads what is missing unless offline.

        Raises:
            DataError: a file is missing (while offline), corrupt or not readable.
        """
        found = self.check(context)
        checksums = {file.path: file.md5 for file in self.files}
        return cached(self.name, checksums, lambda: self._decode(found), context.decoded_dir)

    def check(self, context: DataContext) -> list[FileStatus]:
        """Returns the files to read, all with official checksums; downloads what is missing unless offline.

        A checksum is computed once and then remembered for as long as the file keeps its size and time of change.

        Raises:
            DataError: a file is missing (while offline), corrupt or not readable.
        """
        found = [self._status(file, context, remembered=True) for file in self.files]
        if any(file.status == "missing" for file in found):
            self.fetch(context)
            found = [self._status(file, context, remembered=True) for file in self.files]
        _refuse_corrupt(self.name, found)
        return found

    def verify(self, context: DataContext) -> list[FileStatus]:
        """Returns the state of each file, from checksums computed now."""
        return [self._status(file, context, remembered=False) for file in self.files]

    def fetch(self, context: DataContext) -> None:
        """Downloads the data set into the data directory unless every file is there. Nothing that is there is written over.

        Raises:
            DataError: offline, a file that is there is corrupt, the directory cannot be written to, or the download fails.
        """
        found = self.verify(context)
        _refuse_corrupt(self.name, found)
        if all(file.status != "missing" for file in found):
            return
        if context.offline:
            raise _missing(self.name, found, context)
        missing = [file for file, status in zip(self.files, found, strict=True) if status.status == "missing"]
        splits = tuple(dict.fromkeys(file.torchvision_split for file in missing))
        download(self.name, self.torchvision_class, context, splits=splits, files=[file.path for file in missing])
        found = self.verify(context)
        _refuse_corrupt(self.name, found)
        if any(file.status == "missing" for file in found):
            listed = _listed(found, context)
            raise DataError(f"{self.name}: the download succeeded without {listed}; this version of torchvision names its files otherwise")

    def _status(self, file: OfficialFile, context: DataContext, *, remembered: bool) -> FileStatus:
        """Looks for the unpacked file, then for the packed one; the first with the official checksum is read.

        So a half-unpacked file of an interrupted download does no harm where the whole .gz stands beside it.
        """
        plain = context.root / file.path
        wrong: FileStatus | None = None
        for path, md5, status in ((plain, file.md5, "ok"), (plain.with_name(f"{plain.name}.gz"), file.packed_md5, "packed")):
            if md5 is None or not path.is_file():
                continue
            found = known_md5(path, context.decoded_dir) if remembered else md5_of_file(path)
            if found == md5:
                return FileStatus(path, "ok" if status == "ok" else "packed", md5, found)
            wrong = wrong or FileStatus(path, "corrupt", md5, found)
        return wrong or FileStatus(plain, "missing", file.md5, None)

    def _decode(self, found: Sequence[FileStatus]) -> Pool:
        contents = (_read(self.name, file) for file in found)  # lazily: no more than one is in memory
        try:
            return self.decode(contents)
        except (ValueError, KeyError, struct.error, pickle.UnpicklingError) as error:
            folder = found[0].path.parent
            raise DataError(f"{self.name}: the files in {folder} have the official checksums but not the known form: {error}") from error


def _read(name: str, file: FileStatus) -> bytes:
    """Returns the unpacked content of a file, after a last look at the checksum of exactly what was read."""
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise unreadable(file.path, error) from error
    md5 = md5_of_bytes(content)
    if md5 != file.expected_md5:
        raise _corrupt(name, FileStatus(file.path, "corrupt", file.expected_md5, md5))
    try:
        return gzip.decompress(content) if file.status == "packed" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.path} cannot be unpacked: {error}") from error


def _refuse_corrupt(name: str, found: Sequence[FileStatus]) -> None:
    for file in found:
        if file.status == "corrupt":
            raise _corrupt(name, file)


def _corrupt(name: str, file: FileStatus) -> DataError:
    return DataError(
        f"{name}: {file.path} is corrupt: its MD5 is {file.found_md5}, that of the official file {file.expected_md5}; "
        f"delete it and run `gapbench data fetch {name}`"
    )


def _missing(name: str, found: Sequence[FileStatus], context: DataContext) -> DataError:
    return DataError(
        f"{name}: {_listed(found, context)} not found in {context.root}{'' if context.root.is_dir() else ' (there is no such directory)'}, "
        f"and nothing is downloaded while offline; run `gapbench data fetch {name}` with a network, "
        "or name the directory that has the data with --data-dir or GAPBENCH_DATA"
    )


def _listed(found: Sequence[FileStatus], context: DataContext) -> str:
    """Returns which files are missing, below the data directory: `first` or `first and 3 more files`."""
    missing = [file.path.relative_to(context.root).as_posix() for file in found if file.status == "missing"]
    more = len(missing) - 1
    return missing[0] + (f" and {more} more {'files' if more > 1 else 'file'}" if more else "")
