"""An analysis as files, whichever it is: a Markdown page of sentences, tidy CSV, figures as SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.report.style import house_style, render
from gapbench.store.files import whole_folder, write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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
        write_text(temporary / f"{what}.md", analysis_markdown(what, suite, sentences, tuple(drawings)))
        for name, frame in frames.items():
            write_text(temporary / f"{name}.csv", str(frame.to_csv(index=False, lineterminator="\n", float_format="%.8g")))
        for name, draw in drawings.items():
            with house_style():
                figure = draw()
                for kind in ("svg", "png"):
                    write_bytes(temporary / f"{name}.{kind}", render(figure, kind))
    return sorted(folder.iterdir())


def analysis_markdown(what: str, suite: str, sentences: Mapping[str, Sequence[str]], figures: Sequence[str] = ()) -> str:
    """Returns the page: every conclusion as a sentence, panel by panel, with the figures below."""
    parts = [f"# {suite}: {what}"]
    for title, texts in sentences.items():
        parts += [f"## {title}", "\n".join(f"- {text}" for text in texts)]
    parts += [f"![{name.replace('_', ' ')}]({name}.svg)" for name in figures]
    return "\n\n".join(parts) + "\n"
