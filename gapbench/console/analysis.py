"""An analysis in a terminal: its sentences, panel by panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gapbench.console.sentences import say


def print_analysis(console: Console, title: str, sentences: Mapping[str, Sequence[str]]) -> None:
    """Prints the sentences of an analysis under their panels."""
    say(console, title, style="bold")
    for panel, texts in sentences.items():
        say(console, panel, style="italic")
        for text in texts:
            if console.is_terminal:
                console.print(Padding(Text(text), (0, 0, 0, 2)), highlight=False)
            else:
                console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
