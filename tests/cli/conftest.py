from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gapbench.cli import app


@pytest.fixture(autouse=True)
def _own_places(own_folder: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def figures() -> None:
    """For tests that look at figures; for the others drawing takes too long."""


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest) -> None:
    if "figures" not in request.fixturenames:
        request.getfixturevalue("no_figures")


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
