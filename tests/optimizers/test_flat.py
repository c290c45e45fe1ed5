"""Flat optimizers against torch.optim on separate tensors."""

import pytest
import pytorch_optimizer
import torch
from torch.optim.sgd import sgd

from gapbench.layers.rows import Columns
from gapbench.optimizers import FlatBuffers, Hyperparameters, Optimizer
from gapbench.optimizers.adam import Adam
from gapbench.optimizers.adamw import AdamW
from gapbench.optimizers.lion import Lion
from gapbench.optimizers.sgd import SGD

CASES = [
    (SGD, {"momentum": 0.9}, torch.optim.SGD),
    (SGD, {"momentum": 0.9, "nesterov": True}, torch.optim.SGD),
    (SGD, {"momentum": 0.0}, torch.optim.SGD),
    (Adam, {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6}, torch.optim.Adam),
    (Lion, {"beta1": 0.8, "beta2": 0.95}, pytorch_optimizer.Lion),
    (AdamW, {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6}, torch.optim.AdamW),
]


def reference(kind: type, options: dict, hyperparameters: Hyperparameters, tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
    if kind is torch.optim.SGD:
        return kind(tensors, lr=1.0, momentum=hyperparameters.momentum, nesterov=options.get("nesterov", False))
    if kind is pytorch_optimizer.Lion:
        return kind(tensors, lr=1.0, betas=(options["beta1"], options["beta2"]))
    return kind(tensors, lr=1.0, betas=(options["beta1"], options["beta2"]), eps=options["epsilon"])


def on_host(optimizer: Optimizer, rows: list[Hyperparameters]) -> None:
    optimizer.update(rows)


def on_device(optimizer: Optimizer, rows: list[Hyperparameters]) -> None:
    """As a recorded update does, with hyperparameters in tensors."""
    optimizer.update(Hyperparameters.on_device(rows))


@pytest.mark.parametrize(("flat", "options", "plain"), CASES)
@pytest.mark.parametrize("decayed", [0, 32, 48])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("move", [on_host, on_device])
def test_rows_move_as_torchs_own_optimizer_moves_tensors(flat, options, plain, decayed, shared, move):
    torch.manual_seed(0)
    weights, gradients = torch.randn(2, 48), torch.zeros(2, 48)
    rates = [0.1, 0.1 if shared else 0.03]
    tensors = [[row[:decayed].clone(), row[decayed:].clone()] for row in weights]
    optimizer = flat(FlatBuffers(weights, gradients, decayed), options, shared=shared)
    momentum = options.get("momentum", 0.0)
    oracles = []
    for row in tensors:
        for tensor in row:
            tensor.requires_grad_()
        oracles.append([reference(plain, options, Hyperparameters(0.0, 0.0, momentum), [tensor]) for tensor in row])
    for step in range(6):
        gradients.normal_()
        factor = 1.0 if step < 3 else 0.1  # hyperparameters change from update to update
        rows = [Hyperparameters(rate * factor, 1e-2, momentum) for rate in rates]
        kept = gradients.clone()
        move(optimizer, rows)
        assert torch.equal(gradients, kept)  # probes look at them afterwards
        for row, (parts, pair) in enumerate(zip(tensors, oracles, strict=True)):
            for part, oracle in enumerate(pair):
                columns = slice(0, decayed) if part == 0 else slice(decayed, 48)
                parts[part].grad = gradients[row, columns].clone()
                oracle.param_groups[0].update(lr=rows[row].learning_rate, weight_decay=1e-2 if part == 0 else 0.0)
                if len(parts[part]):
                    oracle.step()
    for row, parts in enumerate(tensors):
        torch.testing.assert_close(weights[row], torch.cat([part.detach() for part in parts]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("flat", "options", "_plain"), CASES)
def test_a_restored_replica_goes_on_bit_by_bit_in_another_stack(flat, options, _plain):
    torch.manual_seed(0)
    start, noise = torch.randn(3, 32), torch.randn(8, 3, 32)
    hyperparameters = [Hyperparameters(0.1, 1e-3, options.get("momentum", 0.0))]

    def run(rows: list[int], steps: range, weights: torch.Tensor, snapshots: list[dict] | None) -> tuple[torch.Tensor, list[dict]]:
        gradients = torch.zeros_like(weights)
        optimizer = flat(FlatBuffers(weights, gradients, 32), options, shared=True)
        for position, snapshot in enumerate(snapshots or []):
            optimizer.restore(position, snapshot)
        for step in steps:
            gradients.copy_(noise[step][rows])
            optimizer.update(hyperparameters * len(rows))
        return weights, [optimizer.snapshot(position, steps.stop) for position in range(len(rows))]

    whole, _ = run([0, 1, 2], range(8), start.clone(), None)
    half, snapshots = run([0, 1, 2], range(4), start.clone(), None)
    rest, _ = run([2], range(4, 8), half[2:].clone(), snapshots[2:])
    assert torch.equal(whole[2], rest[0])


@pytest.mark.parametrize(("options", "momentum"), [({}, 0.9), ({"nesterov": True}, 0.9), ({}, 0.0)])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
@pytest.mark.parametrize("columns", [48, 1008])
def test_sgd_has_the_bits_of_torchs_fused_step(options, momentum, weight_decay, columns):
    torch.manual_seed(0)
    weights, gradients, velocity = torch.randn(1, columns), torch.zeros(1, columns), torch.zeros(columns)
    plain = weights[0].clone()
    optimizer = SGD(FlatBuffers(weights, gradients, columns), options, shared=True)
    for _ in range(5):
        gradients.normal_()
        optimizer.update([Hyperparameters(0.1, weight_decay, momentum)])
        sgd(
            [plain], [gradients[0]], [velocity], fused=True, lr=0.1, momentum=momentum, weight_decay=weight_decay,
            dampening=0.0, nesterov=options.get("nesterov", False), maximize=False,
        )  # fmt: skip
    assert torch.equal(weights[0], plain)


class Normalized(Optimizer):
    """Each tensor moves by the rate, whatever the length of its gradient: a rule by layers in two lines."""

    state_names = ()
    layerwise = True

    def move(self, tile, hyperparameters):
        self.seen.append((tile.replica, tile.tensor.name, tile.decays))
        tile.weights.sub_(hyperparameters.learning_rate * tile.gradients / tile.gradients.norm())


@pytest.mark.parametrize("move", [on_host, on_device])
@pytest.mark.parametrize("shared", [True, False])
def test_a_layerwise_rule_gets_each_tensor_of_each_replica_by_itself_without_the_padding(shared, move):
    tensors = (Columns("kernel", 0, 12, (3, 4)), Columns("matrix", 16, 22, (2, 3)), Columns("bias", 24, 28, (4,)))
    weights, gradients = torch.zeros(2, 32), torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    optimizer = Normalized(FlatBuffers(weights, gradients, 24, tensors), {}, shared=shared)
    optimizer.seen = []
    rates = [0.5, 0.5 if shared else 0.25]
    move(optimizer, [Hyperparameters(rate, 1e-2, 0.9) for rate in rates])
    assert optimizer.seen == [(row, name, name != "bias") for row in range(2) for name in ("kernel", "matrix", "bias")]
    for row, rate in enumerate(rates):
        for tensor in tensors:
            assert weights[row, tensor.start : tensor.stop].norm() == pytest.approx(rate)
    padding = [column for column in range(32) if not any(tensor.start <= column < tensor.stop for tensor in tensors)]
    assert not weights[:, padding].any()
