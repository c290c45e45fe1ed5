"""MNIST: LeCun, Cortes and Burges 1998. Checksums: torchvision's for .gz; the unpacked files' are those of its contents."""

from __future__ import annotations

from gapbench.workloads.datasets.idx import decode_idx, idx_files
from gapbench.workloads.datasets.official import OfficialDataset

mnist = OfficialDataset(
    name="mnist",
    files=idx_files(
        "MNIST",
        [
            ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
    ),
    decode=decode_idx,
    torchvision_class="MNIST",
)
"""70,000 handwritten digits, 28x28, 60,000 of them for training."""
