"""The plain loops: self-contained, as one would write them with torch and torchvision and nothing else.

Same architecture, initial weights, batch size, optimizer and clipping as ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gapbench.bench.cases import Case
from gapbench.catalog import models
from gapbench.core.hashing import derive_seed
from gapbench.core.registry import load_target
from gapbench.layers.dropout import bind_keys


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Images through PIL and torchvision's transforms, one by one, as in most training scripts."""

    def __init__(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], case: Case) -> None:
        from torchvision import transforms

        height, _, channels = case.shape
        steps: list[object] = [transforms.RandomCrop(height, padding=case.crop_padding)] if case.crop_padding else []
        steps += [transforms.RandomHorizontalFlip()] if case.flip else []
        steps += [transforms.ToTensor(), transforms.Normalize((0.5,) * channels, (0.25,) * channels)]
        self._transform = transforms.Compose(steps)
        self._images = images.squeeze(-1) if channels == 1 else images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def plain_model(case: Case, seed: int, classes: int) -> nn.Module:
    """Returns the plain module with the initial weights that ours has for this seed."""
    height, width, channels = case.shape
    torch.manual_seed(derive_seed(seed, "initial weights"))
    model: nn.Module = load_target(models()[case.model.name].target)((channels, height, width), classes, **case.model.options)
    return model.train()


def plain_update(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One update as in a tutorial: returns the loss as a number, so it waits."""
    bind_keys(model, labels)  # C1's dropout wants keys; any will do here
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def plain_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with torch's defaults for how it is computed."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def loader_loop(case: Case, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], classes: int, workers: int) -> Iterator[int]:
    """Trains with a DataLoader for ever; yields the number of examples after each update."""
    loader = DataLoader(
        ImageDataset(images, labels, case),
        batch_size=case.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = plain_model(case, 0, classes)
    optimizer = plain_optimizer(model)
    while True:
        for batch, targets in loader:
            plain_update(model, optimizer, batch, targets)
            yield len(targets)


def memory_loop(case: Case, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], classes: int) -> Iterator[int]:
    """Trains the replicas one after another on tensors in memory for ever; yields after one update of each."""
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    targets = torch.from_numpy(labels)
    pairs = [(model, plain_optimizer(model)) for model in (plain_model(case, seed, classes) for seed in range(case.replicas))]
    while True:
        orders = [torch.randperm(case.examples) for _ in pairs]
        for start in range(0, case.examples - case.batch_size + 1, case.batch_size):
            for (model, optimizer), order in zip(pairs, orders, strict=True):
                chosen = order[start : start + case.batch_size]
                plain_update(model, optimizer, inputs[chosen], targets[chosen])
            yield case.batch_size * case.replicas
