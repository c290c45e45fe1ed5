"""Recalibrated statistics: those of the given examples, and nothing is left behind."""

import torch
from torch import nn

from gapbench.layers.ghost_batch_norm import GhostBatchNorm
from gapbench.layers.norms import recalibrated


def test_statistics_are_those_of_the_examples_within_and_the_old_ones_after():
    torch.manual_seed(0)
    model = nn.Sequential(GhostBatchNorm(3, ghost_batch_size=8, running_statistics="sequential"))
    model(torch.randn(16, 3) + 50)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examples = torch.randn(64, 3) * 4 - 2
    model.eval()

    def forward() -> None:
        for part in examples.split(16):
            model(part)

    with recalibrated(model, forward):
        assert not model.training
        mean, variance = model[0].statistics()
        torch.testing.assert_close(mean, examples.mean(0))
        torch.testing.assert_close(variance, examples.var(0))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (model[0].momentum, model[0].running_statistics) == (0.1, "sequential")
