"""Image folders and crops in suites: sizes, shapes and identity come from the files, before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gapbench.suite import Suite, load_suite

TEXT = """
[run]
dataset = {{ name = "imagefolder", path = "{path}"{options} }}
model = {{ name = "resnet", depth = 8 }}
optimizer = {{ name = "sgd", momentum = 0.9 }}
batch_size = 4
reference_batch_size = 4
epochs = 2
learning_rate = 0.1
"""
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))


def save(folder: Path, shade: int = 0) -> None:
    for part, count in (("train", 6), ("val", 2)):
        for label in range(2):
            for number in range(count):
                path = folder / part / f"n{label}" / f"{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20 + number, 30), (shade, 50 * label, 10 * number)).save(path)


def load_text(write: Write, path: str = "images", more: str = "", options: str = "") -> Suite:
    return load_suite(write(TEXT.format(path=path, options=options) + more))


def test_sizes_and_classes_come_from_the_folder(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "images")
    (run,) = load_text(write).runs
    assert (run.spec.train_examples, run.spec.updates) == (12, 6)
    assert run.spec.dataset.option("size") == 256
    assert run.spec.split_drawn is False


def test_content_counts_and_not_the_place(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "images")
    save(tmp_path / "elsewhere" / "same")
    one, same = load_text(write).runs[0], load_text(write, "elsewhere/same").runs[0]
    assert one.run_id == same.run_id
    assert one.spec.dataset.option("path") != same.spec.dataset.option("path")
    save(tmp_path / "images", shade=1)
    assert load_text(write).runs[0].run_id != one.run_id
    assert load_text(write, "elsewhere/same", options=", size = 128").runs[0].run_id != one.run_id


def test_content_can_be_insisted_on_and_is_that_of_the_path(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "images")
    save(tmp_path / "others", shade=1)
    content = load_text(write).runs[0].spec.dataset.option("content")
    options = f', content = "{content}"'
    assert load_text(write, options=options).runs
    with pytest.raises(Exception, match=rf"run\.dataset\.content: .*others holds other data: content [0-9a-f]{{16}}, not {content}"):
        load_text(write, "others", options=options)


def test_a_folder_of_another_layout_is_a_mistake_at_its_path(mistakes: Callable[..., list[str]], tmp_path: Path) -> None:
    (found,) = mistakes(TEXT.format(path="images", options=""))
    assert found.startswith("suite.toml:4: run.dataset.path: ")
    assert "images/train cannot be read: No such file or directory; an image folder has its images in train/<class>/" in found


def test_crops_make_another_run_and_crops_of_everything_do_not(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "images")
    whole = load_text(write, options=", size = 32").runs[0]
    all_of_it = load_text(write, options=", size = 32", more="crop_size = 32\n").runs[0]
    cropped = load_text(write, options=", size = 32", more="crop_size = 28\n").runs[0]
    assert whole.run_id == all_of_it.run_id != cropped.run_id
    assert (all_of_it.spec.crop_size, cropped.spec.crop_size) == (0, 28)
    scaled = load_text(write, options=", size = 32", more="crop_size = 32\ncrop_scale = 0.08\n").runs[0]
    assert (scaled.spec.crop_size, scaled.spec.crop_scale) == (32, 0.08)
    assert scaled.run_id != whole.run_id


def test_a_model_sees_the_crop(write: Write, mistakes: Callable[..., list[str]], tmp_path: Path) -> None:
    save(tmp_path / "images")
    c1 = TEXT.format(path="images", options=", size = 40").replace('{ name = "resnet", depth = 8 }', '"c1"')
    assert load_suite(write(c1 + "crop_size = 32\n")).runs
    (found,) = mistakes(c1)
    assert 'model "c1" takes inputs of 32 x 32 x 3, and the data set has 40 x 40 x 3' in found


def test_crops_that_cannot_be_are_mistakes(mistakes: Callable[..., list[str]], tmp_path: Path) -> None:
    save(tmp_path / "images")
    text = TEXT.format(path="images", options=", size = 32")
    (found,) = mistakes(text + "crop_size = 33\n")
    assert found.endswith("run.crop_size: crop_size = 33 is more than the images have, 32 x 32; choose a smaller one, or larger images")
    (found,) = mistakes(text + "crop_scale = 0.08\n")
    assert found.endswith("run.crop_scale: crop_scale = 0.08 scales crops to crop_size, which is not set; set it, such as crop_size = 224")
    (found,) = mistakes(text + "crop_size = 28\ncrop_padding = 4\n")
    assert found.endswith("run.crop_size: crop_size = 28 cuts images and crop_padding = 4 pads them; set one of them to 0")
