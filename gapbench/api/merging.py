"""Several results directories of one suite as one, such as those of two machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gapbench import store
from gapbench.api.keeping import find
from gapbench.store import Merged


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
