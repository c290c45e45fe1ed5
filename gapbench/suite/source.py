"""Reading a suite file and the files it extends, merged into one document that still knows where every key was written."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapbench.core.errors import Problem, SuiteError
from gapbench.suite.locate import KeyPath, locate

SECTIONS = ("schema", "name", "summary", "extends", "run", "grid", "arm", "exclude", "override", "regimes", "report")
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

    def directory_of(self, path: KeyPath) -> Path:
        """Returns the folder of the file in which a key path was written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]][0].directory
        return self.sources[-1].directory

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
                text += f".{key}" if text else key
        return text


def read_document(path: Path, settings: Mapping[str, str]) -> Document:
    """Reads a suite file, what it extends, and the `--set` options.

    Raises:
        SuiteError: a file that is missing, not TOML, or extends itself; a `--set` option that is no `key=value`.
    """
    sources = _read_chain(path)
    if settings:
        sources.append(_settings_source(settings))
    document = Document({}, sources)
    for source in sources:
        _merge_source(document, source)
    return document


def _read_chain(path: Path) -> list[Source]:
    """Returns the sources of a file and of all that it extends, the most basic first."""
    chain: list[Source] = []
    seen: list[Path] = []
    place = ""
    while True:
        if path.resolve() in seen:
            cycle = " -> ".join(source.shown for source in chain[seen.index(path.resolve()) :])
            raise SuiteError([Problem(place, f"a suite cannot extend itself: {cycle} -> {path}; remove one `extends`")])
        source = _read_file(path, place)
        seen.append(path.resolve())
        chain.append(source)
        parent = source.data.get("extends")
        if not isinstance(parent, str):  # another type is found by the schema
            return chain[::-1]
        place = source.place(("extends",), "extends")
        path = path.parent / parent


def _read_file(path: Path, place: str) -> Source:
    try:
        text = path.read_bytes().decode("utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError:
        raise SuiteError(
            [Problem(place, f"there is no suite file {path}; name a .toml file, or a suite of `gapbench ls suites`")]
        ) from None
    except IsADirectoryError:
        raise SuiteError([Problem(place, f"{path} is a directory; name a .toml file in it")]) from None
    except OSError as error:
        raise SuiteError([Problem(place, f"{path} cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SuiteError([Problem(str(path), f"is not TOML: byte {error.start} is not UTF-8; save the file as UTF-8")]) from error
    except tomllib.TOMLDecodeError as error:
        raise SuiteError([_toml_problem(path, text, error)]) from error
    text = text.replace("\r\n", "\n")
    return Source(str(path), path.resolve().parent, data, locate(text))


def _toml_problem(path: Path, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
    lines = text.splitlines() or [""]
    message, line = (found[1], int(found[2] or len(lines))) if found else (str(error), len(lines))
    shown = lines[line - 1].strip() if line <= len(lines) else ""
    return Problem(f"{path}:{line}", f"is not TOML: {message[:1].lower()}{message[1:]}, in: {shown}")


def _settings_source(settings: Mapping[str, str]) -> Source:
    """Returns the `--set` options as a source: `epochs=2` means [run], `grid.seed=0..2` any other section."""
    data: dict[str, Any] = {}
    for key, text in settings.items():
        keys = key.strip().split(".")
        if not all(keys):
            raise SuiteError([Problem("--set", f'"{key}={text}" is not of the form key=value, such as epochs=2 or grid.seed=0..2')])
        if keys[0] not in SECTIONS:
            keys.insert(0, "run")
        if keys[0] in ("schema", "name", "extends", "arm", "exclude", "override"):
            raise SuiteError([Problem("--set", f"{keys[0]} cannot be set here; set keys of [run], [grid], [report] or [regimes.NAME]")])
        table = data
        for part in keys[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise SuiteError([Problem("--set", f"{key} and a part of it are both set")])
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
