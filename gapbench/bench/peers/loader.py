"""The DataLoader alone, nothing trained: the data path of almost every training script, PIL and torchvision's transforms in workers."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gapbench.bench.cases import Task
from gapbench.bench.peers.parts import Images, Labels, loader


class Loader:
    """Batches from a DataLoader."""

    def __init__(self, task: Task, images: Images, labels: Labels, *, device: torch.device, workers: int) -> None:
        self.form = f"DataLoader, {workers} workers"
        self._device = device
        self._loader = loader(task, images, labels, workers=workers, pin_memory=device.type == "cuda")

    def run(self) -> Iterator[int]:
        """Loads for ever; yields after each batch has reached the device."""
        while True:
            for images, labels in self._loader:
                images.to(self._device, non_blocking=True)
                yield len(labels)
