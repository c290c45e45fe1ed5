"""A terminal that wraps its lines anew when its width changes, as most do: the slow oracle of what people see.

Understands what the live view writes: text, carriage return, new line, cursor up, erase line, colors (which it ignores).
"""

from __future__ import annotations

import re

TOKENS = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<final>[A-Za-z])|(?P<character>.)", flags=re.DOTALL)


class Terminal:
    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows: list[list[str]] = [[]]
        self._continues = [False]
        """By row: whether it belongs to the line that began above it."""
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for token in TOKENS.finditer(text):
            if token["character"]:
                self._write(token["character"])
            elif token["final"] == "A":
                self._row = max(0, len(self._rows) - self.height, self._row - int(token["numbers"] or 1))
            elif token["final"] == "K":
                assert token["numbers"] == "2", token
                self._rows[self._row], self._continues[self._row] = [], False
                if self._row + 1 < len(self._rows):
                    self._continues[self._row + 1] = False
            else:
                assert token["final"] == "m", f"unknown to this terminal: {token[0]!r}"

    def resize(self, width: int, height: int) -> None:
        while len(self._rows) > self._row + 1 and not self._rows[-1]:  # empty rows below the cursor are no content
            self._rows.pop()
            self._continues.pop()
        lines: list[list[str]] = []
        for number, (row, continues) in enumerate(zip(self._rows, self._continues, strict=True)):
            if number == self._row:
                at = (len(lines) - continues, (len(lines[-1]) if continues else 0) + self._column)
            if continues:
                lines[-1] += row
            else:
                lines.append(list(row))
        self.width, self.height = width, height
        self._rows, self._continues = [], []
        for number, line in enumerate(lines):
            parts = [line[start : start + width] for start in range(0, max(len(line), 1), width)]
            if number == at[0]:
                part = min(at[1] // width, len(parts) - 1)
                self._row, self._column = len(self._rows) + part, at[1] - part * width
            self._rows += parts
            self._continues += [False] + [True] * (len(parts) - 1)

    @property
    def history(self) -> list[str]:
        """Everything from the first line on, without empty lines at the end."""
        return "\n".join("".join(row).rstrip() for row in self._rows).rstrip("\n").split("\n")

    def _write(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._column = 0
            self._down(continues=False)
        else:
            if self._column == self.width:
                self._column = 0
                self._down(continues=True)
            row = self._rows[self._row]
            row += " " * (self._column + 1 - len(row))
            row[self._column] = character
            self._column += 1

    def _down(self, *, continues: bool) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])
            self._continues.append(continues)
