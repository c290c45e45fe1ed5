"""A device-resident loop as authors of speed records write it: the data set lies on the device, a whole epoch is augmented at a time.

No DataLoader, no waiting for the device, channels-last, a fused optimizer, half precision weights with norms in float32 (where it is not
asked to be float32), and on CUDA `torch.compile` with its longest search, which such authors pay once and use for hundreds of runs.
The crops of an epoch are made in two passes, rows then columns, one boolean mask a shift: few large calls, each of which waits to learn
how many images it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gapbench.bench.cases import CLIP_NORM, PIXEL_DEVIATION, PIXEL_MEAN, Precision, Task
from gapbench.bench.peers.parts import TYPES, Images, Labels, initial_model, normalized, sgd


class Resident:
    """See the module's text. `compiled`: whether `torch.compile` is used on CUDA."""

    def __init__(
        self,
        task: Task,
        images: Images,
        labels: Labels,
        *,
        precision: Precision,
        device: torch.device,
        compiled: bool = True,
        prepare: Callable[[nn.Module, Task], nn.Module] = lambda model, _task: model,
    ) -> None:
        cuda = device.type == "cuda"
        torch.backends.cudnn.benchmark = cuda
        self._task = task
        self._type = TYPES[precision]
        model = prepare(initial_model(task), task).to(device, self._type).to(memory_format=torch.channels_last)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.float()
        self._model = model
        self._optimizer = sgd(model, fused=True)
        self._compiled = compiled and cuda
        self._forward: Callable[[Tensor], Tensor] = torch.compile(model, mode="max-autotune") if self._compiled else model
        self.form = "compiled" if self._compiled else "eager"
        whole = normalized(images[: task.examples]).to(device, self._type)
        padding, black = task.crop_padding, (0.0 - PIXEL_MEAN) / PIXEL_DEVIATION
        self._images = F.pad(whole, (padding,) * 4, value=black).contiguous(memory_format=torch.channels_last)
        self._labels = torch.from_numpy(labels[: task.examples]).to(device)

    @property
    def modules(self) -> list[nn.Module]:
        """The network."""
        return [self._model]

    def update(self, images: Tensor, labels: Tensor, replica: int = 0) -> Tensor:
        """One update; never waits."""
        images = images.to(self._type, memory_format=torch.channels_last)
        loss = F.cross_entropy(self._forward(images).float(), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
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
