from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def walks_made() -> ModuleType:
    """The module that makes tables of walks that are known."""
    spec = importlib.util.spec_from_file_location("made_walks", Path(__file__).with_name("made.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Holds a text against a golden file beside the tests."""

    def check(name: str, text: str) -> None:
        assert text == (Path(__file__).parent / name).read_text(encoding="utf-8")

    return check
