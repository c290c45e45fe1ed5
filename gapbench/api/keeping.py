"""Results that are there: found, read, merged, cleaned up after; and lists as frames."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench import store
from gapbench.core.errors import StoreError, UnwritableError
from gapbench.core.machine import cache_dir
from gapbench.core.progress import say
from gapbench.core.registry import unknown_name
from gapbench.store import Leftover, Merged, ResultsDirectory, Tables
from gapbench.suite.load import load_name

if TYPE_CHECKING:
    import pandas as pd


def find(results: str | Path | None = None, parent: str | Path = "results") -> Path:
    """Returns a results directory: a path, a bundle, a suite file or its name below `parent`, or, by default, the one touched last.

    Raises:
        StoreError: there is none.
    """
    parent = Path(parent)
    known = store.find_results(parent)
    if results is None:
        if not known:
            raise StoreError(f"{parent}: holds no results yet; `gapbench run SUITE` makes some")
        return max(known, key=lambda path: (path / "plan.parquet").stat().st_mtime if (path / "plan.parquet").exists() else 0.0)
    path = Path(results).expanduser()
    if path.suffix == ".toml" and path.is_file():
        path = Path(load_name(path))
    elif path.exists():
        return path
    if (parent / path).exists():
        return parent / path
    raise StoreError(unknown_name("results directory", str(results), [path.name for path in known]))


def load_results(results: str | Path | None = None) -> Tables:
    """Returns the two tidy tables of a results directory or bundle, as pandas, made anew from the runs where these are there.

    Raises:
        StoreError: there is no such directory, or its tables cannot be read.
    """
    return store.read_tables(open_refreshed(find(results)).path)


def merge(results: Sequence[str | Path], into: str | Path) -> Merged:
    """Writes the runs of several results directories of one suite into a new directory, with its plan and tables; `report` draws it.

    Of several copies of a run the ok one is kept; where several are ok, that of the directory named first, and where their numbers
    differ (another device or version) that is listed. Nothing is averaged, and the directories that are merged stay as they are.

    Args:
        results: two results directories or more, or their names below `results/`.
        into: the new directory. To train on in it, its name has to be the suite's.

    Raises:
        StoreError: a directory is missing, in use, only a bundle, or of another suite; a label stands for different runs in two of
            them; `into` exists or cannot be written.
    """
    return store.merge([find(one) for one in results], Path(into))


def find_leftovers(results: str | Path | None = None, *, cache: bool = False) -> list[Leftover]:
    """Returns what `clean` would remove: old attempts, checkpoints of finished runs, half-written files, and the cache.

    Args:
        results: a results directory or the parent of several; default: `results/`.
        cache: also decoded data sets and measured speeds, which are made again when needed; downloads stay.
    """
    folder = Path(results) if results is not None else Path("results")
    found = [leftover for path in store.find_results(folder) for leftover in store.find_leftovers(ResultsDirectory.open_existing(path))]
    if cache:
        for path in sorted(cache_dir().glob("*")):
            if path.name != "data":
                found += store.folder_leftover(path, "cache")
    return found


def clean(leftovers: Sequence[Leftover]) -> int:
    """Removes leftovers and returns how many bytes that frees.

    Raises:
        StoreError: a suite is training in a directory that is to be cleaned, or something cannot be removed.
    """
    for path in dict.fromkeys(leftover.results for leftover in leftovers):
        with nullcontext() if path is None else ResultsDirectory.open_existing(path).locked():
            store.remove([leftover for leftover in leftovers if leftover.results == path])
    return sum(leftover.size_bytes for leftover in leftovers)


def open_refreshed(path: Path) -> ResultsDirectory:
    """Opens a results directory, or a bundle (unpacked beside it), with tables that hold what its runs hold now.

    What cannot be written to is opened as a copy of its tables and plan in a temporary folder, and a line on the console says so.

    Raises:
        StoreError: it is no results directory, or something in it cannot be read or written.
    """
    if path.is_file() and store.is_bundle(path):
        path = store.unpack(path)
    directory = ResultsDirectory.open_existing(path)
    try:
        if not directory.is_bundle:
            for words in damage_words(directory, store.build_tables(directory)):
                say(words)
        elif not os.access(path, os.W_OK):
            raise UnwritableError(f"{path}: cannot be written to")
    except UnwritableError:
        directory = store.copy_to_read(directory, Path(tempfile.mkdtemp(prefix="gapbench-")))
        say(f"{path} cannot be written to: what is made of it goes to {directory.path}")
        for words in damage_words(directory, {} if directory.is_bundle else directory.damaged(directory.plan().run_ids)):
            say(words)
    return directory


def damage_words(directory: ResultsDirectory, damaged: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each damaged run: it counts as interrupted, and what trains it again."""
    return [
        f"{directory.run(run_id).path}: {words}: the run counts as interrupted; `gapbench run` trains it again"
        for run_id, words in damaged.items()
    ]


def to_frame(things: Iterable[Any]) -> pd.DataFrame:
    """Returns what `listing`, `doctor`, `verify_dataset`, `find_leftovers` and others return as lists, one row a thing.

    Columns are the fields of the things; a column whose values are whole numbers stays whole where some are missing.
    """
    import pandas as pd

    rows = []
    for thing in things:
        if not is_dataclass(thing) or isinstance(thing, type):
            raise TypeError(f"only what the functions of gapbench.api return becomes a frame, not {type(thing).__name__}")
        rows.append({field.name: getattr(thing, field.name) for field in fields(thing)})
    frame = pd.DataFrame(rows)
    for name in frame.columns:
        known = [row[name] for row in rows if row[name] is not None]
        if known and len(known) < len(rows) and all(type(value) is int for value in known):
            frame[name] = frame[name].astype("Int64")
    return frame


def as_html(title: str, frame: pd.DataFrame, notes: Iterable[str] = ()) -> str:
    """Returns a table under its title, with notes below, as a notebook shows it."""
    table = frame.to_html(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
    return "".join([f"<p>{escape(title)}</p>", table, *(f"<p>{escape(note)}</p>" for note in notes)])
