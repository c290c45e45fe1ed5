"""Small specs, pools and trained suites that tests share."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapbench import api
from gapbench.catalog import check_options, optimizers
from gapbench.store import Session
from gapbench.suite.runspec import Component, Normalization, Phase, RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split


def make_optimizer(name: str, **options: Any) -> Component:
    """An optimizer with all its options, as a plan has it."""
    resolved, problems = check_options(optimizers()[name].parameters, options, owner=name)
    assert not problems
    return Component(name=name, options=resolved)


def make_spec(**changes: Any) -> RunSpec:
    """A run of a tiny MLP on 100 random images; `changes` replace fields."""
    fields: dict[str, Any] = {
        "dataset": Component(name="npz", options={"path": "tiny.npz"}),
        "model": Component(name="mlp", options={"widths": [16, 16], "norm": "batch", "bias": False}),
        "optimizer": Component(name="sgd", options={"momentum": 0.9, "nesterov": False}),
        "batch_size": 20,
        "ghost_batch_size": None,
        "updates": 30,
        "learning_rate": 0.1,
        "phases": (Phase(start=0.0), Phase(start=0.5, learning_rate_factor=0.1)),
        "weight_decay": 1e-3,
        "clip_norm": None,
        "normalization": Normalization(kind="global"),
        "train_examples": 100,
        "reference_batch_size": 20,
        "reference_updates": 30,
        "reference_learning_rate": 0.1,
        "evaluations": 6,
    }
    seed = changes.get("seed", 0)
    fields.update(init_seed=seed, order_seed=seed)
    return RunSpec(**(fields | changes))


MODELS = {
    "f1": Component(name="f1"),
    "c1": Component(name="c1"),
    "resnet44": Component(name="resnet", options={"depth": 44}),
    "wresnet16-4": Component(name="wresnet", options={"depth": 16, "width": 4}),
    "plugin": Component(name="plugin"),
}


def make_model_spec(model: str, batch_size: int, **changes: Any) -> RunSpec:
    """A run of a thousand updates of one of `MODELS` on MNIST (f1) or CIFAR-10."""
    fields: dict[str, Any] = {"model": MODELS[model], "dataset": Component(name="mnist" if model == "f1" else "cifar10")}
    fields |= {"updates": 1000, "train_examples": 50_000, "reference_batch_size": 128, "reference_updates": 1000, "phases": (Phase(),)}
    return make_spec(batch_size=batch_size, **fields | changes)


@functools.cache
def make_pool(height: int = 6, channels: int = 1, train: int = 100, test: int = 60, classes: int = 4) -> Pool:
    """Random images whose class shows in their brightness, so that there is something to learn."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, train + test)
    images = generator.integers(0, 120, (train + test, height, height, channels)) + 30 * labels[:, None, None, None]
    return Pool(images.astype(np.uint8), labels.astype(np.int64), classes, 255.0, train)


def make_split(pool: Pool, train: int = 100, validation: int = 0) -> Split:
    """The official split of `make_pool`."""
    assert pool.official_train is not None
    members = np.arange(pool.official_train)[:train]
    return Split(
        members[validation:], np.arange(pool.official_train, len(pool.labels)), members[:validation], members[validation : validation + 60]
    )


def make_session(**changes: Any) -> Session:
    """What training says of itself while it goes on; `changes` replace fields."""
    fields: dict[str, Any] = {"state": "training", "host": "here", "pid": 1, "command": "gapbench run small.toml", "folder": "/home/me"}
    fields |= {"started_at": "2026-01-01T00:00:00+00:00", "seconds": 10.0, "slots": 1, "threads": 1, "devices": ("cpu",), "jobs": ()}
    return Session(**(fields | {"seconds_left": 100.0, "rough": False} | changes))


def trained(folder: Path, text: str) -> Path:
    """Trains a suite in a folder of its own and reports it without figures; returns its results."""
    path = folder / f"{tomllib.loads(text)['name']}.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GAPBENCH_CACHE", str(folder / "cache"))
        patch.setattr("gapbench.report.drawings", lambda _: {})
        done = api.run(path, devices="cpu")
    assert done.exit_status == 0, done.failed
    return folder / done.results
