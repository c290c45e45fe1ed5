"""Triton's kernels of ghost batch norm on a CUDA device. Skipped where there is none."""

import pytest
import torch
from torch import nn

from gapbench.layers import ghost_batch_norm
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, ghost_norm_form, normalize_triton, triton_applies, triton_trouble
from gapbench.layers.ghost_math import normalize_chunks, normalize_groups

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
SHAPES = [(4, (24, 10)), (32, (4096, 512)), (3, (6, 10, 5, 3)), (8, (256, 16, 32, 32)), (4, (64, 64, 8, 8)), (2, (22, 24, 17, 17))]
TYPES = [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)]


def drawn(shape, seed, dtype, mean=1.0):
    values = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2.0 + mean).to("cuda", dtype)
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


def affine(channels):
    generator = torch.Generator().manual_seed(7)
    return (torch.rand(channels, generator=generator) + 0.5).cuda(), torch.randn(channels, generator=generator).cuda()


def everything(form, inputs, groups, weight, bias, direction):
    places = [item.detach().clone(memory_format=torch.preserve_format).requires_grad_() for item in (inputs, weight, bias)]
    outputs, moments = form(places[0], groups, places[1], places[2], 1e-5)
    return [outputs.detach(), moments.mean, moments.variance, *torch.autograd.grad(outputs, places, direction)]


@pytest.mark.parametrize(("groups", "shape"), SHAPES)
@pytest.mark.parametrize(("dtype", "share"), TYPES)
def test_the_kernels_equal_batch_norm_chunk_by_chunk_and_repeat_their_bits(groups, shape, dtype, share):
    inputs, direction, (weight, bias) = drawn(shape, 0, dtype), drawn(shape, 1, dtype, mean=0.0), affine(shape[1])
    ours, again = (everything(normalize_triton, inputs, groups, weight, bias, direction) for _ in range(2))
    oracle = everything(normalize_chunks, inputs.double(), groups, weight.double(), bias.double(), direction.double())
    for a, b, c in zip(ours, again, oracle, strict=True):
        assert torch.equal(a, b)
        assert float((a.double() - c).abs().max()) <= share * max(1.0, float(c.abs().max()))


@pytest.mark.parametrize(("dtype", "share"), TYPES)
def test_a_layer_takes_the_kernels_here(dtype, share):
    inputs = drawn((32, 24, 8, 8), 0, dtype)
    layer = GhostBatchNorm(24, ghost_batch_size=8).cuda()
    assert triton_applies(inputs, 4, layer.weight), triton_trouble()
    with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
        outputs = layer(inputs).detach()
    assert ghost_norm_form(nn.Sequential(layer)) == "triton"
    assert outputs.dtype == dtype
    expected = normalize_groups(inputs, 4, layer.weight, layer.bias, layer.epsilon)[0].detach()
    assert float((outputs - expected).abs().max()) <= share * float(expected.abs().max())


def test_a_captured_graph_replays_forward_and_backward():
    inputs, direction, (weight, bias) = drawn((32, 16, 8, 8), 0, torch.bfloat16), drawn((32, 16, 8, 8), 1, torch.bfloat16), affine(16)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            everything(normalize_triton, inputs, 4, weight, bias, direction)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(normalize_triton, inputs, 4, weight, bias, direction)
    inputs.copy_(drawn((32, 16, 8, 8), 5, torch.bfloat16))
    graph.replay()
    for a, b in zip(captured, everything(normalize_triton, inputs, 4, weight, bias, direction), strict=True):
        assert torch.equal(a, b)


def test_a_first_use_inside_a_capture_takes_the_plain_form_and_says_so(monkeypatch):
    monkeypatch.setattr(ghost_batch_norm, "_troubles", {})
    inputs, layer = drawn((8, 16, 4, 4), 0, torch.float32), GhostBatchNorm(16, ghost_batch_size=4).cuda()
    normalize_groups(inputs, 2, layer.weight, layer.bias, layer.epsilon)
    torch.cuda.synchronize()
    with torch.no_grad(), torch.cuda.graph(torch.cuda.CUDAGraph()):
        layer(inputs)
    assert ghost_norm_form(nn.Sequential(layer)) == "groups (no triton)"
    assert "graph capture" in str(triton_trouble())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_layer_keeps_the_kernels_in_one_graph(dtype):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), GhostBatchNorm(16, ghost_batch_size=8), nn.ReLU())
    network = network.cuda().to(memory_format=torch.channels_last)
    network[1].deferred = True
    images = drawn((32, 3, 10, 10), 0, torch.float32)

    def gradients(function):
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = function(images).float().square().mean()
        return torch.autograd.grad(loss, list(network.parameters()))

    eager = gradients(network)
    compiled = gradients(torch.compile(network, fullgraph=True))
    assert ghost_norm_form(network) == "triton"
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2 if dtype == torch.bfloat16 else 1e-3, atol=1e-3)


def test_nothing_waits_for_the_device_once_the_kernels_are_checked():
    inputs, layer = drawn((32, 16, 8, 8), 0, torch.float32).requires_grad_(), GhostBatchNorm(16, ghost_batch_size=8).cuda()
    layer(inputs).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            layer(inputs).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_hessian_products_are_those_of_the_plain_form():
    inputs, (weight, bias) = drawn((12, 5, 3, 2), 0, torch.float32), affine(5)

    def product(form):
        places = [item.detach().clone(memory_format=torch.preserve_format).requires_grad_() for item in (inputs, weight, bias)]
        first = torch.autograd.grad(form(places[0], 3, places[1], places[2], 1e-5)[0].sin().sum(), places, create_graph=True)
        return torch.autograd.grad(torch.stack([item.square().sum() for item in first]).sum(), places)

    for ours, theirs in zip(product(normalize_triton), product(normalize_groups), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
