"""Image folders, on real files: what is an example, which pixels it becomes, what names the data, and what is said of damaged ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gapbench.core.errors import DataError
from gapbench.suite import facts
from gapbench.suite.runspec import Component
from gapbench.workloads.datasets import cache, imagefolder, load
from gapbench.workloads.datasets.arrays import DataContext
from gapbench.workloads.datasets.imagefolder import UnreadablePictureError, read_square

SIZE = 24


def save(path: Path, *, seed: int, mode: str = "RGB", form: str = "JPEG") -> Path:
    random = np.random.default_rng(seed)
    height, width = random.integers(SIZE - 10, 3 * SIZE, 2)
    small = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((int(width), int(height)), Image.Resampling.BICUBIC).convert(mode).save(path, form)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes; among the files are grayscale, CMYK and palette images, a PNG that is called a JPEG, and text."""
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    facts.look_again()
    root = tmp_path / "images"
    seed = iter(range(1000))
    for part, count in (("train", 5), ("val", 2)):
        for name in ("n02", "n01"):
            for number in range(count):
                save(root / part / name / f"{name}_{number}.JPEG", seed=next(seed))
    save(root / "train" / "n01" / "gray.JPEG", seed=next(seed), mode="L")
    save(root / "train" / "n01" / "print.JPEG", seed=next(seed), mode="CMYK")
    save(root / "train" / "n01" / "really_png.JPEG", seed=next(seed), form="PNG")
    save(root / "train" / "n02" / "deeper" / "palette.png", seed=next(seed), mode="P", form="PNG")
    save(root / "train" / "n02" / "last.jpg", seed=next(seed))
    (root / "train" / "n01" / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def decoded(folder: Path, context: DataContext) -> Callable[..., Any]:
    """Loads the folder, anew."""

    def decode(**options: Any) -> Any:
        cache.forget()
        facts.look_again()
        return imagefolder.imagefolder(context, path=str(folder), **{"size": SIZE, **options})

    return decode


def entries(context: DataContext) -> list[Path]:
    return sorted(context.decoded_dir.glob("imagefolder-*[!k]"))  # without locks


def test_examples_and_labels_are_those_of_torchvision_in_its_order(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    found = facts.list_images(folder)
    theirs = [ImageFolder(folder / part) for part in facts.PARTS]
    assert found.classes == tuple(theirs[0].classes) == ("n01", "n02")
    assert [(str(path), label) for path, label in found.examples()] == [sample for part in theirs for sample in part.samples]
    assert (found.count("train"), found.count("val")) == (15, 4)


def test_extensions_are_torchvisions() -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert facts.EXTENSIONS == IMG_EXTENSIONS


def test_pixels_are_those_of_torchvisions_resize_and_center_crop(folder: Path, decoded: Callable[..., Any]) -> None:
    from torchvision.datasets.folder import pil_loader
    from torchvision.transforms import CenterCrop, Compose, Resize

    pool, theirs = decoded(), Compose([Resize(SIZE), CenterCrop(SIZE)])
    assert pool.images.shape == (19, SIZE, SIZE, 3)
    assert (pool.classes, pool.pixel_max, pool.official_train) == (2, 255.0, 15)
    for image, label, (path, expected) in zip(pool.images, pool.labels, facts.list_images(folder).examples(), strict=True):
        np.testing.assert_array_equal(image, np.asarray(theirs(pil_loader(path))), err_msg=str(path))
        assert label == expected


@pytest.mark.parametrize("shape", [(31, 57), (57, 31), (24, 25), (25, 24), (24, 24), (9, 90)])
def test_odd_sides_are_cut_as_torchvision_cuts_them(shape: tuple[int, int], tmp_path: Path) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    image.save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_square(tmp_path / "image.png", 24), np.asarray(Compose([Resize(24), CenterCrop(24)])(image)))


def test_parallel_processes_write_the_same_pool(decoded: Callable[..., Any], context: DataContext, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = np.array(decoded().images)
    shutil.rmtree(context.decoded_dir)
    monkeypatch.setattr(imagefolder, "ALONE", 0)
    monkeypatch.setattr(imagefolder, "CHUNK_BYTES", 2 * 3 * SIZE * SIZE)
    np.testing.assert_array_equal(decoded().images, alone)


def test_a_decoder_that_dies_is_said_and_what_it_did_is_kept(
    decoded: Callable[..., Any], context: DataContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagefolder, "ALONE", 0)
    monkeypatch.setattr(imagefolder, "CHUNK_BYTES", 2 * 3 * SIZE * SIZE)
    monkeypatch.setattr(imagefolder, "DECODER_COMMAND", ("python", "-c", "raise SystemExit(7)"))
    with pytest.raises(DataError, match=r"ended with status 7.*start again to go on"):
        decoded()
    monkeypatch.undo()
    assert entries(context) == []


def test_the_same_files_elsewhere_are_the_same_data(folder: Path, tmp_path: Path) -> None:
    content = facts.content_of(folder)
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, other, copy_function=shutil.copy)  # other times of change
    (other / "train" / "n01" / "more-notes.txt").write_text("no image")
    assert facts.content_of(other) == content


@pytest.mark.parametrize("change", ["bytes", "name", "class", "removed", "part"])
def test_whatever_changes_the_data_changes_the_content(change: str, folder: Path) -> None:
    content = facts.content_of(folder)
    file = folder / "train" / "n01" / "n01_0.JPEG"
    if change == "bytes":  # of the same size
        file.write_bytes(file.read_bytes()[:-3] + b"abc")
    elif change == "removed":
        file.unlink()
    else:
        file.rename(folder / {"name": "train/n01/renamed.JPEG", "class": "train/n02/n01_0.JPEG", "part": "val/n01/n01_0.JPEG"}[change])
    facts.look_again()
    assert facts.content_of(folder) != content


def test_files_are_read_once_and_again_only_where_a_class_folder_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, read, plain = facts.content_of(folder), [], facts._read_hash
    monkeypatch.setattr(facts, "_read_hash", lambda file: read.append(file) or plain(file))  # type: ignore[func-returns-value]
    facts.look_again()
    assert facts.content_of(folder) == content
    assert read == []
    os.utime(folder / "val" / "n02" / "n02_0.JPEG", ns=(1, 1))
    facts.look_again()
    assert facts.content_of(folder) == content
    assert {file.parent for file in read} == {folder / "val" / "n02"}


def test_what_was_decoded_needs_the_folder_no_more(folder: Path, decoded: Callable[..., Any]) -> None:
    content = facts.content_of(folder)
    images = np.array(decoded().images)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(decoded(content=content).images, images)
    assert facts.counted(content) == facts.DatasetFacts(15, 4, (), 2, content)
    with pytest.raises(DataError, match=r"images/train cannot be read: No such file"):
        decoded(content=content, size=SIZE + 1)


def test_other_images_than_planned_are_refused(decoded: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"holds other images than those that the run was planned with \(content \w{16}, expected 0123\)"):
        decoded(content="0123")


def test_every_unreadable_image_is_named(folder: Path, decoded: Callable[..., Any], context: DataContext) -> None:
    cut = folder / "train" / "n01" / "n01_1.JPEG"
    cut.write_bytes(cut.read_bytes()[:-200])
    (folder / "train" / "n02" / "n02_1.JPEG").write_bytes(b"not an image at all")
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)).save(folder / "val" / "n01" / "deep.png")
    with pytest.raises(DataError) as caught:
        decoded()
    text = str(caught.value)
    assert text.startswith("imagefolder: 3 images cannot be read; replace or remove them, and start again:")
    assert f"{cut}: OSError: image file is truncated" in text
    assert "n02_1.JPEG: UnidentifiedImageError" in text
    assert "deep.png: its pixels are of Pillow's mode I;16" in text
    assert entries(context) == []
    for name in ("train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG", "val/n01/deep.png"):
        (folder / name).unlink()
    assert len(decoded().images) == 17


def test_of_many_unreadable_images_some_are_named(folder: Path, decoded: Callable[..., Any]) -> None:
    for number in range(30):
        (folder / "val" / "n01" / f"bad_{number:02}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"30 images cannot be read(.|\n)*bad_09.png(.|\n)*and 20 more$"):
        decoded()


def test_images_that_change_while_they_are_decoded_are_not_kept(
    folder: Path, decoded: Callable[..., Any], context: DataContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = imagefolder.decode

    def disturbed(*arguments: Any, **options: Any) -> None:
        plain(*arguments, **options)
        save(folder / "train" / "n01" / "n01_0.JPEG", seed=77)

    monkeypatch.setattr(imagefolder, "decode", disturbed)
    with pytest.raises(DataError, match="changed while they were decoded"):
        decoded()
    assert entries(context) == []
    assert list(context.decoded_dir.glob(".*.partial")) == []


def test_a_disk_without_space_is_said_before_anything_is_decoded(
    decoded: Callable[..., Any], context: DataContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (context.decoded_dir / ".imagefolder-0123.partial").mkdir(parents=True)
    monkeypatch.setattr(imagefolder.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**7, 10**7))  # type: ignore[attr-defined]
    monkeypatch.setattr(imagefolder, "read_square", lambda *_: pytest.fail("something was decoded"))
    with pytest.raises(DataError) as caught:
        decoded()
    assert "GiB too few; set GAPBENCH_CACHE to a directory with more space, or choose a smaller `size`" in str(caught.value)
    assert str(caught.value).endswith("free to be deleted: .imagefolder-0123.partial")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "val"), r"images/val cannot be read: No such file.*train/<class>/ and val/<class>/"),
        (lambda root: [file.rename(root / "val" / file.name) for file in (root / "val").glob("*/*")], "val hold no image"),
        (lambda root: (root / "val" / "n01").rename(root / "val" / "n03"), r"val/n03 is a class that .*train lacks"),
        (lambda root: (root / "train" / "n00").mkdir(), r"train/n00 holds no image"),
        (lambda root: shutil.rmtree(root / "train" / "n01") or shutil.rmtree(root / "val" / "n01"), "only the class folder n02"),
    ],
)
def test_folders_of_another_layout_are_refused(damage: Callable[[Path], Any], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message):
        facts.list_images(folder)


def test_images_side_by_side_are_told_to_be_sorted(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    save(folder / "val" / "ILSVRC2012_val_00000001.JPEG", seed=1)
    with pytest.raises(DataError, match="its images lie side by side; sort the images into one folder for each class"):
        facts.list_images(folder)


def test_a_class_without_test_images_keeps_its_label(folder: Path) -> None:
    shutil.rmtree(folder / "val" / "n01")
    assert {label for path, label in facts.list_images(folder).examples() if "val" in path.parts} == {1}


def test_the_size_is_another_entry_and_subsets_are_not(folder: Path, context: DataContext) -> None:
    options = {"path": str(folder), "size": SIZE}
    pool = load(Component(name="imagefolder", options={**options, "train_size": 4}), context)
    assert load(Component(name="imagefolder", options=options), context) is pool
    assert load(Component(name="imagefolder", options={**options, "size": 8}), context).images.shape == (19, 8, 8, 3)


def test_a_file_that_is_no_image_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(UnreadablePictureError, match="cannot identify image file"):
        read_square(tmp_path / "x.jpg", 8)
