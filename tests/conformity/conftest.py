from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from gapbench import api

HEADER = """\
from __future__ import annotations
import itertools
import numpy as np
import torch
from torch import nn
import gapbench
from gapbench.optimizers import Optimizer
from gapbench.workloads.datasets import Pool
"""


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., dict[str, api.ConformityReport]]:
    """Checks the one component that a plugin's text defines; returns its checks by name."""

    def run(text: str, **options: str):
        path = tmp_path / "own.py"
        path.write_text(HEADER + textwrap.dedent(text))
        return {one.check: one for one in api.check_components(plugins=[path], options=options).checks}

    return run
