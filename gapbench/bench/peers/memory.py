"""The eager loop over tensors in memory, one model after another: what one writes for small data and several seeds.

The data set is one tensor on the device, a batch is an index into it, and the seeds of an experiment take turns. There is nothing to
load and nothing to wait for; what is left is the price of many small calls, once for each model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gapbench.bench.cases import CLIP_NORM
from gapbench.bench.peers import Build
from gapbench.bench.peers.parts import in_memory, initial_model, sgd


class Memory:
    """See the module's text. It does not augment, which is to its advantage."""

    def __init__(self, build: Build) -> None:
        torch.backends.cudnn.benchmark = build.device.type == "cuda"
        self.form = "eager, autocast" if build.mixed else "eager"
        self._task, self._mixed = build.task, build.mixed
        self.modules = [initial_model(build.task, replica).to(build.device) for replica in range(build.task.replicas)]
        self._optimizers = [sgd(model) for model in self.modules]
        self._images, self._labels = in_memory(build)

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """One update of one seed."""
        model, optimizer = self.modules[replica], self._optimizers[replica]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._mixed):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        return loss.detach()

    def run(self) -> Iterator[int]:
        """Trains for ever; yields after one update of each seed."""
        task, device = self._task, self._images.device
        while True:
            orders = [torch.randperm(task.examples, device=device) for _ in self.modules]
            for start in range(0, task.examples - task.batch_size + 1, task.batch_size):
                for replica, order in enumerate(orders):
                    chosen = order[start : start + task.batch_size]
                    self.update(self._images[chosen], self._labels[chosen], replica)
                yield task.examples_per_update
