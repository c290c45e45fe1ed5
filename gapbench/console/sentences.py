"""Sentences and paths on a console: folded at words in a terminal, one line each in a file or a pipe; paths are never folded."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text


class LastingConsole(Console):
    """A console whose reader may go away, as in `2>&1 | head`: then nothing is printed any more, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program."""
        self.quiet = True


def say(console: Console, text: Text | str, style: str = "", width: int | None = None) -> None:
    """Prints a sentence, or a text of `unfolded` as it is.

    Args:
        console: to print on.
        text: is taken literally, brackets included.
        style: of a plain string.
        width: of the terminal, in characters, where the console may not know it.
    """
    text = Text(text, style=style) if isinstance(text, str) else text
    if text.no_wrap or not console.is_terminal:
        console.print(text, highlight=False, soft_wrap=True)
    else:
        console.print(text, highlight=False, width=width)


def unfolded(text: str, style: str = "") -> Text:
    """Returns a text that stays one line, whatever the terminal's width: it can be copied from there in one piece."""
    return Text(text, style=style, no_wrap=True, overflow="ignore")


def place(path: Path) -> str:
    """Returns a path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
