"""The choice among the forms of ghost batch norm: what fits Triton's kernels, what happens where they are wrong, what results say."""

import pytest
import torch
from torch import nn

from gapbench.layers import ghost_batch_norm
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, fits, ghost_norm_form, triton_applies, triton_holds, triton_trouble
from gapbench.layers.ghost_math import GroupMoments, normalize_chunks, normalize_groups
from gapbench.layers.stacked import stack

CPU = torch.device("cpu")
WEIGHT = torch.ones(6)


@pytest.fixture(autouse=True)
def nothing_checked_yet(monkeypatch):
    monkeypatch.setattr(ghost_batch_norm, "_troubles", {})


def wrong(what):
    """The plain form with something wrong in it."""

    def form(inputs, groups, weight, bias, epsilon):
        outputs, moments = normalize_groups(inputs, groups, weight, bias, epsilon)
        if what == "compiler":
            raise RuntimeError("no compiler here\nsecond line")
        if what == "element":
            outputs = outputs.index_put((torch.tensor([5]), torch.tensor([3])), outputs[5, 3] + 1.0)
        if what == "gradient":
            outputs = outputs + bias.view(1, -1, 1, 1) * 0.01 - (bias.detach() * 0.01).view(1, -1, 1, 1)
        if what == "moments":
            moments = GroupMoments(moments.mean, moments.variance * 1.001, moments.elements)
        if what == "nan":
            outputs = outputs * float("nan")
        if what == "type":
            outputs = outputs.double()
        return outputs, moments

    return form


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_form_that_is_right_passes_the_check(monkeypatch, dtype):
    monkeypatch.setattr(ghost_batch_norm, "normalize_triton", normalize_chunks)
    assert ghost_batch_norm._trouble(CPU, dtype) is None


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("compiler", "^RuntimeError: no compiler here$"),
        ("element", "differ from the plain form"),
        ("gradient", "differ from the plain form"),
        ("moments", "differ from the plain form"),
        ("nan", "differ from the plain form by nan"),
        ("type", "other types"),
    ],
)
def test_a_form_that_is_wrong_in_anything_fails_the_check(monkeypatch, what, message):
    monkeypatch.setattr(ghost_batch_norm, "normalize_triton", wrong(what))
    trouble = ghost_batch_norm._trouble(CPU, torch.float32)
    assert trouble is not None
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(trouble)


def test_the_check_leaves_no_trace_in_random_numbers_or_gradients(monkeypatch):
    monkeypatch.setattr(ghost_batch_norm, "normalize_triton", normalize_chunks)
    before = torch.get_rng_state()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert ghost_batch_norm._trouble(CPU, torch.float32) is None
    assert torch.equal(before, torch.get_rng_state())


def test_each_type_is_checked_once_and_one_failure_ends_the_use_of_the_kernels(monkeypatch):
    asked = []

    def trouble(device, dtype):
        asked.append((device, dtype))
        return "broken" if dtype == torch.bfloat16 else None

    monkeypatch.setattr(ghost_batch_norm, "_trouble", trouble)
    assert [triton_holds(0, torch.float32) for _ in range(3)] == [True, True, True]
    assert triton_trouble() is None
    assert [triton_holds(0, torch.bfloat16) for _ in range(3)] == [False, False, False]
    assert not triton_holds(0, torch.float32)
    assert asked == [(torch.device("cuda", 0), torch.float32), (torch.device("cuda", 0), torch.bfloat16)]
    assert triton_trouble() == "broken"


def test_without_triton_the_reason_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert not triton_holds(0, torch.float32)
    assert triton_trouble() == "triton is not installed"


def test_inside_a_graph_capture_nothing_is_checked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    assert not triton_holds(0, torch.float32)
    assert "graph capture" in str(triton_trouble())


IMAGES = torch.zeros(4, 6, 5, 5).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("inputs", "fit"),
    [
        (torch.zeros(4, 6), True),
        (torch.zeros(4, 6, dtype=torch.bfloat16), True),
        (torch.zeros(4, 6, dtype=torch.float64), False),
        (torch.zeros(6, 4).T, False),
        (IMAGES, True),
        (IMAGES[2:], True),
        (IMAGES.contiguous(), False),
        (torch.zeros(4, 6, 5), False),
        (torch.zeros(2, 6), False),  # one element a group has no variance
        (torch.zeros(0, 6), False),
    ],
)
def test_what_fits_the_kernels(inputs, fit):
    assert fits(inputs, 2, WEIGHT) == fit


def test_scale_and_shift_are_float32():
    assert not fits(torch.zeros(4, 6), 2, WEIGHT.bfloat16())


def test_the_cpu_and_a_single_group_never_ask_for_triton(monkeypatch):
    monkeypatch.setattr(ghost_batch_norm, "triton_holds", lambda *_: pytest.fail("asked"))
    assert not triton_applies(IMAGES, 2, WEIGHT)
    assert not triton_applies(IMAGES, 1, WEIGHT)


@pytest.mark.parametrize(("applies", "device", "form"), [(False, "cpu", "chunks"), (False, "meta", "groups"), (True, "meta", "triton")])
def test_a_layer_remembers_the_form_it_took(monkeypatch, applies, device, form):
    if applies:
        pytest.importorskip("triton")
    monkeypatch.setattr(ghost_batch_norm, "triton_applies", lambda _inputs, groups, _weight: applies and groups > 1)
    network = nn.Sequential(GhostBatchNorm(6, ghost_batch_size=4)).to(device)
    assert ghost_norm_form(network) == ""
    outputs = network(torch.empty(8, 6, 3, 3, device=device))
    assert outputs.shape == (8, 6, 3, 3)
    assert ghost_norm_form(network) == form


def test_one_group_is_torch_batch_norm_and_a_ragged_end_does_not_hide_the_form():
    layer = GhostBatchNorm(6)
    layer(torch.randn(8, 6))
    assert layer.form == "chunks"
    layer.to("meta")
    layer.ragged_group_size = 3  # two groups, and one that is smaller
    layer(torch.empty(8, 6, device="meta"))
    assert layer.form == "groups"


def test_results_name_every_form_in_a_network_and_whether_triton_was_given_up(monkeypatch):
    network = nn.Sequential(*(GhostBatchNorm(6, ghost_batch_size=4) for _ in range(3)))
    network[0].form, network[1].form = "triton", "groups"
    assert ghost_norm_form(network) == "groups, triton"
    monkeypatch.setitem(ghost_batch_norm._troubles, torch.float32, "broken")
    network[0].form = "groups"
    assert ghost_norm_form(network) == "groups (no triton)"
    assert ghost_norm_form(stack([nn.Sequential(nn.Linear(4, 6), GhostBatchNorm(6)) for _ in range(2)])) == "stacked"
    assert ghost_norm_form(nn.Linear(4, 4)) == ""
