"""TOML that may be wrong: every mistake with its line, the line of a key, and plain data as TOML. tomllib does neither."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeAlias

from gapbench.catalog.parameters import show, show_key
from gapbench.core.errors import Problem

# On which line of a TOML file a key stands: tomllib does not tell, and an error message should.
#
# Works on text that tomllib has accepted, so it may read loosely: it only follows keys, brackets and strings.

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the root of the file; integers are positions in arrays."""


def locate(text: str) -> dict[KeyPath, int]:
    """Returns the line, counted from 1, of every key, table and array element of a valid TOML text.

    A table that is never written as such, such as `a` in `a.b = 1`, has the line on which it first appears.
    """
    return _Reader(text).read()


class _Reader:
    """A cursor over the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self.lengths: dict[KeyPath, int] = {}
        """Number of tables so far in every array of tables."""
        self._counted = (0, 1)
        """A position and its line; lines are counted on from there."""

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            if self.text.startswith("[[", self.position):
                table = self._header(2)
            elif self._here() == "[":
                table = self._header(1)
            else:
                self._pair(table)
        return self.lines

    def _header(self, brackets: int) -> KeyPath:
        line = self._line()
        self.position += brackets
        keys = self._keys()
        self.position += brackets
        path: KeyPath = ()
        for depth, key in enumerate(keys):
            path = (*path, key)
            self.lines.setdefault(path, line)
            last = depth == len(keys) - 1
            if last and brackets == 2:
                self.lengths[path] = self.lengths.get(path, 0) + 1
            if path in self.lengths:  # [a.b] below [[a]] means the newest a
                path = (*path, self.lengths[path] - 1)
                self.lines.setdefault(path, line)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.position += 1  # the equals sign
        self._skip_blank()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        here = self._here()
        if here in "\"'":
            self._string()
        elif here == "[":
            self._array(path)
        elif here == "{":
            self._inline_table(path)
        else:  # number, date, true, false
            while self.position < len(self.text) and self._here() not in ",]}#\n":
                self.position += 1

    def _array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        while self._skip_blank() and self._here() != "]":
            element = (*path, index)
            self.lines[element] = self._line()
            self._value(element)
            index += 1
            if self._skip_blank() and self._here() == ",":
                self.position += 1
        self.position += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while self._skip_blank() and self._here() != "}":
            self._pair(path)
            if self._skip_blank() and self._here() == ",":
                self.position += 1
        self.position += 1

    def _keys(self) -> list[str]:
        """Reads a dotted key and leaves the cursor on what follows it."""
        keys = []
        while True:
            self._skip_blank()
            start = self.position
            if self._here() in "\"'":
                self._string()
                keys.append(str(tomllib.loads(f"key = {self.text[start : self.position]}")["key"]))
            else:
                while self._here() not in ".=] \t":
                    self.position += 1
                keys.append(self.text[start : self.position])
            self._skip_blank()
            if self._here() != ".":
                return keys
            self.position += 1

    def _string(self) -> None:
        quote = self._here()
        if self.text.startswith(quote * 3, self.position):
            self.position += 3
            while not self.text.startswith(quote * 3, self.position):
                self.position += 2 if quote == '"' and self._here() == "\\" else 1
            self.position += 3
            while self._here() == quote:  # up to two quotes may stand before the closing three
                self.position += 1
            return
        self.position += 1
        while self._here() != quote:
            self.position += 2 if quote == '"' and self._here() == "\\" else 1
        self.position += 1

    def _skip_blank(self) -> bool:
        """Skips white space, line ends and comments; returns whether anything follows."""
        while self.position < len(self.text):
            if self._here() == "#":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            elif self._here().isspace():
                self.position += 1
            else:
                return True
        return False

    def _here(self) -> str:
        return self.text[self.position : self.position + 1]

    def _line(self) -> int:
        counted, line = self._counted
        line += self.text.count("\n", counted, self.position)
        self._counted = (self.position, line)
        return line


# Reading TOML that may be wrong: every line that breaks its rules is named, and what stands on the other lines is read all the same.
#
# A suite with a forgotten quote then gets all its mistakes told at once, and not only the first one that the parser stumbles over.

DAMAGED = "\0"
"""Stands for a value that could not be read. No file can hold it: TOML forbids the character."""

_DAMAGED_TOML = r'"\u0000"'
_MAXIMUM = 50
"""A file with more broken lines than this is not TOML at all."""
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_STATEMENT = re.compile(rf"^\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=\s*(.*)$")
_WITHOUT_EQUALS = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*(?::.*)?$")
_HEADER = re.compile(r"^\s*\[{1,2}[A-Za-z0-9_.\"' +-]+\]{1,2}\s*(?:#.*)?$")
_TABLE = re.compile(r"^\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*(?:#.*)?$")
_BARE_TEXT = re.compile(r"^[A-Za-z_][\w./+-]*$")


def read_toml(text: str, shown: str) -> tuple[dict[str, Any] | None, str, list[Problem]]:
    """Returns what a text holds, the text that was read in the end, with as many lines, and what is wrong with its TOML.

    Args:
        text: of the file, lines ended by newlines.
        shown: name of the file, for messages.

    Returns:
        The data, with DAMAGED for what could not be read, or None where the rest of the file depends on what is broken.
    """
    problems: list[Problem] = []
    lines = text.split("\n")
    while len(problems) < _MAXIMUM:
        try:
            return _with_repeated(tomllib.loads("\n".join(lines))), "\n".join(lines), problems
        except tomllib.TOMLDecodeError as error:
            message, line = _read_error(error, lines)
            problems.append(Problem(f"{shown}:{line}", f"is not TOML: {_in_words(message, line, lines)}, in: {lines[line - 1].strip()}"))
            without = _without(message, lines[line - 1])
            if without is None or without == lines[line - 1]:
                return None, text, problems
            lines[line - 1] = without
    return None, text, problems


def written_path(path: KeyPath) -> KeyPath:
    """Returns a path of the text that was read as it is in the file: a table that stands twice was read under another name."""
    return (path[0].removeprefix(DAMAGED), *path[1:]) if path and isinstance(path[0], str) and path[0] != DAMAGED else path


def _with_repeated(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the data with the keys of tables that stand twice put together; the first of equal keys counts."""
    for name in [name for name in data if name.startswith(DAMAGED)]:
        first, again = data.get(name.removeprefix(DAMAGED)), data.pop(name)
        if isinstance(first, dict) and isinstance(again, dict):
            first.update({key: value for key, value in again.items() if key not in first})
    return data


def _read_error(error: tomllib.TOMLDecodeError, lines: list[str]) -> tuple[str, int]:
    """Returns the parser's message and the line, counted from 1, on which what is wrong begins."""
    found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error), re.DOTALL)
    message, line = (found[1], int(found[2] or len(lines))) if found else (str(error), len(lines))
    while line > 1 and not lines[line - 1].strip():
        line -= 1  # the end of the document is no place to look at
    if message == "Cannot overwrite a value":  # it points behind the value, which may be a list over several lines
        while line > 1 and not _STATEMENT.match(lines[line - 1]):
            line -= 1
    return message, line


def _in_words(message: str, line: int, lines: list[str]) -> str:
    """Returns what is wrong, and what would be right where that is known."""
    statement = _STATEMENT.match(lines[line - 1])
    if message == "Cannot overwrite a value" and statement:
        return f"the key {statement[1]} stands twice in one table{_earlier(statement[1], line, lines)}; keep one of them"
    if message.startswith("Cannot declare") and message.endswith("twice"):
        header = lines[line - 1].split("#")[0].strip()
        first = next((number for number, other in enumerate(lines[: line - 1], 1) if other.split("#")[0].strip() == header), None)
        return f"{header} stands twice{f', first in line {first}' if first else ''}; put all its keys under one"
    if message == "Invalid value" and statement:
        value = statement[2].split("#")[0].strip()
        if _BARE_TEXT.match(value):
            wanted = {"True": "true", "False": "false", "None": '"off"'}.get(value, f'"{value}"')
            advice = "text stands in quotes" if wanted[1:-1] == value else "write it as TOML does"
            return f"invalid value; {advice}: {statement[1]} = {wanted}"
    return next((words for part, words in _ADVICE.items() if part in message), f"{message[:1].lower()}{message[1:]}")


_ADVICE = {
    "Invalid value": "invalid value: neither text in quotes nor a number, true, false, [a list] or {a table}",
    "Unescaped '\\'": "a backslash within double quotes must be doubled; or put the text between single quotes",
    "Invalid hex": "a backslash within double quotes must be doubled; or put the text between single quotes",
    "Illegal character '\\n'": "the quotes are not closed on this line",
    "Expected '='": "a key needs an equals sign and a value",
    "Expected newline": "something stands behind the value; give each key a line of its own",
    "Unclosed array": "the list before this is not closed: a comma or ] is missing",
}
"""What to say for a part of the parser's message."""


def _earlier(key: str, line: int, lines: list[str]) -> str:
    """Returns where a key stands first, looked for upward within its table."""
    for number in range(line - 1, 0, -1):
        found = _STATEMENT.match(lines[number - 1])
        if found and found[1] == key:
            return f", first in line {number}"
        if _HEADER.match(lines[number - 1]):
            break
    return ""


def _without(message: str, line: str) -> str | None:
    """Returns a line that stands in the place of a broken one, or None where what follows cannot be understood without it."""
    statement = _STATEMENT.match(line)
    if message == "Cannot overwrite a value":
        return "" if statement and _ends_here(statement[2]) else None
    repeated = _TABLE.match(line)
    if message.startswith("Cannot declare") and repeated:
        return f'["\\u0000{repeated[1]}"]'
    if message.startswith(("Unclosed", "Unterminated", "Cannot", "Duplicate")):
        return None
    if statement and _ends_here(statement[2]):
        return f"{statement[1]} = {_DAMAGED_TOML}"
    keyless = _WITHOUT_EQUALS.match(line)
    if message.startswith("Expected '='") and keyless:
        return f"{keyless[1]} = {_DAMAGED_TOML}"
    return None


def _ends_here(value: str) -> bool:
    """Returns whether what stands behind an equals sign is all of the value, and not the beginning of a list or text over several lines."""
    value = value.split("#")[0].rstrip()
    if value.startswith(('"""', "'''")):
        return False
    return not value.startswith(("[", "{")) or value.endswith({"[": "]", "{": "}"}[value[0]])


# Writing plain data as TOML, which tomllib only reads: the resolved suite that is kept with its results.


def dumps(data: Mapping[str, Any]) -> str:
    """Returns TOML text that tomllib reads back as equal data: tables one level deep, what lies deeper inline."""
    blocks = [[f"{show_key(key)} = {show(value)}" for key, value in data.items() if not _is_section(value)]]
    for key, value in data.items():
        if not _is_section(value):
            continue
        tables = value if isinstance(value, list) else [value]
        header = f"[[{show_key(key)}]]" if isinstance(value, list) else f"[{show_key(key)}]"
        blocks.extend([header, *(f"{show_key(name)} = {show(item)}" for name, item in table.items())] for table in tables)
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value))
