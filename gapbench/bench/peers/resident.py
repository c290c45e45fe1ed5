"""A device-resident loop as authors of speed records write it: the data set lies on the device, a whole epoch is augmented at a time.

No DataLoader, no waiting for the device, channels-last, a fused optimizer, half precision weights with norms in float32 (where it is not
asked to be float32), and `torch.compile`: on CUDA with its longest search, which such authors pay once and use for hundreds of runs; on a
CPU, where it does not always pay, both forms are sides, and we are held against the faster one.
The crops of an epoch are made in two passes, rows then columns, one boolean mask a shift: few large calls, each of which waits to learn
how many images it moves.

`Chunked` is the same loop with ghost batch norm by chunk and concatenate: what libraries offer to whoever wants ghost batch norm today.
Every norm layer cuts its input into chunks, passes each through torch's own batch norm and concatenates the results. It is easy to
write and right in any layout; on a GPU its kernels number layers times chunks. It is not compiled: the unrolled graph has thousands of
kernels, and its users run it eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gapbench.bench.cases import CLIP_NORM, PIXEL_DEVIATION, PIXEL_MEAN, Task
from gapbench.bench.peers import Build
from gapbench.bench.peers.parts import TYPES, in_memory, initial_model, sgd


class Resident:
    """See the module's text.

    Args:
        build: what to train, on which data, where.
        on_cpu: whether a CPU compiles the network, too; without a C++ compiler it trains eagerly, and its form says so.
    """

    def __init__(self, build: Build, *, on_cpu: bool = False) -> None:
        self._task, self._type = build.task, TYPES[build.precision]
        cuda = build.device.type == "cuda"
        torch.backends.cudnn.benchmark = cuda
        model = self._network(build.task).to(build.device, self._type).to(memory_format=torch.channels_last)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.float()
        self.modules = [model]
        self._optimizer = sgd(model, fused=True)
        compiled = build.compiled and (cuda or on_cpu)
        mode = "max-autotune" if cuda else "default"
        self._forward: Callable[[Tensor], Tensor] = torch.compile(model, mode=mode) if compiled else model
        self.form = "compiled" if compiled else "eager"
        if compiled and not cuda and (why := self._not_compiled()):
            self._forward, self.form = model, f"eager ({why})"
        images, self._labels = in_memory(build)
        padding, black = build.task.crop_padding, (0.0 - PIXEL_MEAN) / PIXEL_DEVIATION
        padded = F.pad(images.to(self._type), (padding,) * 4, value=black)
        self._images = padded.contiguous(memory_format=torch.channels_last)

    def _network(self, task: Task) -> nn.Module:
        return initial_model(task)

    def _not_compiled(self) -> str:
        """Passes a black batch, which compiles the network; returns why that is not possible, or an empty text."""
        height, width, channels = self._task.shape
        try:
            self._forward(torch.zeros(self._task.batch_size, channels, height, width, dtype=self._type))
        except RuntimeError as error:
            return str(error).splitlines()[0]
        return ""

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """One update; never waits."""
        images = images.to(self._type, memory_format=torch.channels_last)
        loss = F.cross_entropy(self._forward(images).float(), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules[0].parameters(), CLIP_NORM)
        self._optimizer.step()
        return loss.detach()

    def run(self) -> Iterator[int]:
        """Trains for ever, an epoch of augmented images at a time."""
        size = self._task.batch_size
        while True:
            images = self._augmented()
            order = torch.randperm(len(images), device=images.device)
            for start in range(0, len(images) - size + 1, size):
                chosen = order[start : start + size]
                self.update(images[chosen], self._labels[chosen])
                yield size

    def _augmented(self) -> Tensor:
        images = _cropped(self._images, self._task.crop_padding) if self._task.crop_padding else self._images
        if self._task.flip:
            mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        return images


def _cropped(padded: Tensor, padding: int) -> Tensor:
    """Returns one random crop of each padded image."""
    count, channels, tall, wide = padded.shape
    height, width = tall - 2 * padding, wide - 2 * padding
    shifts = torch.randint(0, 2 * padding + 1, (2, count), device=padded.device)
    rows = torch.empty((count, channels, height, wide), device=padded.device, dtype=padded.dtype, memory_format=torch.channels_last)
    for shift in range(2 * padding + 1):
        chosen = shifts[0] == shift
        rows[chosen] = padded[chosen, :, shift : shift + height]
    crops = torch.empty((count, channels, height, width), device=padded.device, dtype=padded.dtype, memory_format=torch.channels_last)
    for shift in range(2 * padding + 1):
        chosen = shifts[1] == shift
        crops[chosen] = rows[chosen, :, :, shift : shift + width]
    return crops


class ChunkedBatchNorm(nn.BatchNorm2d):
    """Batch norm of each chunk of `ghost_batch_size` examples by itself, running statistics one step a chunk."""

    def __init__(self, channels: int, ghost_batch_size: int) -> None:
        super().__init__(channels)
        self.ghost_batch_size = ghost_batch_size

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Normalizes chunk by chunk."""
        return torch.cat([super(ChunkedBatchNorm, self).forward(chunk) for chunk in torch.split(input, self.ghost_batch_size)])


class Chunked(Resident):
    """The resident loop, eager, with such layers."""

    def __init__(self, build: Build) -> None:
        super().__init__(replace(build, compiled=False))
        self.form = "eager, chunk and concatenate"

    def _network(self, task: Task) -> nn.Module:
        model = initial_model(task)
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    layer = ChunkedBatchNorm(child.num_features, task.ghost_batch_size or task.batch_size)
                    layer.load_state_dict(child.state_dict())
                    setattr(module, name, layer)
        return model
