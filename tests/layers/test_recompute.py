"""Recomputed blocks: which they are, and that training with them is training without them, bit by bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gapbench.layers.recompute import blocks_of
from gapbench.suite.runspec import Component
from gapbench.workloads.models.resnet import resnet, resnet_imagenet, wresnet
from tests.engine.runs import advance, make_trainer
from tests.small import make_pool, make_spec

RESNET = Component(name="resnet", options={"depth": 8})


def test_blocks_are_the_parts_of_sequences_with_several_layers() -> None:
    assert len(blocks_of(resnet((3, 32, 32), 10, depth=20))) == 9
    assert len(blocks_of(wresnet((3, 32, 32), 10, form="preactivation"))) == 6
    assert len(blocks_of(resnet_imagenet((3, 64, 64), 10, depth=26))) == 8
    assert blocks_of(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))) == []
    nested = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), nn.ReLU()), nn.Linear(2, 2))
    assert blocks_of(nested) == [nested[0][0]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("statistics", ["mean", "sequential"])
def test_recomputed_updates_and_running_statistics_are_those_of_plain_ones(statistics: str, precision: str) -> None:
    spec = make_spec(model=RESNET, running_statistics=statistics, precision=precision, clip_norm=0.5, crop_padding=1, flip=True)
    plain, recomputed = (make_trainer([spec], make_pool(height=8, channels=3), recomputes=again) for again in (False, True))
    advance(4, plain, recomputed)
    assert (plain.program.kind, recomputed.program.kind) == ("eager", "eager, recomputed")
    assert torch.equal(plain.network.weights, recomputed.network.weights)
    for ours, theirs in zip(recomputed.network.norms, plain.network.norms, strict=True):
        assert torch.equal(ours.running_mean, theirs.running_mean)
        assert torch.equal(ours.running_var, theirs.running_var)
        assert torch.equal(ours.steps, theirs.steps)


def test_blocks_pass_forward_twice_and_keep_less(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: dict[bool, int] = {}
    for again in (False, True):
        trainer = make_trainer([make_spec(model=RESNET)], make_pool(height=8, channels=3), recomputes=again)
        convolution = trainer.network.module.stage3[0].conv2
        seen: list[int] = []
        convolution.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        advance(1, trainer)
        passes[again] = len(seen)
    assert passes == {False: 1, True: 2}


def test_a_measured_gradient_at_other_weights_is_that_at_these_weights() -> None:
    """A second pass would read the network's own weights: those that are put in their place are gone by then."""
    spec = make_spec(model=RESNET)
    plain, recomputed = (make_trainer([spec], make_pool(height=8, channels=3), recomputes=again, objective=True) for again in (False, True))
    advance(1, plain, recomputed)
    found = []
    for trainer in (plain, recomputed):
        objective = trainer.program.objective
        assert objective is not None
        found.append(objective.gradient(objective.batch(), trainer.network.weights * 1.1))
    assert torch.equal(*found)
