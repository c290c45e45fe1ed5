"""The correctness gate: all sides of a case get the same batches, and their first losses have to agree before any timing counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gapbench.bench.cases import Case
from gapbench.bench.ours import OurFeed, Ours, random_pool
from gapbench.bench.peers.parts import ImageDataset
from gapbench.bench.programs import PROGRAMS, Build
from gapbench.bench.task import Precision, Task
from gapbench.layers.dropout import Dropout
from gapbench.workloads.datasets.arrays import Pool

UPDATES = 3
CPU_BATCH = 64
"""On the CPU the gate works on smaller batches: what a program computes does not depend on it."""
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""Relative difference of losses that rounding explains over three updates."""

COMPARED = {"ours", "ours singly", "reference", "released", "resident", "chunked", "memory"}
"""Programs whose losses have to agree. Plain batch norm is another method; what probes cost is the same program with and without."""


@dataclass(frozen=True)
class Agreement:
    """How far a side's first losses are from ours in fp32."""

    side: str
    difference: float
    """Largest, relative."""
    tolerance: float


def gate(case: Case, device: torch.device) -> list[Agreement]:
    """Returns how far each side's first losses are from ours in fp32.

    Every program is held against ours in fp32; sides of lower precision at that precision, too, where rounding is allowed for.
    Dropout masks differ between sides, so a model with dropout is compared with dropout off.
    """
    if case.suite is not None:  # a suite and its prediction: no losses to compare
        return []
    task = case.task if device.type == "cuda" else case.task.smaller(CPU_BATCH)
    task = replace(task, updates=None)
    pool = random_pool(task)
    if any(side.program == "our feed" for side in case.sides):
        return [Agreement("loader", _feed_difference(task, pool, device), TOLERANCE["fp32"])]
    batches, losses = _our_losses(Build(task, pool, "fp32", device, workers=0, compiled=False))
    found: list[Agreement] = []
    done = {("ours", "fp32")}
    for side in case.sides:
        if side.program not in COMPARED:
            continue
        for precision in dict.fromkeys(("fp32", _gated(side.precision, device))):
            if (side.program, precision) in done:
                continue
            done.add((side.program, precision))
            build = Build(task, pool, precision, device, workers=0, compiled=False)
            theirs = _our_losses(build, singly=side.program == "ours singly")[1] if side.program.startswith("ours") else None
            if theirs is None:
                theirs = _peer_losses(side.program, build, batches)
            difference = float(((theirs - losses).abs() / losses.abs().clamp_min(1e-12)).max())
            name = side.name if precision == side.precision else f"{side.name} in {precision}"
            found.append(Agreement(name, difference, TOLERANCE[precision]))
    return found


def _gated(precision: Precision, device: torch.device) -> Precision:
    # Float16 without a GPU is emulated and slow; such sides exist on CUDA only.
    return "fp32" if precision == "fp16" and device.type == "cpu" else precision


def _our_losses(build: Build, *, singly: bool = False) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Returns the first batches ([replica, batch, ...] with labels) and the losses on them, float64 [updates, replicas]."""
    ours = Ours(build.task, build.pool, precision=build.precision, device=build.device, singly=singly)
    _without_dropout(ours.modules)
    batches, losses = [], []
    for update in range(UPDATES):
        parts = [session.feed.batch(update) for session in ours.sessions]
        batches.append((torch.cat([part.images for part in parts]).clone(), torch.cat([part.labels for part in parts]).clone()))
        states = [session.step() for session in ours.sessions]
        losses.append(torch.cat([state.batch_loss for state in states if state is not None]).double().cpu())
    return batches, torch.stack(losses)


def _peer_losses(program: str, build: Build, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    peer = PROGRAMS[program](build)
    _without_dropout(peer.modules)  # type: ignore[attr-defined]  # every program here is a Peer
    rows = [
        [float(peer.update(images[replica].float().contiguous(), labels[replica], replica)) for replica in range(len(images))]  # type: ignore[attr-defined]
        for images, labels in batches
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _without_dropout(modules: list[nn.Module]) -> None:
    for network in modules:
        for module in network.modules():
            if isinstance(module, Dropout):
                module.probability = 0.0
            elif isinstance(module, nn.Dropout):
                module.p = 0.0


def _feed_difference(task: Task, pool: Pool, device: torch.device) -> float:
    """Returns the largest difference of pixels between our feed and the DataLoader's data set, without augmentation (crops are random)."""
    task = replace(task, crop_padding=0, flip=False)
    indices = torch.arange(min(64, task.examples))
    images = OurFeed(task, pool, device=device).feed.evaluation_batch(indices[None].to(device)).images[0].cpu()
    dataset = ImageDataset(task, pool.images, pool.labels)
    theirs = torch.stack([dataset[int(index)][0] for index in indices])
    return float((images - theirs).abs().max())
