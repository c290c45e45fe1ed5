"""What tests share. Shapes in signatures are checked while tests run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Two processes with two threads each on two cores are tens of times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# Shapes and types in signatures of the rooms that compute are checked at every call.
CHECKED = ["gapbench.layers", "gapbench.workloads.models", "gapbench.optimizers", "gapbench.probes", "gapbench.engine"]
install_import_hook(CHECKED, "beartype.beartype")

from gapbench import catalog
from gapbench.catalog import plugins
from gapbench.sizing import count_with
from gapbench.workloads.counting import answers
from tests.small import make_pool, make_spec, make_split

count_with(answers)  # torch is here already: no model needs a process of its own to be counted


@pytest.fixture
def spec() -> Any:
    """`make_spec`."""
    return make_spec


@pytest.fixture
def pool() -> Any:
    """`make_pool`."""
    return make_pool


@pytest.fixture
def split() -> Any:
    """`make_split`."""
    return make_split


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a cache of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GAPBENCH_DATA", raising=False)
    return tmp_path


@pytest.fixture
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers without torch, whose engine is arithmetic."""
    fake = Path(__file__).parent / "execution" / "fake_worker.py"
    monkeypatch.setattr("gapbench.execution.executor.WORKER_COMMAND", (sys.executable, str(fake)))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures: drawing takes longer than all else in a test."""
    monkeypatch.setattr("gapbench.report.drawings", lambda _: {})


@pytest.fixture
def suite(own_folder: Path) -> Path:
    """The suite small.toml in a folder of its own."""
    path = own_folder / "small.toml"
    path.write_text((Path(__file__).parent / "small.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def catalog_as_it_was() -> Any:
    """Takes back what a test's plugins added, so that no test depends on those before it."""
    registries = [catalog.datasets(), catalog.models(), catalog.optimizers(), catalog.regimes(), catalog.recipes(), catalog.probes()]
    before = [dict(registry) for registry in registries]
    loaded = dict(plugins._loaded_files)
    yield
    for registry, entries in zip(registries, before, strict=True):
        for name in set(registry) - set(entries):
            registry.remove(name)
        for name in set(entries) - set(registry):
            registry.add(name, entries[name])
    plugins._loaded_files.clear()
    plugins._loaded_files.update(loaded)
