"""On which line of a TOML file a key stands: tomllib does not tell, and an error message should.

Works on text that tomllib has accepted, so it may read loosely: it only follows keys, brackets and strings.
"""

from __future__ import annotations

import tomllib
from typing import TypeAlias

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
