from __future__ import annotations

from types import ModuleType

import pytest

from tests.analysis import synthetic as made_tables
from tests.analysis.diffusion import made as made_walks
from tests.analysis.noise_scale import made as made_noise


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes synthetic tables."""
    return made_tables


@pytest.fixture(scope="session")
def walks_made() -> ModuleType:
    """The module that makes tables of walks that are known."""
    return made_walks


@pytest.fixture(scope="session")
def noise_made() -> ModuleType:
    """The module that makes tables of gradients whose noise is known."""
    return made_noise
