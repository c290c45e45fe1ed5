"""What the machine could do at best: a measured peak of matrix products and of copying, and the work of one image by formula.

On CUDA the bytes of an image follow a model of what fused pointwise kernels with separate batch norm statistics move: each convolution
or dense layer reads its inputs (M numbers) and writes its outputs (N) forward, and moves both again for each of its two gradients (the
first layer has one only); a norm layer moves its activations eight times (three forward, five backward), a pooling its inputs and
outputs twice, a residual sum its outputs four times: 3 M + 3 N - M_first + 8 N_norm + 2 (M + N)_pool + 4 N_sum, times the bytes of a
number.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gapbench.bench.peers.parts import initial_model
from gapbench.bench.task import CLASSES, Precision, Task
from gapbench.cost.architectures import size_of

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATRIX = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product that the peak is measured with."""
COPY_BYTES = 1 << 30
PEAK_SECONDS = 0.5


@dataclass(frozen=True)
class Work:
    """The training of one image, forward and backward."""

    flops: float | None
    """None: the cost model does not know the network."""
    bytes: float | None
    """By the traffic model; on a CPU, whose caches hold a layer, None."""


def work_of(task: Task, precision: Precision, device_kind: str) -> Work:
    """Returns what one image costs."""
    size = size_of(task.model.name, task.model.options, task.shape, CLASSES)
    moved = traffic_numbers(task) * TYPES[precision].itemsize if device_kind == "cuda" else None
    return Work(None if size is None else 6.0 * size.multiplications, moved)


def traffic_numbers(task: Task) -> float:
    """Returns how many numbers an image moves, by the model in the module's text."""
    moved: list[float] = []
    first = True

    def count(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        nonlocal first
        into, out = inputs[0].numel(), outputs.numel()
        if isinstance(module, nn.Conv2d | nn.Linear):
            moved.append(3 * into + 3 * out - (into if first else 0))
            first = False
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            moved.append(8 * out)
        elif isinstance(module, nn.MaxPool2d):
            moved.append(2 * (into + out))
        elif hasattr(module, "shortcut"):
            moved.append(4 * out)

    model = initial_model(task).eval()
    for module in model.modules():
        module.register_forward_hook(count)
    height, width, channels = task.shape
    with torch.no_grad():
        model(torch.zeros(1, channels, height, width))
    return float(sum(moved))


def measure_peaks(device: torch.device) -> dict[str, float]:
    """Returns the best FLOP/s of a large matrix product in each precision ("flops fp32", ...) and, on CUDA, bytes/s of a copy ("bytes")."""
    precisions = ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")
    torch.set_float32_matmul_precision("highest")
    peaks = {}
    side = MATRIX[device.type]
    for precision in precisions:
        left, right = (torch.randn(side, side, device=device).to(TYPES[precision]) for _ in range(2))
        peaks[f"flops {precision}"] = 2.0 * side**3 / _best_seconds(lambda left=left, right=right: left @ right, device)
    if device.type == "cuda":
        source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        peaks["bytes"] = 2.0 * COPY_BYTES / _best_seconds(lambda: target.copy_(source), device)
    return peaks


def _best_seconds(work: object, device: torch.device) -> float:
    assert callable(work)
    work()
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < PEAK_SECONDS:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
