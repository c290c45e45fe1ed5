"""Every test has a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.cost import Place


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def here() -> Place:
    """Two slots of a CPU."""
    return Place("cpu", "a processor", cores=2, threads=1, slots=2)
