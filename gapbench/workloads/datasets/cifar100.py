"""CIFAR-100 with its fine labels: Krizhevsky 2009. Checksums: torchvision's."""

from __future__ import annotations

from functools import partial

from gapbench.workloads.datasets.cifar import decode_cifar
from gapbench.workloads.datasets.official import OfficialDataset, OfficialFile

cifar100 = OfficialDataset(
    name="cifar100",
    files=(
        OfficialFile("cifar-100-python/train", "16019d7e3df5f24257cddd939b257f8d"),
        OfficialFile("cifar-100-python/test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    ),
    decode=partial(decode_cifar, label_key="fine_labels", classes=100),
    torchvision_class="CIFAR100",
)
"""60,000 color photographs, 32x32, 50,000 of them for training, in 100 classes."""
