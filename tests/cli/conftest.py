from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gapbench.cli import app
from gapbench.execution import executor

SUITE = (Path(__file__).parents[1] / "small.toml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory, a cache and a worker (without torch) of our own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)
    fake = Path(__file__).parents[1] / "execution" / "fake_worker.py"
    monkeypatch.setattr(executor, "WORKER_COMMAND", (sys.executable, str(fake)))


@pytest.fixture
def figures() -> None:
    """For tests that look at figures; for the others drawing takes too long."""


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "figures" not in request.fixturenames:
        monkeypatch.setattr("gapbench.report.drawings", lambda _: {})


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture
def call() -> Callable[..., Result]:
    """Calls the command line; `code` is the exit status that is expected."""

    def invoke(*arguments: object, code: int = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)
        assert result.exit_code == code, f"{result.output}\n{result.stderr}\n{result.exception!r}"
        return result

    return invoke


@pytest.fixture
def refused(call: Callable[..., Result], tmp_path: Path) -> Callable[..., str]:
    """Calls the command line with wrong input; returns what it says. Nothing may have been written."""

    def invoke(*arguments: object) -> str:
        before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
        result = call(*arguments, code=2)
        assert "Traceback" not in result.stderr
        assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before
        return result.stderr

    return invoke
