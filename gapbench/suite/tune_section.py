"""[tune] of a suite file: what its keys say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gapbench.core.errors import Problem
from gapbench.suite.locate import KeyPath
from gapbench.suite.messages import validate
from gapbench.suite.schema import TuneSection
from gapbench.suite.source import Document


def read_tune(path: KeyPath, table: Mapping[str, Any], document: Document, problems: list[Problem]) -> TuneSection:
    """Returns the validated section, what is mistaken left out; mistakes are added to `problems`."""
    checked = validate(TuneSection, table, document, path, problems)
    tune = checked.value or TuneSection()
    if checked.broken or checked.value is None:
        return tune
    for name in ("momentum", "weight_decay", "warmup"):
        if name in tune.search and not getattr(tune, name):
            message = f"{name} is searched, so [tune] needs the values: {name} = [..., ...]"
            problems.append(Problem(document.place((*path, "search")), message))
        elif name in table and name not in tune.search:
            message = f'has no effect, because {name} is not searched; write search = [..., "{name}"], or remove it'
            problems.append(Problem(document.place((*path, name)), message))
        elif len(set(getattr(tune, name))) < len(getattr(tune, name)):
            problems.append(Problem(document.place((*path, name)), "must be different values"))
    of_rates = () if "learning_rate" in tune.search else ("step", "trials", "extend_by", "extend_at_most", "neighbours")
    idle = "has no effect, because learning_rate is not searched; remove it"
    problems.extend(Problem(document.place((*path, name)), idle) for name in of_rates if name in table)
    if len(set(tune.search)) < len(tune.search):
        problems.append(Problem(document.place((*path, "search")), "names something twice"))
    shared = sorted(set(tune.seeds) & set(tune.check_seeds))
    if shared:
        message = f"must be fresh seeds, and {', '.join(map(str, shared))} stand in seeds, too; choose others"
        problems.append(Problem(document.place((*path, "check_seeds")), message))
    return tune
