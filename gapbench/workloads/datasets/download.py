"""Downloads of official files, by torchvision: the only part of the data sets that imports it, and that uses the network."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from gapbench.core.errors import DataError
from gapbench.workloads.datasets.checksums import unwritable_cache
from gapbench.workloads.datasets.context import DataContext


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
