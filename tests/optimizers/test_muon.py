"""Muon on flat rows against torch's on matrices and AdamW on the rest."""

import functools

import pytest
import torch

from gapbench.core.errors import TrainingError
from gapbench.engine.prepared import PreparedProgram
from gapbench.layers.rows import Columns
from gapbench.optimizers import FlatBuffers, Hyperparameters
from gapbench.optimizers.muon import Muon
from gapbench.suite.runspec import Component
from tests.engine.emulated_graphs import EmulatedGraphs
from tests.engine.runs import advance, make_trainer
from tests.small import make_optimizer, make_pool, make_spec

TENSORS = (
    Columns("kernel", 0, 36, (2, 2, 3, 3)), Columns("wide", 48, 96, (4, 12)), Columns("tall", 96, 192, (16, 6)),
    Columns("output", 192, 204, (3, 4)), Columns("bias", 208, 216, (8,)),
)  # fmt: skip
RATES = [0.25, 0.5, 0.125, 0.0625]


def walk(options, replicas=1, *, on_device=False, tensors=TENSORS):
    """Returns the weights [replica, parameters] after some updates; replica and update alone decide their gradients."""
    draws = [torch.randn(len(RATES) + 1, 224, generator=torch.Generator().manual_seed(replica)) for replica in range(replicas)]
    rows = torch.stack(draws)
    for tensor, following in zip(TENSORS, [*(other.start for other in TENSORS[1:]), 224], strict=True):
        rows[:, :, tensor.stop : following] = 0.0
    weights, gradients = rows[:, 0].clone(), torch.zeros(replicas, 224)
    optimizer = Muon(FlatBuffers(weights, gradients, 208, tensors), make_optimizer("muon", **options).options, shared=True)
    for update, rate in enumerate(RATES, 1):
        gradients.copy_(rows[:, update])
        now = [Hyperparameters(rate, 0.1, 0.9)] * replicas
        optimizer.update(Hyperparameters.on_device(now) if on_device else now)
        assert torch.equal(gradients, rows[:, update])
    return weights, rows


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("output_layer", ["adamw", "muon"])
def test_matrices_move_as_torchs_muon_moves_them_and_the_rest_as_adamw(nesterov, adjust, output_layer):
    weights, rows = walk({"nesterov": nesterov, "adjust": adjust, "output_layer": output_layer})
    for tensor in TENSORS:
        own = rows[0, :, tensor.start : tensor.stop]
        is_matrix = len(tensor.shape) > 1 and (tensor.name != "output" or output_layer == "muon")
        shape = (tensor.shape[0], -1) if is_matrix else (-1,)
        parameter = own[0].clone().view(shape).requires_grad_()
        decay = 0.1 if tensor.start < 208 else 0.0
        if is_matrix:
            oracle = torch.optim.Muon([parameter], momentum=0.9, weight_decay=decay, nesterov=nesterov, adjust_lr_fn=adjust)
        else:
            oracle = torch.optim.AdamW([parameter], weight_decay=decay, fused=True)
        for update, rate in enumerate(RATES, 1):
            parameter.grad = own[update].clone().view(shape)
            oracle.param_groups[0]["lr"] = rate
            oracle.step()
        assert torch.equal(weights[0, tensor.start : tensor.stop], parameter.detach().view(-1)), tensor.name


def test_the_singular_values_of_a_step_are_near_one():
    weights, (rows,) = torch.zeros(1, 224), walk({})[1]
    optimizer = Muon(FlatBuffers(weights, rows[:1].clone(), 0, TENSORS), make_optimizer("muon", adjust="original").options, shared=True)
    optimizer.update([Hyperparameters(1.0, 0.0, 0.9)])
    values = torch.linalg.svdvals(weights[0, 48:96].view(4, 12))
    assert 0.5 < values.min() <= values.max() < 1.5


@pytest.mark.parametrize("on_device", [False, True])
def test_replicas_of_a_stack_move_as_each_does_alone(on_device):
    together, _ = walk({}, 3, on_device=on_device)
    alone, _ = walk({})
    torch.testing.assert_close(together[0], alone[0], rtol=1e-5 if on_device else 0.0, atol=1e-5 if on_device else 0.0)
    assert torch.equal(together, walk({}, 3, on_device=on_device)[0])


@pytest.mark.parametrize("tensors", [TENSORS[4:], TENSORS[3:]])
def test_a_model_without_matrices_is_refused(tensors):
    with pytest.raises(TrainingError, match="muon moves matrices, and the model has none beside its output layer"):
        walk({}, tensors=tensors)


def test_updates_are_recorded_and_a_stop_changes_nothing():
    spec = make_spec(optimizer=make_optimizer("muon"), learning_rate=1e-2, model=Component(name="resnet", options={"depth": 8}), updates=60)
    plain, straight, stopped = (make_trainer([spec], make_pool(height=8, channels=3)) for _ in range(3))
    ours = make_trainer([spec], make_pool(height=8, channels=3), make=functools.partial(PreparedProgram, graphs=EmulatedGraphs()))
    ours.prepare()
    assert (ours.program.kind, ours.program.refused) == ("graph", ())
    advance(3, ours, plain, straight, stopped)
    torch.testing.assert_close(ours.network.weights, plain.network.weights, rtol=0.0, atol=1e-3)  # torch makes matrices orthogonal in bf16
    resumed = make_trainer([spec], make_pool(height=8, channels=3))
    resumed.restore([stopped.snapshot(0)])
    advance(3, straight, resumed)
    assert torch.equal(straight.network.weights, resumed.network.weights)
