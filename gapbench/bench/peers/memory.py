"""The eager loop over tensors in memory, one model after another: what one writes for small data and several seeds.

The data set is one tensor on the device, a batch is an index into it, and the seeds of an experiment take turns. There is nothing to
load and nothing to wait for; what is left is the price of many small calls, once for each model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gapbench.bench.cases import CLIP_NORM, Precision, Task
from gapbench.bench.peers.parts import Images, Labels, initial_model, normalized, sgd


class Memory:
    """See the module's text. It does not augment, which is to its advantage."""

    def __init__(self, task: Task, images: Images, labels: Labels, *, precision: Precision, device: torch.device) -> None:
        torch.backends.cudnn.benchmark = device.type == "cuda"
        self.form = "eager, autocast" if precision != "fp32" else "eager"
        self._task = task
        self._mixed = precision != "fp32"
        self._models = [initial_model(task, replica).to(device) for replica in range(task.replicas)]
        self._optimizers = [sgd(model) for model in self._models]
        self._images = normalized(images[: task.examples]).to(device)
        self._labels = torch.from_numpy(labels[: task.examples]).to(device)

    @property
    def modules(self) -> list[nn.Module]:
        """The networks, one a seed."""
        return list(self._models)

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """One update of one seed."""
        model, optimizer = self._models[replica], self._optimizers[replica]
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
            orders = [torch.randperm(task.examples, device=device) for _ in self._models]
            for start in range(0, task.examples - task.batch_size + 1, task.batch_size):
                for replica, order in enumerate(orders):
                    chosen = order[start : start + task.batch_size]
                    self.update(self._images[chosen], self._labels[chosen], replica)
                yield task.examples_per_update
