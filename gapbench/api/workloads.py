"""Data sets by name: downloading and verifying their files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.catalog.plugins import load_plugins
from gapbench.core.paths import cache_dir, data_dir_default

if TYPE_CHECKING:
    from gapbench.workloads.datasets import DataContext, FileStatus


def fetch_dataset(name: str, data_dir: str | Path | None = None, plugins: Iterable[str | Path] = ()) -> list[FileStatus]:
    """Downloads what is missing of a data set's official files and returns the state of all of them.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: the download fails, a file is corrupt, or the folder cannot be written to.
    """
    from gapbench.workloads import datasets

    load_plugins(plugins)
    datasets.fetch(name, data_context(data_dir))
    return datasets.verify(name, data_context(data_dir))


def verify_dataset(name: str, data_dir: str | Path | None = None, plugins: Iterable[str | Path] = ()) -> list[FileStatus]:
    """Returns the state of a data set's official files, from checksums computed now; empty where it has no files.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: a file cannot be read.
    """
    from gapbench.workloads import datasets

    load_plugins(plugins)
    return datasets.verify(name, data_context(data_dir, offline=True))


def data_context(data_dir: str | Path | None, *, offline: bool = False) -> DataContext:
    """Returns where data sets are looked for: the given folder, else GAPBENCH_DATA, else the cache."""
    from gapbench.workloads.datasets import DataContext

    return DataContext(data_dir=Path(data_dir).expanduser() if data_dir else data_dir_default(), cache_dir=cache_dir(), offline=offline)
