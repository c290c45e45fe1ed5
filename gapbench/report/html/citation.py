"""How to cite gapbench and the papers, and how to run a suite again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gapbench import published

_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reference:
    """A paper with the address of its preprint."""

    text: str
    address: str
    """Empty where there is no preprint."""


def citation_file() -> str:
    """Returns CITATION.cff of the installed package or of the checkout that it runs from; empty where it is in neither."""
    found = next((path for path in (_PACKAGE / "CITATION.cff", _PACKAGE.parent / "CITATION.cff") if path.is_file()), None)
    return found.read_text(encoding="utf-8") if found else ""


def bibtex(citation: str) -> str:
    """Returns the software's entry for BibTeX from the text of CITATION.cff; empty where it does not say enough."""
    fields = dict(re.findall(r'^([a-z-]+): "?(.*?)"?$', citation, flags=re.MULTILINE))
    author = re.search(r'^authors:\n\s+- name: "?(.*?)"?$', citation, flags=re.MULTILINE)
    if author is None or not {"title", "version", "date-released"} <= set(fields):
        return ""
    return (
        "@software{gapbench,\n"
        f"  author  = {{{{{author[1]}}}}},\n"
        f"  title   = {{{{{fields['title']}}}}},\n"
        f"  version = {{{fields['version']}}},\n"
        f"  year    = {{{fields['date-released'][:4]}}}\n"
        "}"
    )


def references() -> list[Reference]:
    """Returns the papers whose recipes gapbench holds, with their numbers."""
    out = []
    for name, paper in zip(published.PAPERS, published.papers(), strict=True):
        if not any(row.recipe for table in published.tables(name) for row in published.table(name, table).rows):
            continue
        number = re.search(r"arXiv:(\d+\.\d+)", paper.source)
        address = f"https://arxiv.org/abs/{number[1]}" if number else ""
        out.append(Reference(f"{paper.authors}: {paper.title}. {paper.source}.", address))
    return out


def command(suite: str) -> str:
    """Returns what to type to train a saved suite again."""
    return f"gapbench run {suite}.toml"
