"""Plugins that changed, that are not the same twice, or that promise what they do not give are named in words."""

from __future__ import annotations

import pytest

from gapbench import api
from gapbench.core.errors import DataError
from gapbench.store import read_plan
from gapbench.workloads import datasets

MODEL = '''
import gapbench
from torch import Tensor, nn
from gapbench.probes import TrainState

@gapbench.model(name="own")
def own(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """One layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
'''
SUITE = """
schema = 1
name = "own"
[run]
recipe = "digits"
model = "own"
batch_size = 300
epochs = 1
PROBES
[grid]
seed = [0, 1]
"""
PROBES = '''
@gapbench.probe(stage="update", metrics=["a_share", "b_share"], per_layer=True)
def two(state: TrainState) -> dict[str, Tensor]:
    """Declares two metrics and layers, returns one number."""
    return {"a_share": state.weights.abs().mean(dim=1)}

@gapbench.probe(stage="update", metrics=["only_layers"], per_layer=True)
def three(state: TrainState) -> dict[str, Tensor]:
    """Declares layers, and returns none."""
    return {"only_layers": state.weights.abs().mean(dim=1)}

@gapbench.probe(stage="evaluation")
def other(state: TrainState) -> dict[str, Tensor]:
    """Returns another metric."""
    return {"another": state.weights.abs().mean(dim=1)}
'''


@pytest.fixture
def trained(own_folder, no_figures):
    """Trains the suite with the plugin as it stands in the file; returns the report and what was said."""

    def train(plugin=MODEL, probes="", **how):
        (own_folder / "my plug.py").write_text(plugin)
        (own_folder / "own.toml").write_text(SUITE.replace("PROBES", probes))
        said = []
        found = api.run(own_folder / "own.toml", plugins=["my plug.py"], devices="cpu", observe=said.append, **how)
        return found, [notice.text for notice in said if hasattr(notice, "text")]

    return train


def test_a_plugin_that_changed_since_its_runs_were_trained_is_named(trained, own_folder):
    first, said = trained()
    assert not any("changed" in text for text in said)
    before = first.frame()["plugins"].unique()
    assert [text.rpartition(" ")[0] for text in before] == ["my plug.py"]
    assert not any("changed" in text for text in trained()[1])
    _, said = trained(MODEL + "# changed\n")
    (told,) = [text for text in said if "changed" in text]
    assert told.startswith("my plug.py has changed since 2 runs of this suite trained with it")
    again, said = trained(MODEL + "# changed\n", force=True, only="seed=1")
    assert not any("changed" in text for text in said)
    assert len(again.frame()["plugins"].unique()) == 2
    assert "my plug.py was changed between runs: 1 run with " in (again.results / "report.html").read_text()


def test_the_page_says_the_command_with_its_plugins_and_without_folders(trained, own_folder):
    found, _ = trained(command=f"gapbench run own.toml --plugin '{own_folder / 'my plug.py'}'")
    page = (found.results / "report.html").read_text()
    assert "gapbench run own.toml --plugin" in page
    assert "my plug.py" in page
    assert str(own_folder) not in page
    found, _ = trained(settings=None)
    assert len(read_plan(found.results / "plan.parquet").commands) == 2  # the call from Python, as a command
    trained()
    assert len(read_plan(found.results / "plan.parquet").commands) == 2


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ("two", 'probe "two" does not return b_share; return every metric that it is declared with, at every call'),
        ("three", 'probe "three" is declared with per_layer and returns no only_layers/layer; return it, [replica, layer], or leave out'),
        ("other", 'probe "other" returns another, and is declared with other; declare them'),
    ],
)
def test_a_probe_that_promises_what_it_does_not_give_is_named(trained, probe, words):
    found, _ = trained(MODEL + PROBES, f'probes = ["{probe}"]')
    assert {reason[: len(words)] for reason in found.frame()["reason"]} == {words}


DATA = '''
import gapbench, numpy as np
from gapbench.workloads.datasets import DataContext, Pool

@gapbench.dataset(name="rnd", train_examples=40, test_examples=20, shape=(4,), classes=2, pixel_max=1.0)
def rnd(context: DataContext) -> Pool:
    """Drawn with SEED."""
    x = np.random.default_rng(SEED).normal(size=(60, 4)).astype("f4")
    return Pool(x, LABELS.astype("i8"), classes=2, pixel_max=1.0, official_train=40)
'''
OF_DATA = """
schema = 1
name = "rnd"
[run]
dataset = "rnd"
model = { name = "mlp", widths = [4] }
optimizer = "sgd"
epochs = 1
reference_batch_size = 8
batch_size = 8
learning_rate = 0.05
normalization = "feature"
"""


@pytest.mark.parametrize(
    ("seed", "labels", "words"),
    [("", "(x[:, 0] > 0)", "images and labels"), ("0", "np.random.permutation(np.arange(60) % 2)", "labels"), ("0", "(x[:, 0] > 0)", "")],
)
def test_a_data_set_that_is_not_the_same_twice_is_refused_before_training(own_folder, no_figures, seed, labels, words):
    (own_folder / "rnd.py").write_text(DATA.replace("SEED", seed).replace("LABELS", labels))
    (own_folder / "rnd.toml").write_text(OF_DATA)
    datasets.forget()
    if not words:
        assert api.run(own_folder / "rnd.toml", plugins=["rnd.py"], devices="cpu").exit_status == 0
        return
    with pytest.raises(DataError, match=f"rnd: its loader gives other {words} each time that it is called.*fixed seed"):
        api.run(own_folder / "rnd.toml", plugins=["rnd.py"], devices="cpu")
    assert not (own_folder / "results").exists()
