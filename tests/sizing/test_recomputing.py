"""Blocks pass forward twice where a batch cannot be cut and would keep too much; that is decided without looking at free memory."""

from __future__ import annotations

from gapbench import cost
from gapbench.sizing import recomputes, worth_compiling
from tests.small import make_model_spec


def test_only_a_large_batch_of_plain_batch_norm_is_recomputed() -> None:
    large = make_model_spec("resnet44", 4096)
    assert recomputes(large, "cpu")
    assert not recomputes(large, "cuda")
    assert not recomputes(make_model_spec("resnet44", 1024), "cpu")
    assert not recomputes(large.model_copy(update={"ghost_batch_size": 128}), "cpu")
    assert not recomputes(make_model_spec("c1", 65_536), "cpu")  # it has no blocks


def test_it_takes_less_memory_a_forward_pass_more_and_no_compiler() -> None:
    below, above = (make_model_spec("resnet44", size, updates=10_000) for size in (1600, 2048))
    assert [recomputes(spec, "cpu") for spec in (below, above)] == [False, True]
    assert [worth_compiling(spec, replicas=1, device_kind="cpu") for spec in (below, above)] == [True, False]
    held = [cost.held_mib(spec, replicas=1, device_kind="cpu") for spec in (below, above)]
    assert held[1] < held[0] / 3
    # 4 passes instead of 3.
    times = [cost.estimate(spec).seconds / spec.examples for spec in (below, above)]
    assert 1.2 < times[1] / times[0] < 1.4
