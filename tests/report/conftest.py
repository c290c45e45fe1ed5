from __future__ import annotations

from types import ModuleType

import pytest

from tests.analysis import synthetic as made_tables


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes synthetic tables."""
    return made_tables
