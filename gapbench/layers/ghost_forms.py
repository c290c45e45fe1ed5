"""Which form of ghost batch norm a layer takes on a GPU: Triton's kernels where they apply and have shown that they compute the same.

Kernels are compiled on the user's machine, by a compiler that this project does not test on every device. So before they are used they
are held against the plain form, once a process and type of activations, forward and backward. Whatever goes wrong there is no failure
of a run: the layers take the plain form from then on, and `ghost_norm_form` and `triton_trouble` say so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gapbench.core.errors import TrainingError

if TYPE_CHECKING:
    from gapbench.layers.ghost_batch_norm import GroupMoments

Form = Callable[[Tensor, int, Tensor, Tensor, float], "tuple[Tensor, GroupMoments]"]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Types of activations that the kernels take -> the largest difference from the plain form, as a share of its largest value."""
CHECKED_GROUPS, CHECKED_EXAMPLES, CHECKED_CHANNELS, CHECKED_WIDTH = 3, 11, 24, 17
"""Of the check: a group is cut in four, its end is no whole tile, and its channels are no power of two."""

_troubles: dict[torch.dtype, str | None] = {}
"""Types that were checked in this process -> what is wrong; None: nothing."""


def triton_applies(inputs: Tensor, groups: int, weight: Tensor) -> bool:
    """Whether Triton's kernels normalize this batch. The first answer for a type of activations waits for the device.

    They take CUDA tensors in channels-last memory ([batch, channels], [batch, channels, height, width]), float32 or bfloat16, with
    float32 scale and shift, in two groups or more: one group is torch's own batch norm, which has kernels of its own.
    """
    if groups == 1 or inputs.device.type != "cuda" or not fits(inputs, groups, weight):
        return False
    holds: bool = triton_holds(inputs.device.index, inputs.dtype)
    return holds


def fits(inputs: Tensor, groups: int, weight: Tensor) -> bool:
    """Whether shape, memory order and types are those that the kernels take, whatever the device."""
    if inputs.ndim == 4:
        in_order = inputs.is_contiguous(memory_format=torch.channels_last)
    else:
        in_order = inputs.ndim == 2 and inputs.is_contiguous()
    return in_order and inputs.dtype in TOLERANCE and weight.dtype == torch.float32 and inputs.numel() > groups * inputs.shape[1]


# The decorator lets a compiled network ask while it is traced.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def triton_holds(device: int, dtype: torch.dtype) -> bool:
    """Whether the kernels are right for this type of activations, found out once in this process; once wrong, they stay out of use."""
    if any(_troubles.values()):
        return False
    if dtype not in _troubles:
        _troubles[dtype] = _trouble(torch.device("cuda", device), dtype)
    return _troubles[dtype] is None


def triton_trouble() -> str | None:
    """Returns why this process gave up Triton's kernels. None: it did not, or has not tried them."""
    return next((trouble for trouble in _troubles.values() if trouble), None)


def ghost_norm_form(network: nn.Module) -> str:
    """Returns the forms that a network's batch norm layers have taken in training, sorted, for the results; empty: none yet.

    `chunks`: torch's batch norm, group by group, or of the whole batch. `stacked`: the same with groups as channels. `groups`: all groups
    at once, in plain torch. `triton`: the kernels. `groups (no triton)`: this process gave them up, `triton_trouble` says why.
    """
    from gapbench.layers.ghost_batch_norm import GhostBatchNorm

    found = {layer.form for layer in network.modules() if isinstance(layer, GhostBatchNorm)} - {""}
    if triton_trouble() is None:
        return ", ".join(sorted(found))
    return ", ".join(sorted("groups (no triton)" if form == "groups" else form for form in found))


def _trouble(device: torch.device, dtype: torch.dtype) -> str | None:
    """Returns what is wrong with the kernels on a device, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return "the kernels were first asked for inside a CUDA graph capture, where they cannot be checked"
    from gapbench.layers.ghost_batch_norm import normalize_groups, normalize_triton

    try:
        difference = largest_difference(normalize_triton, normalize_groups, device, dtype)
    except Exception as error:  # a compiler and a driver fail in many ways, and none of them should end a run
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        return f"{type(error).__name__}: {first}"
    if not difference <= TOLERANCE[dtype]:  # NaN, too
        return f"results differ from the plain form by {difference:.1e} of the largest value, more than {TOLERANCE[dtype]:.0e}"
    return None


def largest_difference(form: Form, plain: Form, device: torch.device, dtype: torch.dtype) -> float:
    """Returns how far a form is from another on a small batch: outputs, moments and gradients, as a share of the largest value."""
    generator = torch.Generator().manual_seed(0)
    shape = (CHECKED_GROUPS * CHECKED_EXAMPLES, CHECKED_WIDTH, CHECKED_WIDTH, CHECKED_CHANNELS)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        drawn = torch.randn(2, *shape, generator=generator)
        drawn[0] = drawn[0] * 2.0 + 3.0  # inputs; a mean of the gradients would only drown sums in rounding
        inputs, direction = drawn.to(device, dtype).permute(0, 1, 4, 2, 3).unbind()
        affine = (torch.randn(2, CHECKED_CHANNELS, generator=generator) + 1.5).to(device)
        ours, theirs = (_everything(one, inputs, direction, affine) for one in (form, plain))
        shares = [(a.float() - b.float()).abs().max() / b.float().abs().max() for a, b in zip(ours, theirs, strict=True)]
        if any(a.dtype != b.dtype or a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
            raise TrainingError("results have other types or shapes than those of the plain form")
        return float(torch.stack(shares).max())


def _everything(form: Form, inputs: Tensor, direction: Tensor, affine: Tensor) -> list[Tensor]:
    places = [item.detach().requires_grad_() for item in (inputs, affine[0], affine[1])]
    outputs, moments = form(places[0], CHECKED_GROUPS, places[1], places[2], 1e-5)
    gradients: Any = torch.autograd.grad(outputs, places, direction)
    return [outputs.detach(), moments.mean, moments.variance, *gradients]
