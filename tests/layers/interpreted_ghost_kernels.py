"""Triton's kernels of ghost batch norm, run by Triton's interpreter on the CPU, against batch norm chunk by chunk in float64.

The interpreter is chosen when triton is imported, by TRITON_INTERPRET=1, and would break what else uses triton in the process; so
`test_ghost_kernels.py` runs this file in a process of its own, without the checks of shapes in conftest.py, which nothing can compile:

    TRITON_INTERPRET=1 pytest --noconftest tests/layers/interpreted_ghost_kernels.py
"""

import contextlib
import math
import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gapbench.layers import ghost_batch_norm, ghost_kernels
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, normalize_triton
from gapbench.layers.ghost_kernels import Tiling, ghost_norm, ghost_norm_backward, tiling
from gapbench.layers.ghost_math import normalize_chunks, normalize_groups

assert os.environ.get("TRITON_INTERPRET") == "1", "these tests need TRITON_INTERPRET=1"
EPSILON = 1e-5
CPU = torch.device("cpu")
SHAPES = {  # groups, shape
    "dense": (4, (24, 10)),
    "dense, one group": (1, (12, 24)),
    "dense, more channels than a tile": (3, (9, 70)),
    "images": (3, (6, 10, 5, 3)),
    "images, one group": (1, (4, 24, 3, 3)),
    "images, one channel": (2, (4, 1, 6, 5)),
    "images of one pixel": (2, (10, 24, 1, 1)),
}


def drawn(shape, seed=0, mean=1.0, deviation=2.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randn(shape, generator=generator, dtype=torch.float64) * deviation + mean).to(dtype)
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


def affine(channels, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, generator=generator) + 0.5, torch.randn(channels, generator=generator)


def everything(form, inputs, groups, weight, bias, direction):
    """Outputs, mean, variance, gradients of inputs, weight and bias."""
    places = [item.detach().clone(memory_format=torch.preserve_format).requires_grad_() for item in (inputs, weight, bias)]
    outputs, moments = form(places[0], groups, places[1], places[2], EPSILON)
    return [outputs.detach(), moments.mean, moments.variance, *torch.autograd.grad(outputs, places, direction)]


def exact(inputs, groups, weight, bias, direction):
    """What `everything` should be: torch's own batch norm of each chunk, in float64."""
    return everything(normalize_chunks, inputs.double(), groups, weight.double(), bias.double(), direction.double())


def assert_all_near(ours, oracle, share):
    """Every value is within `share` of the largest of its kind: gradients and outputs near zero are differences of large numbers."""
    for name, a, b in zip(("outputs", "mean", "variance", "of inputs", "of weight", "of bias"), ours, oracle, strict=True):
        assert a.shape == b.shape, name
        difference = float((a.double() - b).abs().max())
        assert difference <= share * max(1.0, float(b.abs().max())), f"{name}: {difference}"


@contextlib.contextmanager
def cut_into(**sizes):
    """Cuts groups into other tiles and splits than their shape would."""

    def cut(rows, _channels):
        high, splits = sizes["rows"], sizes["splits"]
        return Tiling(high, sizes["channels"], splits, math.ceil(math.ceil(rows / splits) / high) * high)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ghost_kernels, "tiling", cut)
        yield


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_the_kernels_equal_batch_norm_chunk_by_chunk(name, dtype, share):
    groups, shape = SHAPES[name]
    inputs, direction = drawn(shape, dtype=dtype), drawn(shape, seed=2, mean=0.3, deviation=1.0, dtype=dtype)
    weight, bias = affine(shape[1])
    ours = everything(normalize_triton, inputs, groups, weight, bias, direction)
    assert_all_near(ours, exact(inputs, groups, weight, bias, direction), share)
    assert [item.dtype for item in ours] == [dtype, torch.float32, torch.float32, dtype, torch.float32, torch.float32]
    assert ours[0].is_contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.contiguous_format)
    assert not ours[1].requires_grad
    assert not ours[2].requires_grad


def test_a_group_of_several_splits_equals_batch_norm():
    cut = tiling(11 * 17 * 17, 24)
    assert cut.splits > 1  # or this test would show nothing
    assert 11 * 17 * 17 % cut.rows
    shape = (22, 24, 17, 17)
    inputs, direction = drawn(shape), drawn(shape, seed=2, mean=0.3, deviation=1.0)
    weight, bias = affine(24)
    ours = everything(normalize_triton, inputs, 2, weight, bias, direction)
    assert_all_near(ours, exact(inputs, 2, weight, bias, direction), 1e-5)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    groups=st.integers(1, 3),
    group=st.integers(1, 7),
    channels=st.integers(1, 12),
    size=st.one_of(st.none(), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    rows=st.sampled_from([2, 8, 16]),
    wide=st.sampled_from([4, 16]),
    splits=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 2**16),
)
def test_values_and_gradients_do_not_depend_on_how_a_group_is_cut(groups, group, channels, size, rows, wide, splits, seed):
    pixels = 1 if size is None else size[0] * size[1]
    group += 1 if group * pixels == 1 else 0
    shape = (groups * group, channels, *(size or ()))
    inputs, direction = drawn(shape, seed), drawn(shape, seed + 1, mean=0.3, deviation=1.0)
    weight, bias = affine(channels, seed + 2)
    with cut_into(rows=rows, channels=wide, splits=splits):
        ours = everything(normalize_triton, inputs, groups, weight, bias, direction)
    oracle = exact(inputs, groups, weight, bias, direction)
    # Two values that happen to be near have a large factor 1 / deviation, and gradients are as large as that.
    steep = max(1.0, float((oracle[2].min() + EPSILON).rsqrt()))
    assert_all_near(ours, oracle, 2e-5 * steep)


@pytest.mark.parametrize("splits", [1, 4])
def test_a_large_mean_does_not_cancel_a_small_variance(splits):
    # In float32 a mean of squares of 1e8 has steps of 8: the difference of mean square and squared mean would be noise.
    shape = (16, 6, 4, 4)
    inputs, direction = drawn(shape, mean=1e4, deviation=0.5), drawn(shape, seed=2, mean=0.0, deviation=1.0)
    weight, bias = affine(6)
    with cut_into(rows=16, channels=8, splits=splits):
        ours = everything(normalize_triton, inputs, 2, weight, bias, direction)
    oracle = exact(inputs, 2, weight, bias, direction)
    torch.testing.assert_close(ours[1].double(), oracle[1], rtol=2e-7, atol=0)
    # A float32 near 1e4 has steps of 1e-3, so Welford's running means are good to a thousandth of the deviation.
    torch.testing.assert_close(ours[2].double(), oracle[2], rtol=2e-3, atol=0)
    torch.testing.assert_close(ours[0].double(), oracle[0], rtol=5e-3, atol=5e-3)


def test_the_same_input_gives_the_same_bits():
    inputs, direction = drawn((12, 10, 5, 4)), drawn((12, 10, 5, 4), seed=2)
    weight, bias = affine(10)
    with cut_into(rows=8, channels=16, splits=4):
        once, again = (everything(normalize_triton, inputs, 3, weight, bias, direction) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_the_bits_of_a_group_do_not_depend_on_the_groups_beside_it():
    inputs, direction = drawn((12, 10, 5, 4)), drawn((12, 10, 5, 4), seed=2)
    weight, bias = affine(10)
    whole = everything(normalize_triton, inputs, 3, weight, bias, direction)
    for group in range(3):
        part = slice(4 * group, 4 * group + 4)
        alone = everything(normalize_triton, inputs[part], 1, weight, bias, direction[part])
        assert torch.equal(whole[0][part], alone[0])
        assert torch.equal(whole[3][part], alone[3])
        assert torch.equal(whole[2][:, group], alone[2][:, 0])


@pytest.mark.parametrize("kind", ["expanded", "other order", "none"])
def test_incoming_gradients_may_lie_in_any_order_in_memory(kind):
    inputs = drawn((6, 10, 4, 4))
    direction = {
        "expanded": torch.tensor(2.0).expand(6, 10, 4, 4),
        "other order": drawn((6, 10, 4, 4), seed=2).contiguous(),
        "none": None,
    }[kind]
    weight, bias = affine(10)
    if direction is None:  # the outputs are not used, only moments are
        place = weight.clone().requires_grad_()
        outputs, moments = normalize_triton(inputs, 3, place, bias, EPSILON)
        assert torch.autograd.grad(outputs.sum() * 0.0 + moments.mean.sum(), place)[0].abs().max() == 0
        return
    ours = everything(normalize_triton, inputs, 3, weight, bias, direction)
    assert_all_near(ours, exact(inputs, 3, weight, bias, direction), 1e-4)


def test_inputs_in_another_order_are_copied_by_the_operator_and_left_to_the_plain_form_by_the_choice():
    inputs, (weight, bias) = drawn((6, 10, 4, 4)), affine(10)
    other = inputs.contiguous()
    assert torch.equal(ghost_norm(inputs, weight, bias, 3, EPSILON)[0], ghost_norm(other, weight, bias, 3, EPSILON)[0])
    assert ghost_batch_norm.fits(inputs, 3, weight)
    assert not ghost_batch_norm.fits(other, 3, weight)


def test_a_part_of_a_batch_is_read_from_where_it_begins():
    inputs, (weight, bias) = drawn((10, 7, 3, 3)), affine(7)
    ours, _ = ghost_norm(inputs[3:9], weight, bias, 2, EPSILON)
    assert torch.equal(ours, ghost_norm(inputs[3:9].clone(memory_format=torch.channels_last), weight, bias, 2, EPSILON)[0])


@pytest.mark.parametrize(("name", "dtype"), [("dense", torch.float32), ("images", torch.bfloat16), ("images of one pixel", torch.float32)])
def test_the_operators_are_what_torch_expects_of_one(name, dtype):
    groups, shape = SHAPES[name]
    inputs, (weight, bias) = drawn(shape, dtype=dtype).requires_grad_(), affine(shape[1])
    torch.library.opcheck(ghost_norm, (inputs, weight.requires_grad_(), bias.requires_grad_(), groups, EPSILON))
    statistics = ghost_norm(inputs, weight, bias, groups, EPSILON)[1]
    direction = drawn(shape, seed=2, dtype=dtype)
    torch.library.opcheck(ghost_norm_backward, (direction, inputs.detach(), weight.detach(), statistics, groups, EPSILON))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_network_needs_no_break_of_its_graph(dtype):
    inputs, direction = drawn((6, 10, 4, 4), dtype=dtype), drawn((6, 10, 4, 4), seed=2, dtype=dtype)
    weight, bias = affine(10)

    def network(values, weight, bias):
        outputs, moments = normalize_triton(values * 2.0, 3, weight, bias, EPSILON)
        return F.relu(outputs), moments.mean, moments.variance

    def run(function):
        places = [item.detach().clone(memory_format=torch.preserve_format).requires_grad_() for item in (inputs, weight, bias)]
        outputs, mean, variance = function(*places)
        return [outputs, mean, variance, *torch.autograd.grad(outputs, places, direction)]

    eager, compiled = run(network), run(torch.compile(network, backend="aot_eager", fullgraph=True))
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_compiled_layer_asks_for_its_form_while_it_is_traced(monkeypatch):
    monkeypatch.setattr(ghost_batch_norm, "_troubles", {})
    monkeypatch.setattr(ghost_batch_norm, "_trouble", lambda _device, _dtype: None)
    monkeypatch.setattr(ghost_batch_norm, "triton_applies", applies_on_the_cpu)
    layers = [GhostBatchNorm(10, ghost_batch_size=2) for _ in range(2)]
    inputs = drawn((6, 10, 4, 4))
    eager, compiled = layers[0](inputs), torch.compile(layers[1], backend="aot_eager", fullgraph=True)(inputs)
    assert torch.equal(eager, compiled)
    assert [layer.form for layer in layers] == ["triton", "triton"]
    torch.testing.assert_close(layers[0].running_var, layers[1].running_var, rtol=0, atol=0)
    assert ghost_batch_norm._troubles == {torch.float32: None}


@pytest.mark.parametrize("ghost_batch_size", [2, None])
def test_a_compiled_layer_is_compiled_once(monkeypatch, ghost_batch_size):
    monkeypatch.setattr(ghost_batch_norm, "_troubles", {torch.float32: None})
    monkeypatch.setattr(ghost_batch_norm, "triton_applies", applies_on_the_cpu)
    layer = GhostBatchNorm(10, ghost_batch_size=ghost_batch_size)
    torch._dynamo.reset()  # what other layers compiled does not count
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            compiled(drawn((6, 10, 4, 4), seed))
    assert layer.form == ("chunks" if ghost_batch_size is None else "triton")


def applies_on_the_cpu(inputs, groups, weight):
    return groups > 1 and ghost_batch_norm.fits(inputs, groups, weight) and ghost_batch_norm.triton_holds(0, inputs.dtype)


def test_autocast_leaves_types_as_the_plain_form_does():
    inputs, (weight, bias) = drawn((6, 10, 4, 4), dtype=torch.bfloat16), affine(10)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (form(inputs, 3, weight, bias, EPSILON) for form in (normalize_triton, normalize_groups))
    assert ours[0].dtype == theirs[0].dtype == torch.bfloat16
    assert ours[1].mean.dtype == theirs[1].mean.dtype == torch.float32
    assert ours[1].mean.shape == theirs[1].mean.shape
    assert ours[1].elements == theirs[1].elements
    torch.testing.assert_close(ours[1].variance, theirs[1].variance, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 5), (6, 5, 3, 2)])
def test_hessian_products_are_those_of_the_plain_form(shape):
    inputs, (weight, bias) = drawn(shape), affine(5)

    def product(form):
        places = [item.detach().clone(memory_format=torch.preserve_format).requires_grad_() for item in (inputs, weight, bias)]
        outputs, _ = form(places[0] * 1.0, 3, places[1], places[2], EPSILON)
        loss = (outputs.sin() * outputs).sum()  # its gradient is a function of inputs and weight, too
        first = torch.autograd.grad(loss, places, create_graph=True)
        along = torch.stack([(item * item.detach().cos()).sum() for item in first]).sum()
        second = torch.autograd.grad(along, places, create_graph=True)
        third = torch.autograd.grad(torch.stack([item.square().sum() for item in second]).sum(), places)
        return [*first, *second, *third]

    for ours, theirs in zip(product(normalize_triton), product(normalize_groups), strict=True):
        assert float((ours - theirs).detach().abs().max()) <= 1e-4 * max(1.0, float(theirs.detach().abs().max()))


@pytest.mark.parametrize(("running_statistics", "examples"), [("mean", 24), ("sequential", 24), ("sequential", 23)])
def test_a_layer_trains_the_same_with_the_kernels(monkeypatch, running_statistics, examples):
    layers = [GhostBatchNorm(10, ghost_batch_size=6, running_statistics=running_statistics) for _ in range(2)]
    inputs, direction = drawn((examples, 10, 3, 3)), drawn((examples, 10, 3, 3), seed=2)
    results = []
    for layer, applies in zip(layers, (True, False), strict=True):
        monkeypatch.setattr(ghost_batch_norm, "triton_applies", lambda _inputs, groups, _weight, answer=applies: answer and groups > 1)
        if examples % 6:
            layer.ragged_group_size = 6
        values = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
        outputs = layer(values)
        results.append([outputs, *torch.autograd.grad(outputs, (values, layer.weight, layer.bias), direction), *layer.statistics()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert [layer.form for layer in layers] == ["triton", "chunks"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_before_use_passes(dtype):
    assert ghost_batch_norm._trouble(CPU, dtype) is None


def test_other_numbers_of_dimensions_are_refused():
    weight, bias = affine(4)
    with pytest.raises(ghost_batch_norm.TrainingError, match="not 3 dimensions"):
        ghost_norm(torch.randn(4, 4, 3), weight, bias, 2, EPSILON)
