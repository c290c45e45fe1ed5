"""The analysis of diffusion as files: figures as SVG and PNG, tidy CSV, and a Markdown page of sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.analysis.diffusion import Study
from gapbench.report.diffusion.figures import diffusion_drawings
from gapbench.report.style import house_style, render
from gapbench.store.files import whole_folder, write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def write_diffusion(found: Study, folder: Path) -> list[Path]:
    """Writes everything into a new folder, which appears whole or not at all; returns its files.

    Figures are drawn anew, so that the same study gives the same bytes whatever was done to figures in a notebook.

    Raises:
        StoreError: the folder exists, or cannot be written.
    """
    return write_pages(found.suite, found.sentences, found.frames, diffusion_drawings(found), folder)


def write_pages(
    suite: str,
    sentences: Mapping[str, Sequence[str]],
    frames: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Callable[[], Figure]],
    folder: Path,
    what: str = "diffusion",
) -> list[Path]:
    """Writes sentences, frames and figures of an analysis as `write_diffusion` does."""
    with whole_folder(folder) as temporary:
        write_text(temporary / f"{what}.md", diffusion_markdown(suite, sentences, tuple(figures), what))
        for name, frame in frames.items():
            write_text(temporary / f"{name}.csv", str(frame.to_csv(index=False, lineterminator="\n", float_format="%.8g")))
        for name, draw in figures.items():
            with house_style():
                figure = draw()
                for kind in ("svg", "png"):
                    write_bytes(temporary / f"{name}.{kind}", render(figure, kind))
    return sorted(folder.iterdir())


def diffusion_markdown(suite: str, sentences: Mapping[str, Sequence[str]], figures: Sequence[str] = (), what: str = "diffusion") -> str:
    """Returns the page: every conclusion as a sentence, panel by panel, with the figures below."""
    parts = [f"# {suite}: {what}"]
    for title, texts in sentences.items():
        parts += [f"## {title}", "\n".join(f"- {text}" for text in texts)]
    parts += [f"![{name.replace('_', ' ')}]({name}.svg)" for name in figures]
    return "\n\n".join(parts) + "\n"
