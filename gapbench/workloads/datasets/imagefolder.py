"""A user's own images by class, such as ImageNet's: decoded and scaled once, then mapped into memory like every other data set."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gapbench.core.errors import DataError
from gapbench.suite import image_folder
from gapbench.workloads.datasets import decoding
from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.cache import cached_in_place, write_pool
from gapbench.workloads.datasets.context import DataContext
from gapbench.workloads.datasets.pictures import DECODER


def imagefolder(context: DataContext, *, path: str, size: int = 256, content: str = "") -> Pool:
    """Returns the images of train/<class>/ and val/<class>/, uint8 [examples, size, size, 3]: val is the test set.

    Each image is scaled so that its shorter side has `size` pixels, and its middle square is kept, as torchvision's Resize and CenterCrop
    do; grayscale, palette and CMYK images become RGB. What was decoded is kept by content: where it is there, the folder is not looked at.

    Args:
        context: its `suite_dir` is what `path` is relative to.
        path: of the folder.
        size: of the stored squares, in pixels.
        content: hash of the files that the run was planned with, part of its identity; empty: whatever the folder holds.

    Raises:
        DataError: the folder is missing, has other content or another form, holds images that cannot be read (they are named), or the
            cache lacks space.
    """
    root = (context.suite_dir or Path.cwd()) / Path(path).expanduser()
    wanted = content or image_folder.content_of(root)
    checksums = {"content": wanted, "size": str(size), "decoder": str(DECODER)}
    return cached_in_place("imagefolder", checksums, lambda folder: _fill(folder, root, size, wanted), context.decoded_dir)


def _fill(folder: Path, root: Path, size: int, wanted: str) -> None:
    """Decodes all images into `folder`, going on where an earlier process stopped."""
    image_folder.look_again()
    counts = image_folder.count(root)
    if counts.content != wanted:
        raise DataError(
            f"{root} holds other images than those that the run was planned with (content {counts.content}, expected {wanted}); "
            "bring back those images, or start again with these"
        )
    found = image_folder.list_images(root)
    files, labels = zip(*found.examples(), strict=True)
    decoding.decode(folder, files, size, about={**asdict(counts), "size": size, "decoder": DECODER})
    image_folder.look_again()
    if image_folder.content_of(root) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"images in {root} changed while they were decoded; start again when the folder is at rest")
    pool = {"classes": counts.classes, "pixel_max": 255.0, "official_train": counts.train_examples}
    manifest = {"root": str(root), "names": list(found.classes), **json.loads((folder / decoding.ABOUT).read_text(encoding="utf-8"))}
    write_pool(folder, np.asarray(labels, np.int64), pool, manifest)
