from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from tests.console.terminal import Terminal


class Screen(io.StringIO):
    """The file of a console that is a terminal."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.terminal = Terminal(width, height)
        self.console = Console(file=self, force_terminal=True, width=width, height=height, color_system=None)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.terminal.feed(text)
        return len(text)

    def resize(self, width: int, height: int) -> None:
        self.terminal.resize(width, height)
        self.console.size = (width, height)

    @property
    def lines(self) -> list[str]:
        return self.terminal.history


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    """Makes a screen; what is drawn on it is drawn when a test says so, and not by the clock."""
    monkeypatch.setattr("gapbench.console.live.REFRESH_SECONDS", 3600.0)
    monkeypatch.delenv("COLUMNS", raising=False)
    return Screen
