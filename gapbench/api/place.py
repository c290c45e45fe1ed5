"""Where and with what: the one value that the functions about suites, data sets and components share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from gapbench.core.machine import cache_dir, data_dir_default

if TYPE_CHECKING:
    from gapbench.workloads.datasets import DataContext


class Where(TypedDict, total=False):
    """Fields of a `Place`, as keywords that change it for one call."""

    results: str | Path
    data_dir: str | Path | None
    devices: str | None
    slots: int | None
    plugins: Sequence[str | Path]
    offline: bool


@dataclass(frozen=True)
class Place:
    """Where results and data sets are, and with what suites train. The defaults are those of the command line.

    lab = api.Place(results="/scratch/results", devices="cuda:0")
    api.run("quickstart", lab)
    api.run("quickstart", lab, devices="cpu")  # for this call
    """

    results: str | Path = "results"
    """Parent of the results directories of suites."""
    data_dir: str | Path | None = None
    """Where data sets are; None: GAPBENCH_DATA, else downloads into the cache."""
    devices: str | None = None
    """Such as "cuda:0,cuda:1" or "cpu"; None: all GPUs, else the CPU."""
    slots: int | None = None
    """Runs that train at a time; None: one a core, or one a GPU and more where its runs are small."""
    plugins: Sequence[str | Path] = ()
    """Python files with components of the user's own."""
    offline: bool = False
    """Never download."""

    def but(self, **where: Unpack[Where]) -> Place:
        """Returns the same place with other values for some fields."""
        return replace(self, **where)

    @property
    def plugin_files(self) -> tuple[str, ...]:
        """Absolute paths: worker processes import the files, too."""
        return tuple(str(Path(plugin).expanduser().absolute()) for plugin in self.plugins)

    @property
    def data_folder(self) -> Path | None:
        """Where data sets are; None: downloads in the cache."""
        return Path(self.data_dir).expanduser() if self.data_dir else data_dir_default()

    def data_context(self, suite_dir: Path | None = None) -> DataContext:
        """Returns where data sets are looked for.

        Args:
            suite_dir: what a path in a suite file is relative to; None: the working directory.
        """
        from gapbench.workloads.datasets import DataContext

        return DataContext(data_dir=self.data_folder, cache_dir=cache_dir(), offline=self.offline, suite_dir=suite_dir)


HERE = Place()
"""Results below this folder, everything else as the machine has it."""
