"""A user's own probes run at the stage that they name, and see what that stage promises."""

import pytest

from gapbench.catalog import plugins, probes
from gapbench.core.events import Measured, WeightsKept
from gapbench.engine import train
from gapbench.suite.runspec import Component

PLUGIN = """
import gapbench.catalog.plugins as plugins

CALLS = {}

def measured(stage, state):
    CALLS.setdefault(stage, []).append(state.update)
    return {f"own_{stage}": state.gradients.norm(dim=1)}

@plugins.probe(stage="micro-batch", name="own_micro_batch", metrics=["own_micro_batch"])
def own_micro_batch(state):
    return measured("micro_batch", state)

@plugins.probe(stage="update", name="own_update")
def own_update(state):
    return measured("update", state)

@plugins.probe(stage="evaluation", name="own_evaluation")
def own_evaluation(state):
    return measured("evaluation", state)

@plugins.probe(stage="checkpoint", name="own_checkpoint")
def own_checkpoint(state):
    return measured("checkpoint", state)
"""
NAMES = ("own_micro_batch", "own_update", "own_evaluation", "own_checkpoint")


@pytest.fixture
def calls(tmp_path):
    """By stage, the updates at which the plugin's probe was called."""
    (tmp_path / "own.py").write_text(PLUGIN)
    plugins.load_plugins([tmp_path / "own.py"])
    from gapbench.core.registry import load_target

    return load_target(probes()["own_update"].target).__globals__["CALLS"]


def test_each_stage_is_called_when_it_says(calls, spec, pool, split):
    events = []
    wanted = spec(probes=NAMES, keep_weights=(0.0, 0.37), clip_norm=0.01)
    train([wanted], pool(), [split(pool())], device="cpu", emit=events.append, stop=lambda: None)
    assert calls["checkpoint"] == [0, 11]
    # Before the first update there is no gradient: nothing is recorded of it.
    assert [event.update for event in events if isinstance(event, Measured) for name, _, _ in event.values if name == "own_checkpoint"] == [
        11
    ]
    assert calls["evaluation"][-1] == 30
    assert calls["update"][-1] == 30
    assert set(calls["update"]) <= set(calls["micro_batch"])
    values = {name: value for event in events if isinstance(event, Measured) and event.update == 30 for name, _, value in event.values}
    # Micro-batch probes see the gradient as it came, update probes the clipped one.
    assert values["own_micro_batch"] == pytest.approx(values["gradient_norm"])
    assert values["own_update"] == pytest.approx(0.01, rel=1e-3)


def test_probes_that_the_suite_does_not_name_do_not_run(calls, spec, pool, split):
    train([spec()], pool(), [split(pool())], device="cpu", emit=lambda _event: None, stop=lambda: None)
    assert calls == {}


def test_options_reach_the_probe_and_fractions_say_when(spec, pool, split, tmp_path):
    (tmp_path / "own.py").write_text(
        "import gapbench\n"
        '@gapbench.probe(stage="checkpoint", metrics=["many"], vectors=["many"])\n'
        "def many(state, *, count: int = 2):\n"
        '    """So many numbers."""\n'
        '    return {"many/bucket": state.weights[:, :count]}\n'
    )
    plugins.load_plugins([tmp_path / "own.py"])
    events = []
    asked = Component(name="many", options={"count": 3, "at": [0.0, 0.5]})
    train([spec(probes=(asked,), keep_weights=(1.0,))], pool(), [split(pool())], device="cpu", emit=events.append, stop=lambda: None)
    found = [(event.update, layer) for event in events if isinstance(event, Measured) for name, layer, _ in event.values if name == "many"]
    assert found == [(update, layer) for update in (0, 15) for layer in ("0", "1", "2")]
    assert [event.update for event in events if isinstance(event, WeightsKept)] == [30]
