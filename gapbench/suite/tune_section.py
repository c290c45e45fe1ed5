"""[tune] of a suite file: what it may hold, and what its keys say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from gapbench.core.errors import Problem
from gapbench.suite.locate import KeyPath
from gapbench.suite.messages import validate
from gapbench.suite.schema import Section, expand_seeds, show
from gapbench.suite.source import Document


def _seed_list(value: Any) -> Any:
    seeds = expand_seeds(value)
    if isinstance(seeds, list) and len(set(map(str, seeds))) < len(seeds):
        raise ValueError(f"must be different seeds, not {show(seeds)}")
    return seeds


SeedList = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1),
    BeforeValidator(_seed_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
                {"type": "string", "pattern": r"^\s*\d+\s*\.\.\s*\d+\s*$"},
            ]
        }
    ),
]


class TuneSection(Section):
    """[tune]: what `gapbench tune` searches, and how hard: the same for every cell."""

    search: Annotated[list[Literal["learning_rate", "momentum", "weight_decay", "warmup"]], Field(min_length=1)] = Field(
        default=["learning_rate"], description="What is searched; all but the learning rate among the values given here."
    )
    step: float = Field(2.0, ge=1.4, le=2.0, description="Factor between neighbouring learning rates, from about 2^(1/2) to 2.")
    trials: int = Field(7, ge=3, description="Learning rates that are tried at first, the same number for every cell.")
    extend_by: int = Field(2, ge=1, description="Learning rates that every cell gets more while one has its best at the edge.")
    extend_at_most: int = Field(8, ge=0, description="Learning rates that every cell may get more, all extensions together.")
    momentum: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(default_factory=list, description="Values to search.")
    weight_decay: list[Annotated[float, Field(ge=0.0)]] = Field(default_factory=list, description="Values to search.")
    warmup: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default_factory=list, description="Values to search: fractions of the updates."
    )
    holdout: float = Field(0.2, gt=0.0, lt=1.0, description="Fraction of the training set that trials are scored on and do not train on.")
    folds: int = Field(0, ge=1, description="Disjoint parts that are held out in turn; left out: 5 where the part is small, else 1.")
    seeds: SeedList = Field(default=[1000], description="Seeds of every trial.")
    check_seeds: SeedList = Field(default=[1001, 1002, 1003], description="Fresh seeds on which the best three points are tried again.")
    neighbours: bool = Field(False, description="Whether the tuned suite also has arms at the rates beside the best one.")


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
