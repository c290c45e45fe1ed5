"""The command `gapbench test`: whether components do what the engine relies on."""

from __future__ import annotations

from typing import Annotated

import typer

from gapbench.cli.app import app, out
from gapbench.cli.late import api
from gapbench.cli.options import DataOption, PluginOption, parse_settings


def _complete(incomplete: str) -> list[str]:
    names = [name for kind in ("datasets", "models", "optimizers", "regimes", "probes") for name in api.names(kind)]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


@app.command(name="test")
def conformity(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Components, such as resnet or model:tiny; default: everything that the --plugin files define.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = None,
    plugin: PluginOption = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the component, such as depth=20. May be repeated.")
    ] = None,
    data_dir: DataOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download anything.")] = False,
) -> None:
    """Test components of your own, or built-in ones: builds, shapes, gradients, repeatable, ghost norm and replicas exact, ..."""
    report = api.check_components(
        *(names or ()), plugins=plugin or (), options=parse_settings(option or ()), data_dir=data_dir, offline=offline
    )
    from gapbench.console.conformity import print_conformity

    print_conformity(out(), report.checks)
    raise typer.Exit(report.exit_status)
