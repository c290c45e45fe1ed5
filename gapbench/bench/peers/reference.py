"""The plain reference loop that most people start from: a DataLoader, a model, autocast where bf16 is wanted, a line every ten updates.

`Loader` is its data path alone, that of almost every training script: PIL and torchvision's transforms in workers.

It is torch's own tutorial with the things that its performance guide names (pinned memory, channels-last with autocast, cuDNN's
search for algorithms), and nothing that needs thought: eager, one call after another, torch's defaults elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gapbench.bench.cases import CLIP_NORM
from gapbench.bench.peers import Build
from gapbench.bench.peers.parts import initial_model, loader, sgd

PRINT_EVERY = 10


class Reference:
    """See the module's text."""

    def __init__(self, build: Build) -> None:
        torch.backends.cudnn.benchmark = build.device.type == "cuda"
        self.form = "eager, autocast" if build.mixed else "eager"
        self._device, self._mixed = build.device, build.mixed
        self._layout = torch.channels_last if build.mixed else torch.contiguous_format
        self._model = initial_model(build.task).to(build.device).to(memory_format=self._layout)
        self._optimizer = sgd(self._model)
        self._loader = loader(build)
        self.modules = [self._model]

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """One update as in a tutorial."""
        images = images.to(self._device, memory_format=self._layout, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            loss = F.cross_entropy(self._model(images), labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
        self._optimizer.step()
        return loss.detach()

    def run(self) -> Iterator[int]:
        """Trains for ever; reads the loss, and so waits, as often as a script would print it."""
        while True:
            for number, (images, labels) in enumerate(self._loader):
                loss = self.update(images, labels)
                if number % PRINT_EVERY == 0:
                    loss.item()
                yield len(labels)


class Loader:
    """Batches from a DataLoader, nothing trained."""

    def __init__(self, build: Build) -> None:
        self.form = f"DataLoader, {build.workers} workers"
        self._device = build.device
        self._loader = loader(build)

    def run(self) -> Iterator[int]:
        """Loads for ever; yields after each batch has reached the device."""
        while True:
            for images, labels in self._loader:
                images.to(self._device, non_blocking=True)
                yield len(labels)
