from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.analysis.diffusion import made


@pytest.fixture(scope="session")
def walks_made() -> ModuleType:
    """The module that makes tables of walks that are known."""
    return made


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Holds a text against a golden file beside the tests."""

    def check(name: str, text: str) -> None:
        assert text == (Path(__file__).parent / name).read_text(encoding="utf-8")

    return check
