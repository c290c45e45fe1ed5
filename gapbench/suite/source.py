"""Reading a suite file and the files it extends, merged into one document that still knows where every key was written."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import unknown_name
from gapbench.suite.toml import DAMAGED, KeyPath, locate, read_toml, written_path

# The suites that come with gapbench, and finding a suite by path or by name.

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_suites() -> dict[str, Path]:
    """Returns the shipped suites by name: those of the installed package, or of the checkout that it runs from."""
    folders = [_PACKAGE / "_suites", _PACKAGE.parent / "suites"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def find_suite(name: str | Path) -> Path:
    """Returns the file of a suite that is named by path, or by bare name among the shipped ones.

    Raises:
        SuiteError: there is no such file.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    suites = shipped_suites()
    bare = str(name)
    if "/" not in bare and "\\" not in bare:
        if bare.removesuffix(".toml") in suites:
            return suites[bare.removesuffix(".toml")]
        if not bare.endswith(".toml") and not path.is_dir():
            raise SuiteError([Problem("", unknown_name("suite", bare, suites))])
    if path.is_dir():
        raise SuiteError([Problem("", f"{path} is a directory; name a .toml file in it")])
    raise SuiteError([Problem("", f"there is no suite file {path}; name a .toml file, or one of the shipped suites: {', '.join(suites)}")])


SECTIONS = ("schema", "name", "summary", "extends", "run", "grid", "arm", "exclude", "override", "regimes", "report", "tune")
"""The keys of a suite file, in the order in which a resolved file is written."""
COMPONENTS = ("dataset", "model", "optimizer")
_WHOLE = frozenset({"budget", "normalization", "reference"})
"""Tables that are one value: a child's replaces its parent's."""


@dataclass(frozen=True)
class Source:
    """One file (or the `--set` options) of a suite."""

    shown: str
    """How messages name it."""
    directory: Path
    """What paths in it are relative to."""
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    """Empty for `--set`."""

    def place(self, path: KeyPath, key_text: str) -> str:
        """Returns `file:line: key path`; the line is that of the nearest enclosing key that has one."""
        line = next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)
        parts = [f"{self.shown}:{line}" if line else self.shown, key_text]
        return ": ".join(part for part in parts if part)


@dataclass
class Document:
    """The merged document of a suite."""

    data: dict[str, Any]
    sources: list[Source]
    """From the most basic file to the `--set` options."""
    origins: dict[KeyPath, tuple[Source, KeyPath]] = field(default_factory=dict)
    """For every value (and for every table that comes whole from one source): its source and its path there."""
    problems: list[Problem] = field(default_factory=list)
    """Every mistake that was found, first those of the files themselves."""
    whole: bool = True
    """Whether all that says which runs there are could be read, in this file and in those that it extends."""
    damaged: set[KeyPath] = field(default_factory=set)
    """Keys whose values could not be read, taken out of `data`."""

    def damaged_in(self, path: KeyPath) -> frozenset[str]:
        """Returns the keys of the table at a path whose values could not be read."""
        return frozenset(str(other[-1]) for other in self.damaged if other[:-1] == path)

    def mistake(self, path: KeyPath, message: str) -> None:
        """Adds a mistake at a key path of the merged document."""
        self.problems.append(Problem(self.place(path), message))

    def place(self, path: KeyPath) -> str:
        """Returns where a key path of the merged document was written: `file:line: key path`."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                source, there = self.origins[path[:end]]
                return source.place(there + path[end:], self.key_text(path))
        for source in reversed(self.sources):
            if path[:1] and path[0] in source.data:
                return source.place(path, self.key_text(path))
        files = [source for source in self.sources if source.lines] or self.sources
        return files[-1].place((), self.key_text(path))

    def key_text(self, path: KeyPath) -> str:
        """Returns a key path as text: `run.model.widths`, `arm[LB].batch_size`."""
        text = ""
        value: Any = self.data
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                value = None
            if isinstance(key, int):
                label = value.get("label") if text == "arm" and isinstance(value, dict) else None
                text += f"[{label if label else key}]"
            else:
                shown = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
                text += f".{shown}" if text else shown
        return text


def read_document(path: Path, settings: Mapping[str, str]) -> Document:
    """Reads a suite file, what it extends, and the `--set` options.

    Raises:
        SuiteError: a file that is missing or of which nothing can be read.
    """
    document = _read_chain(path)
    if settings:
        document.sources.append(_settings_source(settings, document.problems))
    for source in document.sources:
        _merge_source(document, source)
    document.damaged = set(_take_damaged(document.data, ()))
    return document


def _read_chain(path: Path) -> Document:
    """Returns the sources of a file and of all that it extends, the most basic first.

    A parent that cannot be read is a mistake of the file: the document is then not whole.
    """
    document = Document({}, [])
    seen: list[Path] = []
    place = ""
    while True:
        if path.resolve() in seen:
            cycle = " -> ".join(source.shown for source in document.sources[::-1][seen.index(path.resolve()) :])
            raise SuiteError([Problem(place, f"a suite cannot extend itself: {cycle} -> {path}; remove one `extends`")])
        source, problems = _read_file(path, place)
        document.problems.extend(problems)
        if source is None:
            if not document.sources:
                raise SuiteError(problems)
            document.whole = False
            return document
        seen.append(path.resolve())
        document.sources.insert(0, source)
        parent = source.data.get("extends")
        if not isinstance(parent, str):  # another type is found by the schema
            return document
        place = source.place(("extends",), "extends")
        if parent == DAMAGED:
            document.whole = False
            return document
        path = _extended(path.parent / parent, parent)


def _extended(path: Path, name: str) -> Path:
    """Returns the file that `extends` names: one beside the suite or, where there is none, the shipped suite of that name."""
    return path if path.exists() else shipped_suites().get(name, path)


def _read_file(path: Path, place: str) -> tuple[Source | None, list[Problem]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors on Windows put a mark before the text
    except FileNotFoundError:
        return None, [Problem(place, f"there is no suite file {path}; name a .toml file, or a suite of `gapbench ls suites`")]
    except IsADirectoryError:
        return None, [Problem(place, f"{path} is a directory; name a .toml file in it")]
    except OSError as error:
        return None, [Problem(place, f"{path} cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        return None, [Problem(str(path), f"is not TOML: byte {error.start} is not UTF-8; save the file as UTF-8")]
    data, text, problems = read_toml(text.replace("\r\n", "\n"), str(path))
    if data is None:
        return None, problems
    lines: dict[KeyPath, int] = {}
    for key_path, line in locate(text).items():
        lines.setdefault(written_path(key_path), line)
    return Source(str(path), path.resolve().parent, data, lines), problems


def _take_damaged(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Takes what could not be read out of tables and yields where it stood."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, item in items:
        if (item == DAMAGED or key == DAMAGED) and isinstance(value, dict):
            del value[key]
            yield (*path, key)
        else:
            yield from _take_damaged(item, (*path, key))


def _settings_source(settings: Mapping[str, str], problems: list[Problem]) -> Source:
    """Returns the `--set` options as a source: `epochs=2` means [run], `grid.seed=0..2` any other section."""
    data: dict[str, Any] = {}
    for key, text in settings.items():
        keys = key.strip().split(".")
        if not all(keys):
            problems.append(Problem("--set", f'"{key}={text}" is not of the form key=value, such as epochs=2 or grid.seed=0..2'))
            continue
        if keys[0] not in SECTIONS:
            keys.insert(0, "run")
        if keys[0] in ("schema", "name", "extends", "arm", "exclude", "override"):
            problems.append(
                Problem("--set", f"{keys[0]} cannot be set here; set keys of [run], [grid], [report], [tune] or [regimes.NAME]")
            )
            continue
        table: Any = data
        for part in keys[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else table
        if not isinstance(table, dict) or isinstance(table.get(keys[-1]), dict):
            problems.append(Problem("--set", f"{key} and a part of it are both set"))
            continue
        table[keys[-1]] = parse_value(text)
    return Source("--set", Path.cwd(), data, {})


def parse_value(text: str) -> Any:
    """Returns a value as TOML reads it; what is no TOML value is text, so that regime=sqrt-lr needs no quotes."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _merge_source(document: Document, source: Source) -> None:
    data = copy.deepcopy({key: value for key, value in source.data.items() if key != "extends" or not isinstance(value, str)})
    _make_paths_absolute(data, source.directory)
    # The child wins: what it varies in [grid] is no longer fixed by its parent's [run], and the other way round.
    for mine, other in (("grid", "run"), ("run", "grid")):
        if isinstance(data.get(mine), dict) and isinstance(document.data.get(other), dict):
            for key in data[mine]:
                if key not in (data.get(other) or {}) and document.data[other].pop(key, None) is not None:
                    _forget(document, (other, key))
            if other == "grid" and not document.data[other]:
                del document.data[other]  # an empty grid would be a mistake
    # A name belongs to its own file: two suites must not share a results directory by accident.
    if document.sources[0] is not source and source.lines:
        document.data.pop("name", None)
        document.data.pop("summary", None)
    _merge_table(document, document.data, data, source, ())


def _make_paths_absolute(value: Any, directory: Path, *, of_data: bool = False) -> None:
    """Makes the paths of users' own data absolute; in a file they are relative to it, also where it is extended."""
    if isinstance(value, list):
        for item in value:
            _make_paths_absolute(item, directory, of_data=of_data)
    elif isinstance(value, dict):
        for key, item in value.items():
            if of_data and key == "path" and isinstance(item, str) and item:
                value[key] = (directory / Path(item).expanduser()).as_posix()
            else:
                _make_paths_absolute(item, directory, of_data=key == "dataset")


def _merge_table(document: Document, base: dict[str, Any], child: dict[str, Any], source: Source, path: KeyPath) -> None:
    for key, value in child.items():
        here = (*path, key)
        old = base.get(key)
        if here == ("exclude",) and isinstance(old, list) and isinstance(value, list):
            for index in range(len(value)):
                document.origins[("exclude", len(old) + index)] = (source, ("exclude", index))
            base[key] = old + value
        elif isinstance(old, dict) and isinstance(value, dict) and key not in _WHOLE and not (key in COMPONENTS and "name" in value):
            base[key] = dict(old)
            _merge_table(document, base[key], value, source, here)
        elif key in COMPONENTS and isinstance(old, str) and isinstance(value, dict) and "name" not in value:
            base[key] = {"name": old, **value}
            document.origins.update({(*here, option): (source, (*here, option)) for option in value})
        else:
            _forget(document, here)
            base[key] = value
            document.origins[here] = (source, here)
            if here == ("exclude",) and isinstance(value, list):
                document.origins.update({(*here, index): (source, (*here, index)) for index in range(len(value))})


def _forget(document: Document, path: KeyPath) -> None:
    for known in [known for known in document.origins if known[: len(path)] == path]:
        del document.origins[known]
