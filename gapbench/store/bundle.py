"""A results directory in one small archive: plan and suite, both tables, tables/ and figures/, and nothing of the runs."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from gapbench.core.errors import StoreError
from gapbench.store.directory import ResultsDirectory
from gapbench.store.files import whole_folder, write_bytes
from gapbench.store.plan import plan_table, read_plan, shared_plan, shared_suite, write_parquet
from gapbench.store.schema import SCHEMA_FILE, read_schema, write_schema

FILES = (SCHEMA_FILE, "suite.toml", "plan.parquet", "runs.parquet", "curves.parquet", "report.html")
FOLDERS = ("tables", "figures")
MAXIMUM_BYTES = 4 << 30
"""Unpacked size that is refused: no bundle of gapbench comes near it, a malicious one might."""

_TAR_SUFFIXES = (".tar.gz", ".tgz")


def is_bundle(path: Path) -> bool:
    """Whether a path is named like a bundle."""
    return path.name.lower().endswith((*_TAR_SUFFIXES, ".zip"))


def check_bundle_name(bundle: Path) -> None:
    """Raises StoreError where no bundle can be written under this name."""
    if not is_bundle(bundle):
        raise StoreError(f"{bundle}: a bundle is a .tar.gz or .zip file; choose such a name")
    if bundle.exists():
        raise StoreError(f"{bundle}: exists already; choose another name")


def pack(results: ResultsDirectory, bundle: Path) -> list[str]:
    """Writes a bundle (.tar.gz or .zip) and returns the names in it. The same results give the same bytes.

    Raises:
        StoreError: the name ends in something else, the file exists, or the directory has no tables yet.
    """
    check_bundle_name(bundle)
    names = list(_names(results.path))
    for needed in ("runs.parquet", "curves.parquet"):
        if needed not in names:
            raise StoreError(f"{results.path}: has no {needed} yet; `gapbench report {results.path}` makes it")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    own = {"suite.toml": _suite, "plan.parquet": _plan}
    members = [(f"{results.path.name}/{name}", own.get(name, _bytes)(results.path / name)) for name in names]
    write_bytes(bundle, _zip(members) if bundle.suffix.lower() == ".zip" else _tar(members))
    return names


def unpack(bundle: Path) -> Path:
    """Unpacks a bundle into a folder beside it, named like it without the suffix, and returns that folder.

    A folder that came from the very same bundle is used as it is; anything else that has this name is left alone.

    Raises:
        StoreError: the bundle cannot be read, holds what no bundle holds, or the folder's name is taken.
    """
    try:
        content = bundle.read_bytes()
    except OSError as error:
        raise StoreError(f"{bundle}: cannot be read ({error.strerror or error})") from error
    folder = bundle.with_name(_stem(bundle))
    digest = hashlib.sha256(content).hexdigest()
    if folder.exists():
        if (folder / SCHEMA_FILE).is_file() and read_schema(folder).get("bundle") == digest:
            return folder
        raise StoreError(f"{folder}: exists already and is not what {bundle.name} unpacks to; move it away or rename the bundle")
    members = _read(bundle, content)
    with whole_folder(folder) as temporary:
        for name, data in members.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        schema = read_schema(temporary)
        write_schema(temporary, schema["suite"], bundle=digest)
    return folder


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _plan(path: Path) -> bytes:
    """Returns the plan without the folders of this machine."""
    packed = io.BytesIO()
    write_parquet(packed, plan_table(shared_plan(read_plan(path))))
    return packed.getvalue()


def _suite(path: Path) -> bytes:
    plan = path.with_name("plan.parquet")
    return shared_suite(path.read_text(encoding="utf-8"), read_plan(plan) if plan.is_file() else None).encode()


def _names(folder: Path) -> Iterator[str]:
    for name in FILES:
        if (folder / name).is_file():
            yield name
    for subfolder in FOLDERS:
        for path in sorted((folder / subfolder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(folder).as_posix()


def _tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _zip(members: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _read(bundle: Path, content: bytes) -> dict[str, bytes]:
    """Returns the files of a bundle by name. Raises StoreError where it is damaged or holds what no bundle holds."""
    members: dict[str, bytes] = {}
    size = 0
    packed = io.BytesIO(content)
    try:
        for name, length, read in _zipped(packed) if bundle.suffix.lower() == ".zip" else _tarred(bundle, packed):
            size += length
            if size > MAXIMUM_BYTES:
                raise StoreError(
                    f"{bundle}: unpacks to more than {MAXIMUM_BYTES >> 30} GiB, which no bundle of gapbench does; nothing was unpacked"
                )
            members[_checked_name(bundle, name)] = read()
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise StoreError(f"{bundle}: cannot be unpacked ({error}); is the file whole?") from error
    return members


def _tarred(bundle: Path, packed: io.BytesIO) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yields name, size and content of every file."""
    with tarfile.open(fileobj=packed, mode="r:gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, member.size, file.read
            elif not member.isdir():
                raise StoreError(f"{bundle}: holds {member.name}, which is no plain file; no bundle of gapbench does")


def _zipped(packed: io.BytesIO) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yields name, size and content of every file."""
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, member.file_size, functools.partial(archive.read, member)


def _checked_name(bundle: Path, name: str) -> str:
    """Returns the name below the archive's top folder. Only what `pack` writes is taken: nothing can land elsewhere."""
    parts = PurePosixPath(name).parts
    inner = parts[1:]
    plain = len(inner) >= 1 and ".." not in parts and not name.startswith("/") and not any("\\" in part or ":" in part for part in parts)
    if not plain or not (inner[0] in FILES if len(inner) == 1 else inner[0] in FOLDERS):
        raise StoreError(f"{bundle}: holds {name}, which no bundle of gapbench does; nothing was unpacked")
    return "/".join(inner)


def _stem(bundle: Path) -> str:
    lower = bundle.name.lower()
    suffix = next(suffix for suffix in (*_TAR_SUFFIXES, ".zip") if lower.endswith(suffix))
    return bundle.name[: -len(suffix)]
