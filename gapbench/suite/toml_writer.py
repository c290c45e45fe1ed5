"""Writing plain data as TOML, which tomllib only reads: the resolved suite that is kept with its results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def dumps(data: Mapping[str, Any]) -> str:
    """Returns TOML text that tomllib reads back as equal data: tables one level deep, what lies deeper inline."""
    blocks = [[f"{_key(key)} = {_value(value)}" for key, value in data.items() if not _is_section(value)]]
    for key, value in data.items():
        if not _is_section(value):
            continue
        tables = value if isinstance(value, list) else [value]
        header = f"[[{_key(key)}]]" if isinstance(value, list) else f"[{_key(key)}]"
        blocks.extend([header, *(f"{_key(name)} = {_value(item)}" for name, item in table.items())] for table in tables)
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    return str(value)  # dates and times are written as they are read


def _number(value: float) -> str:
    text = repr(value)
    return text if any(sign in text for sign in ".einf") or text == "nan" else f"{text}.0"
