"""CIFAR-10: Krizhevsky 2009. Checksums: torchvision's."""

from __future__ import annotations

from functools import partial

from gapbench.workloads.datasets.cifar import decode_cifar
from gapbench.workloads.datasets.official import OfficialDataset, OfficialFile

cifar10 = OfficialDataset(
    name="cifar10",
    files=(
        OfficialFile("cifar-10-batches-py/data_batch_1", "c99cafc152244af753f735de768cd75f"),
        OfficialFile("cifar-10-batches-py/data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        OfficialFile("cifar-10-batches-py/data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        OfficialFile("cifar-10-batches-py/data_batch_4", "634d18415352ddfa80567beed471001a"),
        OfficialFile("cifar-10-batches-py/data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        OfficialFile("cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e"),
    ),
    decode=partial(decode_cifar, label_key="labels", classes=10),
    torchvision_class="CIFAR10",
)
"""60,000 color photographs, 32x32, 50,000 of them for training, in the order of the batch files."""
