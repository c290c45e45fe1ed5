"""What is written: texts, figures as SVG and PNG, and a whole analysis as a page of sentences, tidy CSV and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.report.style import house_style, render
from gapbench.report.tables import listing, markdown
from gapbench.store.files import whole_folder, write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def write_texts(texts: Mapping[str, str], folder: Path) -> tuple[Path, ...]:
    """Writes text files by name into a folder, each atomically, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in texts)


def write_figures(drawings: Mapping[str, Callable[[], Figure]], folder: Path) -> tuple[tuple[Path, ...], dict[str, Figure]]:
    """Draws figures in the house's style and writes each atomically; returns their files (.svg, then .png) and themselves, by name.

    Args:
        drawings: what draws each figure, by name.
        folder: is made where it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, drawn = [], {}
    for name, draw in drawings.items():
        with house_style():
            drawn[name] = draw()
            for kind in ("svg", "png"):
                files.append(folder / f"{name}.{kind}")
                write_bytes(files[-1], render(drawn[name], kind))
    return tuple(files), drawn


def write_analysis(
    what: str,
    suite: str,
    sentences: Mapping[str, Sequence[str]],
    frames: Mapping[str, pd.DataFrame],
    drawings: Mapping[str, Callable[[], Figure]],
    folder: Path,
) -> list[Path]:
    """Writes everything into a new folder, which appears whole or not at all; returns its files.

    Figures are drawn anew, so that the same analysis gives the same bytes whatever was done to figures in a notebook.

    Args:
        what: name of the analysis, and of its page.
        suite: what was analysed.
        sentences: conclusions, by panel.
        frames: the numbers, tidy, by name.
        drawings: what draws each figure, by name; called in the house's style.
        folder: must not exist yet.

    Raises:
        StoreError: the folder exists, or cannot be written.
    """
    with whole_folder(folder) as temporary:
        tables = {f"{name}.csv": str(frame.to_csv(index=False, lineterminator="\n", float_format="%.8g")) for name, frame in frames.items()}
        write_texts({f"{what}.md": analysis_markdown(what, suite, sentences, tuple(drawings)), **tables}, temporary)
        write_figures(drawings, temporary)
    return sorted(folder.iterdir())


def analysis_markdown(what: str, suite: str, sentences: Mapping[str, Sequence[str]], figures: Sequence[str] = ()) -> str:
    """Returns the page: every conclusion as a sentence, panel by panel, with the figures below."""
    parts = [f"# {suite}: {what}"]
    for title, texts in sentences.items():
        parts += [f"## {markdown(title)}", listing(texts)]
    parts += [f"![{name.replace('_', ' ')}]({name}.svg)" for name in figures]
    return "\n\n".join(parts) + "\n"
