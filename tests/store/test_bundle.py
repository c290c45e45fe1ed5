"""A bundle holds what `report` needs, unpacks elsewhere, and cannot write where it should not."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from gapbench.core.errors import StoreError
from gapbench.store import ResultsDirectory, build_tables, pack, read_tables, unpack


@pytest.fixture
def finished(results, trained):
    trained()
    build_tables(results)
    (results.path / "tables").mkdir()
    (results.path / "tables" / "arms.md").write_text("| arm |")
    return results


@pytest.mark.parametrize("name", ["b.tar.gz", "b.tgz", "b.zip", "v1.2.TAR.GZ"])
def test_a_bundle_unpacks_to_the_same_tables_without_the_runs(finished, tmp_path, name):
    pack(finished, tmp_path / "elsewhere" / name)
    folder = unpack(tmp_path / "elsewhere" / name)
    assert folder.parent == tmp_path / "elsewhere"
    directory = ResultsDirectory.open_existing(folder)
    assert directory.is_bundle
    assert directory.plan() == finished.plan()
    assert read_tables(folder).runs.equals(read_tables(finished.path).runs)
    assert (folder / "tables" / "arms.md").read_text() == "| arm |"
    assert not (folder / "runs").exists()


def test_the_same_results_give_the_same_bytes(finished, tmp_path):
    for suffix in (".tar.gz", ".zip"):
        pack(finished, tmp_path / f"one{suffix}")
        pack(finished, tmp_path / f"two{suffix}")
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


@pytest.mark.parametrize(("name", "words"), [("b.zip", "exists already"), ("b.rar", r"\.tar\.gz or \.zip")])
def test_a_bundle_has_a_name_of_the_right_kind_and_is_never_written_over(finished, tmp_path, name, words):
    (tmp_path / "b.zip").write_bytes(b"precious")
    with pytest.raises(StoreError, match=words):
        pack(finished, tmp_path / name)


def test_unpacking_again_uses_the_folder_and_spares_another(finished, tmp_path):
    bundle = tmp_path / "b.tar.gz"
    pack(finished, bundle)
    folder = unpack(bundle)
    assert unpack(bundle) == folder
    bundle.unlink()
    (finished.path / "tables" / "arms.md").write_text("changed")
    pack(finished, bundle)
    with pytest.raises(StoreError, match="exists already"):
        unpack(bundle)


def evil_tar(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        member.size = 4 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"evil"))


@pytest.mark.parametrize(
    "name",
    ["../evil", "small/../../evil", "/etc/evil", "small/evil.py", "small/runs/x/outcome.json", "schema.json", "small/tables/..\\evil"],
)
def test_names_that_no_bundle_has_unpack_nothing(tmp_path, name):
    evil_tar(tmp_path / "b.tar.gz", name)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr(name, b"evil")
    for bundle in ("b.tar.gz", "c.zip"):
        with pytest.raises(StoreError, match="nothing was unpacked"):
            unpack(tmp_path / bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "c.zip"]


def test_links_unpack_nothing(tmp_path):
    evil_tar(tmp_path / "b.tar.gz", "small/tables/link", tarfile.SYMTYPE)
    with pytest.raises(StoreError, match="no plain file"):
        unpack(tmp_path / "b.tar.gz")


def test_a_bundle_that_grows_beyond_reason_is_refused(finished, tmp_path, monkeypatch):
    pack(finished, tmp_path / "b.zip")
    monkeypatch.setattr("gapbench.store.bundle.MAXIMUM_BYTES", 100)
    with pytest.raises(StoreError, match="unpacks to more"):
        unpack(tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["b.tar.gz", "b.zip"])
def test_a_torn_bundle_is_an_error(finished, tmp_path, name):
    pack(finished, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="is the file whole"):
        unpack(tmp_path / name)


def test_results_without_tables_cannot_be_packed(results, tmp_path):
    with pytest.raises(StoreError, match="gapbench report"):
        pack(results, tmp_path / "b.zip")
