"""Torch is the worker's alone, which tells the engine how the runs train: pieces and compiling follow from the spec."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gapbench import engine, sizing
from gapbench.execution.backend import TorchBackend
from gapbench.execution.executor import Setup
from gapbench.suite import load_suite


def train(setup: Setup, compiles: bool | None = None) -> None:
    backend = TorchBackend()
    backend._setup = setup
    specs = [run.spec for run in load_suite("quickstart", only="arm=SB").runs[:3]]
    backend.train(specs, emit=lambda event: None, stop=lambda: None, snapshots=None, checkpoint_seconds=60.0, compiles=compiles)


@pytest.mark.parametrize("compiles", [False, True])
def test_the_spec_decides_on_pieces_and_on_compiling(monkeypatch: pytest.MonkeyPatch, setup: Setup, compiles: bool) -> None:
    """Of a short job that stands for longer ones its order does."""
    asked = {}
    monkeypatch.setattr(
        sizing, "worth_compiling", lambda spec, *, replicas, device_kind: asked.update(ask=(replicas, device_kind)) or compiles
    )
    monkeypatch.setattr(sizing, "micro_batch_size", lambda spec, device_kind: 7)
    monkeypatch.setattr(engine, "train", lambda specs, pool, splits, **more: asked.update(more))
    train(setup)
    assert asked["ask"] == (3, "cpu")
    assert (asked["micro_batch_size"], asked["compiles"], asked["device"]) == (7, compiles, "cpu")
    train(setup, not compiles)
    assert asked["compiles"] is not compiles


def test_torch_gives_back_what_it_keeps_of_a_gpu(monkeypatch: pytest.MonkeyPatch, setup: Setup) -> None:
    freed = []
    monkeypatch.setattr(engine, "train", lambda *specs, **more: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("cuda"))
    train(setup)
    assert freed == []
    train(setup.model_copy(update={"device": "cuda:0"}))
    assert freed == ["cuda"]


def test_the_parent_imports_no_torch() -> None:
    code = "import sys, gapbench.execution.worker; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
