"""The command about speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gapbench.cli.app import app, err, out
from gapbench.cli.late import console
from gapbench.cli.options import UsageError


def _complete_cases(incomplete: str) -> list[str]:
    from gapbench.bench import CASES

    return [name for name in CASES if name.startswith(incomplete)]


@app.command()
def bench(
    cases: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CASES]...", help="Cases to time; default: all of the device.", autocompletion=_complete_cases),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", min=0, help="Rounds that there are to be, earlier ones included; 0 only writes table and figure anew. [5]"
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.1, help="Length of a timing; default: the case's own.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Where timings are kept.")] = Path("results/bench"),
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: cuda where there is a GPU.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Time on a loaded machine, too; the results are marked.")] = False,
    only_list: Annotated[bool, typer.Option("--list", help="Say what could be timed, and with what goals; time nothing.")] = False,
) -> None:
    """Time the engine against loops that people would run instead, side by side; again goes on."""
    from gapbench.bench import CASES, ROUNDS, compare, unmeasurable

    if only_list:
        console.print_bench_cases(out(), CASES, unmeasurable())
        return
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {device}: should be cpu or cuda")
    report = compare(
        cases or (),
        rounds=ROUNDS if rounds is None else rounds,
        seconds=seconds,
        output=output,
        device=device,  # type: ignore[arg-type]  # one of the two, see above
        anyway=anyway,
        on_message=lambda text: err().print(text, highlight=False, markup=False, soft_wrap=True),
    )
    console.print_bench(out(), report, output)
