"""Reading TOML that may be wrong: every line that breaks its rules is named, and what stands on the other lines is read all the same.

A suite with a forgotten quote then gets all its mistakes told at once, and not only the first one that the parser stumbles over.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from gapbench.core.errors import Problem
from gapbench.suite.locate import KeyPath

DAMAGED = "\0"
"""Stands for a value that could not be read. No file can hold it: TOML forbids the character."""

_DAMAGED_TOML = r'"\u0000"'
_MAXIMUM = 50
"""Broken lines after which a file is taken for no TOML at all."""
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
    plain = f"{message[:1].lower()}{message[1:]}"
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
    if message == "Invalid value":
        return "invalid value: neither text in quotes nor a number, true, false, [a list] or {a table}"
    if "Unescaped '\\'" in message or message.startswith("Invalid hex"):
        return "a backslash within double quotes must be doubled; or put the text between single quotes"
    if message.startswith("Illegal character '\\n'"):
        return "the quotes are not closed on this line"
    if message.startswith("Expected '='"):
        return "a key needs an equals sign and a value"
    if message.startswith("Expected newline"):
        return "something stands behind the value; give each key a line of its own"
    if message == "Unclosed array":
        return "the list before this is not closed: a comma or ] is missing"
    return plain


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
