"""A folder of real JPEG files, from the suite to the tables; killed workers and other machines find the decoded images again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapbench import api
from tests.small import trained

SUITE = """
schema = 1
name = "photos"
[run]
dataset = { name = "imagefolder", path = "images", size = 20 }
model = { name = "resnet", depth = 8 }
optimizer = { name = "sgd", momentum = 0.9 }
crop_size = 16
flip = true
epochs = 2
reference_batch_size = 8
learning_rate = 0.05
evaluations = 2
batch_size = 8
"""


@pytest.fixture
def folder(own_folder: Path) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for label in range(2):
            for number in range(count):
                path = own_folder / "images" / part / f"n{label}" / f"{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(120 * label, 120 * label + 100, (30, 24 + number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    (own_folder / "photos.toml").write_text(SUITE)
    return own_folder


def test_a_folder_of_jpeg_files_trains_end_to_end(folder: Path) -> None:
    (row,) = api.load_results(trained(folder, SUITE)).runs.to_dict("records")
    assert (row["outcome"], row["dataset"], row["updates"]) == ("ok", "imagefolder", 12)
    assert row["test_accuracy"] > 0.6
    assert row["run_id"] == api.load_suite(folder / "photos.toml").runs[0].run_id
    assert [path.suffix for path in (folder / "cache" / "datasets").glob("imagefolder-*")].count("") == 1
    assert not list((folder / "cache" / "datasets").glob(".*.partial"))


def test_a_damaged_file_ends_the_start_by_its_name_and_trains_nothing(folder: Path) -> None:
    (folder / "images" / "train" / "n1" / "3.JPEG").write_bytes(b"damaged")
    with pytest.raises(Exception, match=r"1 image cannot be read; replace or remove them(.|\n)*n1/3\.JPEG: UnidentifiedImageError"):
        api.run(folder / "photos.toml", results=folder / "results", devices="cpu", slots=1)
    assert not list((folder / "results").glob("photos/runs/*/outcome.json"))


def test_the_plan_of_a_folder_that_is_gone_says_what_is_wanted(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    with pytest.raises(Exception, match=r"run\.dataset\.path: images/train cannot be read"):
        api.load_suite(folder / "photos.toml")
