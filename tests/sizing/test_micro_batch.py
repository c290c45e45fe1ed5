"""Where batches are cut into micro-batches: only where that is exact, and as coarsely as the bound allows."""

import pytest

from gapbench import cost
from gapbench.sizing.decisions import exact_sizes, micro_batch_size
from gapbench.sizing.kinds import KINDS
from gapbench.suite.runspec import Component, Phase
from tests.small import MODELS

C1, RESNET44 = MODELS["c1"], MODELS["resnet44"]


def of(spec, model=C1, **changes):
    return spec(dataset=Component(name="cifar10"), model=model, train_examples=50_000, **changes)


def test_pieces_are_divisors_of_the_batch_that_the_ghost_batch_size_divides(spec):
    assert exact_sizes(of(spec, batch_size=1024, ghost_batch_size=128)) == [128, 256, 512, 1024]
    assert exact_sizes(of(spec, batch_size=384, ghost_batch_size=128)) == [128, 384]


def test_plain_batch_norm_is_never_cut(spec):
    assert exact_sizes(of(spec, batch_size=4096)) == [4096]
    assert micro_batch_size(of(spec, model=RESNET44, batch_size=4096), "cpu") == 4096


def test_pieces_of_a_growing_batch_are_those_of_its_largest(spec):
    growing = {"phases": (Phase(), Phase(start=0.5, batch_size_factor=4.0)), "unramped_updates": 100, "updates": 50 + 1 + 12}
    assert exact_sizes(of(spec, batch_size=256, ghost_batch_size=128, **growing)) == [128, 256, 512, 1024]
    assert micro_batch_size(of(spec, batch_size=256, ghost_batch_size=128, **growing), "cpu") == 256
    assert micro_batch_size(of(spec, batch_size=256, **growing), "cpu") == 1024  # plain batch norm is never cut


def test_without_batch_norm_any_divisor_will_do(spec):
    bare = Component(name="mlp", options={"widths": [16], "norm": "none", "bias": True})
    assert exact_sizes(of(spec, model=bare, batch_size=12)) == [1, 2, 3, 4, 6, 12]


def test_a_model_of_unknown_size_trains_whole(spec):
    assert micro_batch_size(of(spec, model=Component(name="somebodys-own"), batch_size=1024, ghost_batch_size=128), "cpu") == 1024


def test_the_largest_piece_within_the_bound_is_chosen(spec):
    assert micro_batch_size(of(spec, batch_size=1024, ghost_batch_size=128), "cpu") == 256
    assert micro_batch_size(of(spec, batch_size=256, ghost_batch_size=128), "cpu") == 256
    assert micro_batch_size(of(spec, model=RESNET44, batch_size=1024, ghost_batch_size=128), "cpu") == 128  # one group is the least


@pytest.mark.parametrize("device_kind", ["cpu", "cuda"])
def test_memory_does_not_grow_with_a_batch_that_is_cut(spec, device_kind):
    small, large = (
        cost.estimate(of(spec, model=RESNET44, batch_size=size, ghost_batch_size=128), device_kind=device_kind) for size in (512, 65_536)
    )
    assert large.memory_mib <= small.memory_mib + KINDS[device_kind].piece_mib  # 128 times the examples
