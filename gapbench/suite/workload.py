"""What a run trains: its data set, model and optimizer with all their options, and whether these fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gapbench import catalog
from gapbench.core.errors import DataError
from gapbench.suite.asked import Asked
from gapbench.suite.facts import DatasetFacts, dataset_facts, held_out
from gapbench.suite.runspec import Component

REGISTRIES: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "dataset": catalog.datasets,
    "model": catalog.models,
    "optimizer": catalog.optimizers,
}


def component(asked: Asked, kind: str) -> Component | None:
    """Returns a component with defaults filled in, or None where it or an option does not exist.

    A data set with a mistaken size is looked at as if that size were not given: what does not fit all of it fits no part of it.
    """
    entry = _entry(asked, kind)
    if entry is None:
        return None  # said where it is written
    given = {name: value for name, value in asked.get(kind).items() if name != "name"}
    options, mistakes = catalog.check_options(entry.parameters, given, owner=f'{kind} "{entry.name}"')
    for option, message in mistakes:
        asked.problem(kind, message, option)
    wrong = {option: entry.parameters[option] for option, _ in mistakes if option in entry.parameters}
    if (mistakes and kind != "dataset") or any(parameter.required for parameter in wrong.values()):
        return None
    options.update({option: parameter.default for option, parameter in wrong.items()})
    return Component(name=entry.name, version=entry.version, options=options)


def _entry(asked: Asked, kind: str) -> Any:
    """Returns what the catalog says of a run's data set, model or optimizer, whatever its options; None where it does not exist."""
    registry = REGISTRIES[kind]()
    name = asked.get(kind).get("name", "")
    return registry[name] if name in registry else None  # noqa: SIM401 - a registry raises where a name is unknown


def facts_of(asked: Asked, dataset: Component) -> DatasetFacts | None:
    """Returns the facts of the data set, or None where it is mistaken; a user's own file is then known by its content."""
    own_file = catalog.datasets()[dataset.name].train_examples is None
    if own_file and not dataset.option("path"):
        asked.problem("dataset", f'dataset "{dataset.name}" needs the option path')
        return None
    try:
        # Without the content that may be insisted on: what lies at the path is looked at, not what is remembered of a content.
        options = {name: value for name, value in dataset.options.items() if name != "content"}
        facts = dataset_facts(dataset.model_copy(update={"options": options}))
    except DataError as error:
        asked.problem("dataset", str(error), "path")
        return None
    if own_file:
        wanted = dataset.option("content")
        if wanted and wanted != facts.content:
            asked.problem("dataset", f"{dataset.option('path')} holds other data: content {facts.content}, not {wanted}", "content")
        dataset.options["content"] = facts.content
    return facts


def sizes(asked: Asked, dataset: Component, facts: DatasetFacts) -> tuple[int, int]:
    """Returns how many examples the run trains on and is tested on; all there are where a size is mistaken."""
    sizes = {"train_size": facts.train_examples, "test_size": facts.test_examples}
    for option, all_of_them in sizes.items():
        size = dataset.option(option, 0)
        if size > all_of_them:
            asked.problem("dataset", f"{option} = {size} exceeds the {all_of_them} examples that there are; 0 takes all", option)
        elif size:
            sizes[option] = size
    if "stratified" in dataset.options and not any(dataset.option(option, 0) for option in sizes):
        dataset.options["stratified"] = False  # all of them have the classes that they have
    examples = sizes["train_size"]
    holdout = asked.get("holdout", 0.0)
    kept = held_out(examples, holdout)
    if holdout and not 0 < kept < examples:
        asked.problem("holdout", f"holdout = {holdout:g} takes {kept} of {examples} training examples; it must take some and leave some")
        kept = 0
    return examples - kept, sizes["test_size"]


def check_model(asked: Asked, facts: DatasetFacts) -> None:
    """Adds a problem where the model cannot take the data set's inputs."""
    entry = _entry(asked, "model")
    if entry is None:
        return
    shape = " x ".join(str(side) for side in facts.shape)
    if entry.input_shape and entry.input_shape != facts.shape:
        wanted = " x ".join(str(side) for side in entry.input_shape)
        asked.problem("model", f'model "{entry.name}" takes inputs of {wanted}, and the data set has {shape}; choose another model')
    elif entry.needs_images and not facts.is_image:
        asked.problem(
            "model", f'model "{entry.name}" takes images, and the data set has {shape} features; choose another model, such as mlp'
        )
    elif facts.is_image and min(facts.shape[:2]) < entry.minimum_side:
        wanted = f"images of at least {entry.minimum_side} x {entry.minimum_side}"
        asked.problem("model", f'model "{entry.name}" takes {wanted}, and the data set has {shape}; choose another model')


def check_augmentation(asked: Asked, name: str, facts: DatasetFacts) -> None:
    """Adds a problem where images are to be augmented and the data set has none."""
    if not facts.is_image and asked.get(name):
        shape = " x ".join(str(side) for side in facts.shape)
        asked.problem(name, f"{name} is for images, and the data set has {shape} features; remove it")


def check_optimizer(asked: Asked, optimizer: Component) -> None:
    """Adds a problem where options of the optimizer do not go together."""
    if optimizer.option("nesterov") and not optimizer.option("momentum"):
        asked.problem("optimizer", "nesterov = true needs momentum > 0", "nesterov")
