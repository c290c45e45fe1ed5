"""A registry of named things, with lazy entries and "did you mean"."""

from __future__ import annotations

import difflib
import importlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from gapbench.core.errors import GapbenchError, UnknownNameError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the one of `known` that was probably meant, whatever its case and whatever joins its words; None where nothing is near."""
    plain = {_plain(other): other for other in known if other != name}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    if found:
        return plain[found[0]]
    # A part of a long name, such as "f1-mnist" of "hoffer2017/f1-mnist", where only one name has it.
    parts = [other for text, other in plain.items() if len(name) >= 3 and _plain(name) in text]
    return parts[0] if len(parts) == 1 else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean "x"?)` for the nearest of `known`, or an empty string where nothing is near.

    Letters that only look like those of the nearest name are named: nobody sees them.
    """
    near = nearest(name, known)
    if near is None:
        return ""
    alike = dict.fromkeys(letter for letter in name if not letter.isascii() and letter not in near)
    seen = ", ".join(f'"{letter}" is {unicodedata.name(letter, "no letter")}' for letter in alike)
    return f' (did you mean "{near}"?{" " if seen else ""}{seen})'


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns the sentence that says that `name` is no known `kind`, with the nearest spelling and all that is known."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    return f'unknown {kind} "{name}"{did_you_mean(name, names)}; known: {listed}'


def refusal_of_text(text: str, *, lines: bool = False) -> str:
    """Returns why a text cannot stand in tables, figures and terminals, empty where it can: it holds what nobody sees.

    `lines`: whether it may have several lines.
    """
    joining = "\u200c\u200d"  # some scripts and emoji need these
    for letter in text:
        if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") and letter not in joining and not (lines and letter in "\n\r\t"):
            name = unicodedata.name(letter, "a control character")
            return f"holds the invisible character U+{ord(letter):04X} ({name}); remove it"
    return ""


def refusal_of_name(name: str) -> str:
    """Returns why a text cannot name anything, empty where it can."""
    blank = f"{json.dumps(name, ensure_ascii=False)} begins or ends with a blank, which nobody sees; remove it"
    return refusal_of_text(name) or (blank if name != name.strip() else "")


def seen(name: str) -> str:
    """Returns what a reader sees of a name: equal for names that differ in blanks or in how their letters are composed."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")


class Registry(Mapping[str, T], Generic[T]):
    """Named entries of one kind, such as models. Looking up an unknown name says what would be right."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Adds an entry. Raises GapbenchError where the name is taken: two components may not share a name."""
        if name in self._entries:
            raise GapbenchError(f'{self.kind} "{name}" is already defined; choose another name')
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Removes an entry (tests and re-loaded plugins)."""
        self._entries.pop(name, None)

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(unknown_name(self.kind, name, self._entries)) from None

    def find(self, name: str) -> T | None:
        """Returns the entry of a name, None where there is none."""
        return self._entries.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load_target(target: str) -> Any:
    """Imports `package.module:object`. Catalog entries name their component that way, so that listing them imports nothing."""
    module, _, name = target.partition(":")
    if not name:
        raise GapbenchError(f'target "{target}" is not of the form "package.module:object"')
    return getattr(importlib.import_module(module), name)
