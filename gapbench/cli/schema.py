"""`gapbench schema`: what editors need to complete and check suite files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gapbench.cli.app import app, out
from gapbench.cli.late import api
from gapbench.cli.options import PluginOption


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write it there; never over a file.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Print the JSON Schema of suite files, which editors complete by. A suite names its file in the first line, as `init` writes it."""
    if output is None:
        typer.echo(api.suite_schema(plugin or ()), nl=False)
        return
    written = api.write_suite_schema(output, plugin or ())
    out().print(f"{written}: name it in the first line of a suite: #:schema ./{written.name}", highlight=False, soft_wrap=True)
