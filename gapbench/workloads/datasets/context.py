"""Where data sets are looked for, and where what was decoded from them is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataContext:
    """The places that a data set may read from and write to."""

    data_dir: Path | None
    """Holds the official files in torchvision's layout, possibly read-only (`--data-dir`, GAPBENCH_DATA); None: `cache_dir/data`."""
    cache_dir: Path
    """Always writable: decoded arrays, remembered checksums, and downloads where no data directory is named."""
    offline: bool = False
    """Never touch the network."""
    suite_dir: Path | None = None
    """What a path in a suite file is relative to; None: the working directory."""

    @property
    def root(self) -> Path:
        """The directory that official files are read from and downloaded to."""
        return self.data_dir if self.data_dir is not None else self.cache_dir / "data"

    @property
    def decoded_dir(self) -> Path:
        """The directory of decoded data sets."""
        return self.cache_dir / "datasets"
