from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gapbench
from gapbench.core.machine import cache_dir, data_dir_default, python_environment


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


def test_processes_of_ours_import_this_gapbench_from_any_folder_and_without_installed_packages(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = [sys.executable, "-P", "-S", "-c", "import gapbench; print(gapbench.__file__)"]  # -S: no installed packages
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=python_environment())
    assert Path(done.stdout.strip()).samefile(gapbench.__file__)
