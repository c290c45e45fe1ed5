"""A loop as in the code released with Hoffer, Hubara and Soudry 2017, written anew from what it does: whoever repeats the paper runs this.

Float32 images in torch's default layout from a DataLoader with PIL, eager; loss, top-1 and top-5 accuracy are read by the host after
every batch. Ghost batch norm is the paper's Algorithm 1 taken literally: the whole network runs once for each chunk of the batch,
gradients add up and are divided by the number of chunks before the one clipped step; each chunk's numbers are read by the host, too.
It is slow where chunks are many, for each of them is a small batch with all its calls.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gapbench.bench.cases import CLIP_NORM
from gapbench.bench.peers import Build
from gapbench.bench.peers.parts import initial_model, loader, sgd


class Released:
    """See the module's text."""

    def __init__(self, build: Build) -> None:
        task = build.task
        torch.backends.cudnn.benchmark = build.device.type == "cuda"
        self._chunk = task.ghost_batch_size or task.batch_size
        self.form = "eager" if self._chunk == task.batch_size else "eager, chunk by chunk"
        self._device, self._mixed = build.device, build.mixed
        self._model = initial_model(task).to(build.device)
        self._optimizer = sgd(self._model)
        self._loader = loader(build)
        self._meters: dict[str, float] = {}
        self.modules = [self._model]

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """One update, chunk by chunk where the ghost batch size is smaller than the batch; returns the mean of the chunks' losses."""
        chunks = torch.split(images.contiguous(), self._chunk)
        self._optimizer.zero_grad()
        total = 0.0
        for chunk, targets in zip(chunks, torch.split(labels, self._chunk), strict=True):
            chunk, targets = chunk.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
                outputs = self._model(chunk)
                loss = F.cross_entropy(outputs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            self._meters = {"loss": loss.item(), **_accuracies(outputs.detach(), targets)}
            total += self._meters["loss"]
        if len(chunks) > 1:
            for parameter in self._model.parameters():
                assert parameter.grad is not None
                parameter.grad.div_(len(chunks))
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
        self._optimizer.step()
        return torch.tensor(total / len(chunks))

    def run(self) -> Iterator[int]:
        """Trains for ever."""
        while True:
            for images, labels in self._loader:
                self.update(images, labels)
                yield len(labels)


def _accuracies(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Returns top-1 and top-5 accuracy in percent, as numbers on the host."""
    _, best = outputs.topk(5, dim=1)
    hits = best.T.eq(targets[None])
    return {f"top{k}": hits[:k].reshape(-1).float().sum().mul(100.0 / len(targets)).item() for k in (1, 5)}
