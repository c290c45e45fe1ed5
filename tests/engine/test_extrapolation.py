"""Runs that extrapolate: what moves and what does not, stacks, resumes, until when, prices and budgets."""

import functools

import pytest
import torch

from gapbench.cost.estimate import training_flops_per_update
from gapbench.engine.prepared import why_not_recorded
from gapbench.sizing.decisions import exact_sizes
from gapbench.suite.runspec import Extrapolation
from gapbench.suite.schema import LOOKS_TWICE
from tests.engine.runs import advance, make_trainer
from tests.small import make_model_spec, make_optimizer, make_pool, make_spec

STEPS = {
    "past-local": 0.1, "past-global": 0.1, "past-centered": 0.1, "fresh-local": 0.1, "same-batch": 0.1,
    "gauss": 0.01, "uniform": 0.01, "momentum": 0.5, "sam": 0.05,
}  # fmt: skip


def rule(direction, **changes):
    workers = 1 if direction in ("past-global", "momentum") else 2
    fields = {"direction": direction, "step": STEPS[direction], "schedule": "constant", "workers": workers, "until": 1.0}
    return Extrapolation(**fields | changes)


def trainer(*seeds, direction=None, **changes):
    """A trainer of one seed or a stack; without a direction of plain runs."""
    fields = {"extrapolation": None if direction is None else rule(direction), "ghost_batch_size": 5, "updates": 60}
    specs = [make_spec(seed=seed, **fields | changes) for seed in seeds]
    return make_trainer(specs, make_pool(height=8, channels=3), micro_batch_size=10)


@pytest.mark.parametrize("direction", STEPS)
def test_state_and_norm_statistics_advance_once_an_update_and_gradients_are_counted(direction, monkeypatch):
    built = trainer(0, direction=direction, optimizer=make_optimizer("adamw"), learning_rate=1e-3)
    passes = []
    monkeypatch.setattr(built.network, "backward", functools.partial(count, built.network.backward, passes))
    advance(3, built)
    assert built.program.optimizer._steps == 3
    assert {int(norm.steps) for norm in built.network.norms} == {3}
    assert len(passes) == 3 * 2 * (2 if direction in LOOKS_TWICE else 1)  # of two micro-batches
    assert built.spec.gradients_per_update == len(passes) / 6
    assert built.spec.gradients(3) == 3 * 20 * built.spec.gradients_per_update


def count(backward, passes, *args, **options):
    passes.append(1)
    return backward(*args, **options)


@pytest.mark.parametrize("direction", STEPS)
def test_a_stop_changes_nothing_and_a_stack_trains_as_single_runs_do(direction):
    stack, stopped = trainer(0, 1, direction=direction), trainer(0, 1, direction=direction)
    alone = trainer(1, direction=direction)
    advance(3, stack, stopped, alone)
    assert torch.equal(stack.network.weights[1], alone.network.weights[0])
    resumed = trainer(0, 1, direction=direction)
    resumed.restore([stopped.snapshot(0), stopped.snapshot(1)])
    advance(3, stack, resumed)
    assert torch.equal(stack.network.weights, resumed.network.weights)


@pytest.mark.parametrize("direction", STEPS)
def test_it_differs_from_plain_training_from_the_update_on_at_which_it_looks_elsewhere_and_until_it_ends(direction):
    plain, ours = trainer(0), trainer(0, direction=direction, extrapolation=rule(direction, until=0.05))
    assert ours.spec.extrapolated_updates == 3
    advance(1, plain, ours)
    looks_back = direction.startswith("past-") or direction == "momentum"
    assert torch.allclose(plain.network.weights, ours.network.weights, rtol=1e-4, atol=1e-6) == looks_back
    advance(2, plain, ours)
    assert not torch.allclose(plain.network.weights, ours.network.weights, rtol=1e-4, atol=1e-6)
    ours.network.weights.copy_(plain.network.weights)
    for name, state in ours.program.optimizer.state.items():
        state.copy_(plain.program.optimizer.state[name])
    advance(1, plain, ours)
    assert torch.equal(plain.network.weights, ours.network.weights)


def test_a_step_that_goes_with_the_rate_follows_its_schedule():
    built = trainer(0, extrapolation=rule("past-local", step=2.0, schedule="rate"))
    rates = built.program._schedules[0].learning_rate
    assert built.program._steps[:, 0].tolist() == (2.0 * rates).tolist()


def test_momentum_resets_forget_the_gradients_of_workers():
    built = trainer(0, direction="past-local", momentum_reset="epoch")
    advance(5, built)
    assert built.program.extrapolated.past.any()
    built.program.extrapolated.reset()
    assert not built.program.extrapolated.past.any()


def test_random_directions_are_independent_between_draws_weights_and_seeds():
    network, noise = (built := trainer(0, 1, direction="gauss")).network, built.program.noise
    for kind, largest in (("gauss", 6.4), ("uniform", 3**0.5)):
        first, second = (noise.directions(kind, network.layers, network.weights, draw) for draw in (0, 1))
        inside = torch.cat([first[:, layer.start : layer.stop] for layer in network.layers], dim=1)
        error = inside.shape[1] ** -0.5
        assert inside.mean(dim=1).abs().max() < 4 * error
        assert (inside.var(dim=1) - 1).abs().max() < 6 * error
        assert inside.abs().max() <= largest
        for one, other in ((first[0], first[1]), (first[0], second[0])):
            assert abs(torch.nn.functional.cosine_similarity(one, other, dim=0)) < 4 * error
        assert torch.equal(first, noise.directions(kind, network.layers, network.weights, 0))


def test_prices_and_micro_batches_follow_from_gradients_and_workers():
    plain = make_model_spec("resnet44", 1024, ghost_batch_size=128)
    local, sam = (plain.model_copy(update={"extrapolation": rule(name, workers=4, until=0.5)}) for name in ("past-local", "sam"))
    assert exact_sizes(plain)[-1] == 1024
    assert exact_sizes(local) == [128, 256]
    assert training_flops_per_update(local) == training_flops_per_update(plain)
    assert training_flops_per_update(sam) == pytest.approx(1.5 * training_flops_per_update(plain))
    assert sam.gradients(1000) == 1500 * 1024
    assert sam.gradients(100) == 200 * 1024
    assert why_not_recorded(plain) == ""
    assert "host's count" in why_not_recorded(sam)
