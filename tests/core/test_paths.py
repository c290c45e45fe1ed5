from __future__ import annotations

from pathlib import Path

import pytest

from gapbench.core.machine import cache_dir, data_dir_default


def test_environment_names_cache_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_CACHE", "~/some cache")
    monkeypatch.setenv("GAPBENCH_DATA", "/some/data")
    assert cache_dir() == Path.home() / "some cache"
    assert data_dir_default() == Path("/some/data")


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", Path("/xdg/gapbench")),
        ("darwin", Path.home() / "Library" / "Caches" / "gapbench"),
        ("win32", Path("/appdata/gapbench/Cache")),
    ],
)
def test_cache_is_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch, platform: str, expected: Path) -> None:
    monkeypatch.delenv("GAPBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("LOCALAPPDATA", "/appdata")
    monkeypatch.setattr("sys.platform", platform)
    assert cache_dir() == expected


def test_without_a_name_there_is_no_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)
    assert data_dir_default() is None
    monkeypatch.setenv("GAPBENCH_DATA", "")
    assert data_dir_default() is None
