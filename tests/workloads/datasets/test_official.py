from __future__ import annotations

import sys
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gapbench.core.errors import DataError
from gapbench.suite.runspec import Component
from gapbench.workloads.datasets import cache, check_available, fetch, load, svhn, verify
from gapbench.workloads.datasets.arrays import DataContext
from gapbench.workloads.datasets.cache import md5_of_bytes

MNIST = Component(name="mnist")
Put = Callable[[dict[str, bytes]], None]


def listing(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class FakeTorchvision:
    """Stands for torchvision.datasets: "downloads" files and counts how often."""

    def __init__(self, files: dict[str, bytes], error: Exception | None = None) -> None:
        self.files, self.error, self.calls = files, error, 0

    def __call__(self, root: Path, *, download: bool, split: str | None = None) -> None:
        assert download
        self.calls += 1
        for path, content in self.files.items():
            if split is not None and not path.startswith(split):
                continue
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        if self.error is not None:
            raise self.error


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTorchvision]:
    def install(files: dict[str, bytes], error: Exception | None = None) -> FakeTorchvision:
        fake = FakeTorchvision(files, error)
        module = SimpleNamespace(MNIST=fake, CIFAR10=fake, SVHN=fake)
        monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=module))  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "torchvision.datasets", module)  # type: ignore[arg-type]
        return fake

    return install


@pytest.mark.parametrize("form", ["plain", "packed", "both"])
def test_mnist_is_read_in_place_unpacked_or_packed(form: str, context: DataContext, tiny_mnist: Any, put: Put) -> None:
    put((tiny_mnist.plain if form != "packed" else {}) | (tiny_mnist.packed if form != "plain" else {}))
    before = listing(context.root)
    pool = load(MNIST, context)
    assert np.array_equal(pool.images[..., 0], tiny_mnist.images)
    assert np.array_equal(pool.labels, tiny_mnist.labels)
    assert pool.official_train == 12
    assert listing(context.root) == before
    assert {file.status for file in verify("mnist", context)} == ({"packed"} if form == "packed" else {"ok"})


def test_cifar10_is_read_in_the_order_of_its_batches(context: DataContext, tiny_cifar: Any, put: Put) -> None:
    put(tiny_cifar.plain)
    pool = load(Component(name="cifar10"), context)
    assert pool.labels.tolist() == tiny_cifar.labels
    assert np.array_equal(pool.images, tiny_cifar.planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert pool.official_train == 12


def test_a_half_unpacked_file_beside_its_whole_archive_does_no_harm(context: DataContext, tiny_mnist: Any, put: Put) -> None:
    path = next(iter(tiny_mnist.plain))
    put({**tiny_mnist.packed, path: tiny_mnist.plain[path][:100]})
    assert np.array_equal(load(MNIST, context).images[..., 0], tiny_mnist.images)
    assert verify("mnist", context)[0].status == "packed"


@pytest.mark.usefixtures("tiny_mnist")
@pytest.mark.parametrize("call", [load, check_available])
def test_missing_data_while_offline_say_what_where_and_how(call: Callable[..., Any], context: DataContext) -> None:
    with pytest.raises(DataError) as caught:
        call(MNIST, context)
    message = str(caught.value)
    assert "MNIST/raw/train-images-idx3-ubyte and 3 more files" in message
    assert str(context.root) in message
    assert "gapbench data fetch mnist" in message
    assert "--data-dir" in message
    assert "GAPBENCH_DATA" in message
    assert {file.status for file in verify("mnist", context)} == {"missing"}


@pytest.mark.usefixtures("tiny_mnist")
def test_a_data_directory_that_does_not_exist_is_said(context: DataContext) -> None:
    nowhere = replace(context, data_dir=context.root / "nowhere")
    with pytest.raises(DataError, match="there is no such directory"):
        check_available(MNIST, nowhere)
    assert not nowhere.root.exists()


@pytest.mark.parametrize("form", ["plain", "packed"])
def test_a_corrupt_file_is_named_with_both_checksums_and_the_remedy(form: str, context: DataContext, tiny_mnist: Any, put: Put) -> None:
    files = dict(tiny_mnist.plain if form == "plain" else tiny_mnist.packed)
    path = list(files)[2]
    official = md5_of_bytes(files[path])
    files[path] = files[path][:-1] + b"!"
    put(files)
    for call in (lambda: load(MNIST, context), lambda: check_available(MNIST, context), lambda: fetch("mnist", context)):
        with pytest.raises(DataError) as caught:
            call()
        for part in (str(context.root / path), md5_of_bytes(files[path]), official, "gapbench data fetch mnist"):
            assert part in str(caught.value)
    assert [file.status for file in verify("mnist", context)].count("corrupt") == 1


def test_a_file_that_becomes_corrupt_is_noticed_although_it_was_decoded_before(context: DataContext, tiny_mnist: Any, put: Put) -> None:
    put(tiny_mnist.plain)
    load(MNIST, context)
    path = context.root / next(iter(tiny_mnist.plain))
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(DataError, match="corrupt"):
        load(MNIST, context)


def test_a_file_that_changes_between_check_and_reading_is_not_decoded(
    context: DataContext, tiny_mnist: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(iter(tiny_mnist.plain))
    put({**tiny_mnist.plain, path: tiny_mnist.plain[path][:-1] + b"!"})
    expected = {context.root / file.path: file.md5 for file in tiny_mnist.dataset.files}
    monkeypatch.setattr("gapbench.workloads.datasets.official.known_md5", lambda file, _: expected[file])
    with pytest.raises(DataError, match="corrupt"):
        load(MNIST, context)


def test_a_checksum_is_computed_once_for_an_unchanged_file(
    context: DataContext, tiny_mnist: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tiny_mnist.packed)
    check_available(MNIST, context)
    monkeypatch.setattr("gapbench.workloads.datasets.cache.md5_of_file", lambda path: pytest.fail(f"{path} was read again"))
    check_available(MNIST, context)


def test_decoded_data_are_used_without_reading_the_files_again(
    context: DataContext, tiny_mnist: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tiny_mnist.packed)
    first = load(MNIST, context)
    assert load(MNIST, context) is first
    cache.forget()
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    again = load(MNIST, context)
    assert np.array_equal(again.images, first.images)
    assert np.array_equal(again.labels, first.labels)


def test_what_is_missing_is_downloaded_into_the_data_directory(
    context: DataContext, tiny_mnist: Any, torchvision: Callable[..., FakeTorchvision]
) -> None:
    fake = torchvision({**tiny_mnist.plain, **tiny_mnist.packed, "archive.tar.gz": b"large"})
    check_available(MNIST, replace(context, offline=False))
    assert listing(context.root) == {**tiny_mnist.plain, **tiny_mnist.packed}
    fetch("mnist", replace(context, offline=False))
    assert fake.calls == 1


def test_without_a_data_directory_downloads_go_below_the_cache(
    context: DataContext, tiny_mnist: Any, torchvision: Callable[..., FakeTorchvision]
) -> None:
    torchvision(tiny_mnist.plain)
    pool = load(MNIST, replace(context, data_dir=None, offline=False))
    assert len(pool.labels) == 17
    assert (context.cache_dir / "data" / next(iter(tiny_mnist.plain))).is_file()


def test_files_that_are_there_are_never_written_over(
    context: DataContext, tiny_mnist: Any, put: Put, torchvision: Callable[..., FakeTorchvision]
) -> None:
    paths = list(tiny_mnist.plain)
    put({paths[0]: tiny_mnist.plain[paths[0]]})
    inode = (context.root / paths[0]).stat().st_ino
    torchvision(tiny_mnist.plain)
    fetch("mnist", replace(context, offline=False))
    assert (context.root / paths[0]).stat().st_ino == inode
    assert listing(context.root) == tiny_mnist.plain


@pytest.mark.parametrize("error", [RuntimeError("File not found or corrupted."), urllib.error.URLError("no route"), KeyboardInterrupt()])
def test_a_failed_or_interrupted_download_leaves_nothing(
    error: Exception, context: DataContext, tiny_mnist: Any, torchvision: Callable[..., FakeTorchvision]
) -> None:
    first = next(iter(tiny_mnist.plain))
    torchvision({first: tiny_mnist.plain[first][:50]}, error)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError) as caught:
        fetch("mnist", replace(context, offline=False))
    if not isinstance(error, KeyboardInterrupt):
        assert "gapbench data fetch mnist" in str(caught.value)
    assert list(context.root.iterdir()) == []


def test_only_the_missing_files_of_a_data_set_by_splits_are_downloaded(
    context: DataContext, put: Put, torchvision: Callable[..., FakeTorchvision], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {f"{part}_32x32.mat": part.encode() for part in ("train", "extra", "test")}
    files = tuple(replace(file, md5=md5_of_bytes(contents[file.path])) for file in svhn.svhn_extra.files)
    monkeypatch.setattr(svhn, "svhn_extra", replace(svhn.svhn_extra, files=files))
    fake = torchvision({**contents, "archive.tar.gz": b"large"})
    put({"train_32x32.mat": b"train"})
    fetch("svhn-extra", replace(context, offline=False))
    assert fake.calls == 2
    assert listing(context.root) == contents


def test_offline_never_downloads(context: DataContext, torchvision: Callable[..., FakeTorchvision], tiny_mnist: Any) -> None:
    fake = torchvision(tiny_mnist.plain)
    for call in (lambda: load(MNIST, context), lambda: check_available(MNIST, context), lambda: fetch("mnist", context)):
        with pytest.raises(DataError):
            call()
    assert fake.calls == 0


def test_a_read_only_data_directory_with_missing_files_is_said(
    context: DataContext, tiny_mnist: Any, torchvision: Callable[..., FakeTorchvision], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = torchvision(tiny_mnist.plain)

    def refuse(**_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gapbench.workloads.datasets.official.tempfile.mkdtemp", refuse)
    with pytest.raises(DataError, match="cannot be written to") as caught:
        check_available(MNIST, replace(context, offline=False))
    assert str(context.root) in str(caught.value)
    assert fake.calls == 0


def test_an_unreadable_file_is_named(context: DataContext, tiny_mnist: Any, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tiny_mnist.plain)

    def refuse(path: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        verify("mnist", context)


def test_checksums_and_layout_are_torchvisions() -> None:
    import torchvision.datasets as theirs

    from gapbench.workloads.datasets import cifar, mnist

    for ours, their in ((mnist.mnist, theirs.MNIST), (mnist.fashion_mnist, theirs.FashionMNIST)):
        assert [(f"{file.path}.gz", file.packed_md5) for file in ours.files] == [
            (f"{their.__name__}/raw/{name}", md5) for name, md5 in their.resources
        ]
        assert ours.torchvision_class == their.__name__
    for ours, their in ((cifar.cifar10, theirs.CIFAR10), (cifar.cifar100, theirs.CIFAR100)):
        expected = [(f"{their.base_folder}/{name}", md5) for name, md5 in their.train_list + their.test_list]
        assert [(file.path, file.md5) for file in ours.files] == expected
        assert ours.torchvision_class == their.__name__
