"""Ghost batch norm by chunk and concatenate, in a device-resident loop: what libraries offer to whoever wants ghost batch norm today.

Every norm layer cuts its input into chunks, passes each through torch's own batch norm and concatenates the results. It is easy to
write and right in any layout; on a GPU its kernels number layers times chunks. It is not compiled: the unrolled graph has thousands of
kernels, and its users run it eagerly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gapbench.bench.cases import Precision, Task
from gapbench.bench.peers.parts import Images, Labels
from gapbench.bench.peers.resident import Resident


class ChunkedBatchNorm(nn.BatchNorm2d):
    """Batch norm of each chunk of `ghost_batch_size` examples by itself, running statistics one step a chunk."""

    def __init__(self, channels: int, ghost_batch_size: int) -> None:
        super().__init__(channels)
        self.ghost_batch_size = ghost_batch_size

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Normalizes chunk by chunk."""
        return torch.cat([super(ChunkedBatchNorm, self).forward(chunk) for chunk in torch.split(input, self.ghost_batch_size)])


class Chunked(Resident):
    """The resident loop with such layers."""

    def __init__(self, task: Task, images: Images, labels: Labels, *, precision: Precision, device: torch.device) -> None:
        super().__init__(task, images, labels, precision=precision, device=device, compiled=False, prepare=_converted)
        self.form = "eager, chunk and concatenate"


def _converted(model: nn.Module, task: Task) -> nn.Module:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                layer = ChunkedBatchNorm(child.num_features, task.ghost_batch_size or task.batch_size)
                layer.load_state_dict(child.state_dict())
                setattr(module, name, layer)
    return model
