"""Plugins through the command line: a file and an installed package, from `ls` to worker processes; and `gapbench test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGE = '''
"""What an installed package brings along."""
import numpy as np
import gapbench
from gapbench.optimizers import Optimizer
from gapbench.workloads.datasets import Pool

@gapbench.dataset(name="stripes", train_examples=96, test_examples=48, shape=(4, 4, 1), classes=2, split="drawn")
def stripes(context, *, noise: int = 40):
    """Bright rows or bright columns."""
    generator, labels = np.random.default_rng(0), np.arange(144) % 2
    images = generator.integers(0, noise + 1, (144, 4, 4, 1))
    images[labels == 0, ::2] += 200
    images[labels == 1, :, ::2] += 200
    return Pool(images.astype(np.uint8), labels, classes=2, pixel_max=255.0, official_train=None)

@gapbench.optimizer(name="sign", options={"momentum": 0.0})
class Sign(Optimizer):
    """Moves by the sign of the gradient."""
    state_names = ()

    def move(self, tile, hyperparameters):
        tile.weights.add_(tile.gradients.sign(), alpha=-hyperparameters.learning_rate)

@gapbench.regime(name="twice")
def twice():
    """Twice the epochs."""
    return {"budget": {"kind": "epochs", "factor": 2.0}}

@gapbench.probe(stage="update")
def largest_weight(state):
    """Largest weight."""
    return {"largest_weight": state.weights.abs().amax(dim=1)}
'''

FILE = '''
import gapbench
from torch import nn
from my_layers import hidden

@gapbench.model(name="tiny")
def tiny(input_shape, classes, *, width: int = 8) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), *hidden(input_shape[0] * input_shape[1] * input_shape[2], width), nn.Linear(width, classes))
'''

LAYERS = """
from torch import nn

def hidden(inputs, width):
    return nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()
"""

SUITE = """
schema = 1
name = "own"
[run]
dataset = { name = "stripes", noise = 20 }
model = "tiny"
optimizer = "sign"
learning_rate = 0.01
epochs = 3
reference_batch_size = 8
probes = ["largest_weight"]
[grid]
batch_size = [8, 32]
regime = ["baseline", "twice"]
seed = [0]
"""


@pytest.fixture
def gapbench(tmp_path: Path):
    """Runs the command line in a process of its own, with the package installed (as Python sees it) and the file beside the suite."""
    site = tmp_path / "site"
    (site / "stripes_plugin-1.0.dist-info").mkdir(parents=True)
    (site / "stripes_plugin-1.0.dist-info" / "entry_points.txt").write_text("[gapbench.plugins]\nstripes = stripes_plugin\n")
    (site / "stripes_plugin-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stripes-plugin\nVersion: 1.0\n")
    (site / "stripes_plugin.py").write_text(PACKAGE)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "my_model.py").write_text(FILE)
    (folder / "my_layers.py").write_text(LAYERS)
    (folder / "suite.toml").write_text(SUITE)
    paths = os.pathsep.join([str(site), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "GAPBENCH_CACHE": str(tmp_path / "cache"), "COLUMNS": "160"}

    def call(*arguments: str, code: int = 0, where: Path = folder) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gapbench", *arguments], cwd=where, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


def test_a_file_and_a_package_go_all_the_way(gapbench, tmp_path):
    assert "Bright rows or bright columns" in gapbench("ls", "datasets")
    assert "One hidden layer." in gapbench("ls", "models", "--plugin", "my_model.py")
    assert "4 runs in 4 cells" in gapbench("plan", "suite.toml", "--plugin", "my_model.py")
    # From another folder, so that the module beside the plugin is found for its own sake.
    gapbench("run", "work/suite.toml", "--plugin", "work/my_model.py", "--devices", "cpu", where=tmp_path)
    import pandas as pd

    runs = pd.read_parquet(tmp_path / "results" / "own" / "runs.parquet")
    assert set(runs.outcome) == {"ok"}
    assert set(runs.updates) == {36, 72, 9, 18}
    curves = pd.read_parquet(tmp_path / "results" / "own" / "curves.parquet")
    assert set(curves.run_id[curves.metric == "largest_weight"]) == set(runs.run_id)
    gapbench("report", "results/own", where=tmp_path)  # needs no plugin file
    assert "not started" not in gapbench("status", "results/own", where=tmp_path)


def test_without_its_file_a_component_is_unknown(gapbench):
    assert 'unknown model "tiny"' in gapbench("plan", "suite.toml", code=2)
    assert 'unknown component "tiny"' in gapbench("test", "tiny", code=2)


def test_a_broken_component_ends_with_status_1_and_says_what_mends_it(call, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(FILE.replace("from my_layers import hidden\n", "hidden = lambda i, w: (nn.Linear(i, w), nn.Softmax(0))\n"))
    said = call("test", "--plugin", path, code=1).stdout
    assert "model tiny" in said
    assert "-> " in said
    assert "1 check failed" in said


def test_several_components_are_tested_by_name(call):
    said = call("test", "sgd", "weight_norm", "sqrt-lr").stdout
    assert all(text in said for text in ("optimizer sgd", "probe weight_norm", "regime sqrt-lr", "no check failed"))
