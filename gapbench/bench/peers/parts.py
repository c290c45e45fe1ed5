"""What the peers share: the same network with the same initial weights, the same optimizer constants, images through PIL."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gapbench.bench.cases import CLASSES, LEARNING_RATE, MOMENTUM, PIXEL_DEVIATION, PIXEL_MEAN, WEIGHT_DECAY, Task
from gapbench.bench.peers import Build
from gapbench.catalog import models
from gapbench.core.hashing import derive_seed
from gapbench.core.registry import load_target
from gapbench.layers.keyed import Dropout

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

MOST_WORKERS = 8
"""As in the released code; more than the cores of a small machine would only stand in each other's way."""


def initial_model(task: Task, replica: int = 0) -> nn.Module:
    """Returns the plain module with the initial weights that ours has for this seed, its dropout torch's own."""
    height, width, channels = task.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(replica, "initial weights"))
        model: nn.Module = load_target(models()[task.model.name].target)((channels, height, width), CLASSES, **task.model.options)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):  # its hashed masks cost time that a plain loop would not spend
                setattr(module, name, nn.Dropout(child.probability))
    return model.train()


def sgd(model: nn.Module, **how: Any) -> torch.optim.Optimizer:
    """Returns SGD with the constants of every side; `how` it is computed is the peer's choice."""
    return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, **how)


def in_memory(build: Build) -> tuple[Tensor, Tensor]:
    """Returns the training set: normalized float32 images [examples, channels, height, width], and labels, on the device."""
    images, labels = (torch.from_numpy(array[: build.task.examples]) for array in (build.pool.images, build.pool.labels))
    return ((images.permute(0, 3, 1, 2).float() / 255 - PIXEL_MEAN) / PIXEL_DEVIATION).to(build.device), labels.to(build.device)


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Images through PIL and torchvision's transforms, one by one, as in most training scripts."""

    def __init__(self, task: Task, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        from torchvision import transforms

        height, _, channels = task.shape
        steps: list[object] = [transforms.RandomCrop(height, padding=task.crop_padding)] if task.crop_padding else []
        steps += [transforms.RandomHorizontalFlip()] if task.flip else []
        steps += [transforms.ToTensor(), transforms.Normalize((PIXEL_MEAN,) * channels, (PIXEL_DEVIATION,) * channels)]
        self._transform = transforms.Compose(steps)
        self._images = images.squeeze(-1) if channels == 1 else images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def loader(build: Build) -> DataLoader[tuple[Tensor, int]]:
    """Returns a DataLoader of shuffled, augmented, whole batches."""
    task, pool = build.task, build.pool
    return DataLoader(
        ImageDataset(task, pool.images[: task.examples], pool.labels[: task.examples]),
        batch_size=task.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=build.workers,
        persistent_workers=build.workers > 0,
        pin_memory=build.device.type == "cuda",
    )
