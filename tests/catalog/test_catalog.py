from __future__ import annotations

import inspect

import pytest

from gapbench import catalog
from gapbench.catalog.entries import COMMON_DATASET_PARAMETERS, ComponentEntry
from gapbench.core.registry import load_target

COMPONENTS: list[ComponentEntry] = [
    entry for kind in ("dataset", "model", "optimizer", "probe") for entry in catalog.REGISTRIES[kind]().values()
]


def entry_name(entry: ComponentEntry) -> str:
    return f"{type(entry).__name__} {entry.name}"


@pytest.mark.parametrize("entry", COMPONENTS, ids=entry_name)
def test_targets_exist_and_are_described(entry: ComponentEntry) -> None:
    assert callable(load_target(entry.target))
    assert entry.summary
    assert len(entry.summary) < 120


@pytest.mark.parametrize("entry", COMPONENTS, ids=entry_name)
def test_defaults_and_neutrals_are_allowed_values(entry: ComponentEntry) -> None:
    for parameter in entry.parameters.values():
        assert parameter.help
        for value in (parameter.default, parameter.neutral):
            assert value is None or parameter.check(value) == value


@pytest.mark.parametrize("entry", [*catalog.models().values(), *catalog.datasets().values()], ids=entry_name)
def test_parameters_are_those_of_the_live_component(entry: ComponentEntry) -> None:
    signature = inspect.signature(load_target(entry.target))
    live = {name: parameter.default for name, parameter in signature.parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    known = {name: parameter for name, parameter in entry.parameters.items() if name not in COMMON_DATASET_PARAMETERS}
    assert set(live) == set(known)
    for name, default in live.items():
        if default is not inspect.Parameter.empty:
            assert known[name].default == (list(default) if isinstance(default, tuple) else default)


def test_every_data_set_takes_subsets() -> None:
    for entry in catalog.datasets().values():
        assert {"train_size", "test_size"} <= set(entry.parameters)
        assert entry.parameters["train_size"].neutral == 0
        assert ("content" in entry.parameters) == (entry.train_examples is None)


def test_default_probes_measure_what_the_results_need() -> None:
    metrics = {metric for probe in catalog.probes().values() if probe.default for metric in probe.metrics}
    assert metrics == {"weight_distance", "weight_norm", "batch_loss", "batch_accuracy", "gradient_norm", "clipped_share", "learning_rate"}


def test_models_know_when_they_have_batch_norm() -> None:
    models = catalog.models()
    assert models["resnet"].has_batch_norm({"depth": 20})
    assert models["mlp"].has_batch_norm({"norm": "batch"})
    for name in ("mlp", "f1", "c1", "c3", "resnet", "vgg", "wresnet"):
        assert [models[name].has_batch_norm({"norm": norm}) for norm in ("batch", "group", "none")] == [True, False, False]
    assert models["alexnet"].has_batch_norm({})
    by_list = models["mlp"].model_copy(update={"without_norm": {"widths": [8, 8]}})
    assert [by_list.has_batch_norm({"widths": widths}) for widths in ([8, 8], [8])] == [False, True]
    assert not models["mlp"].model_copy(update={"without_norm": {}}).has_batch_norm({})


def test_regimes_are_those_of_the_papers() -> None:
    regimes = catalog.regimes()
    found = {name: (regime.learning_rate_scaling, regime.budget.kind, regime.warmup) for name, regime in regimes.items()}
    assert found == {
        "baseline": ("none", "epochs", 0.0),
        "sqrt-lr": ("sqrt", "epochs", 0.0),
        "linear-lr": ("linear", "epochs", 0.05),
        "adapted": ("sqrt", "updates", 0.0),
        "batch-ramp": ("none", "epochs", 0.0),
        "adaptive": ("sqrt", "epochs", 0.0),
        "noise": ("none", "epochs", 0.0),
        "noise-as-in-paper": ("none", "epochs", 0.0),
        "adapted-unscaled-rate": ("none", "updates", 0.0),
        "adapted-scaled-decay": ("sqrt", "updates", 0.0),
        "adapted-same-augmentation": ("sqrt", "updates", 0.0),
        "longer": ("none", "epochs", 0.0),
    }
    assert {name for name, regime in regimes.items() if regime.gradient_noise.kind != "none"} == {"noise", "noise-as-in-paper"}
    assert [name for name, regime in regimes.items() if regime.drops == "batch"] == ["batch-ramp"]
    assert [name for name, regime in regimes.items() if regime.adaptive_batch] == ["adaptive"]


@pytest.mark.parametrize("name", catalog.recipes())
def test_notes_of_recipes_are_about_their_fields(name: str) -> None:
    recipe = catalog.recipes()[name]
    assert recipe.default_preset in recipe.presets
    for preset in recipe.presets.values():
        assert set(preset.notes) <= {*recipe.fields, *preset.fields}
        assert preset.summary


def test_every_model_has_a_task_and_classifies_unless_it_says_otherwise() -> None:
    others = {name: catalog.task_of(name).name for name in catalog.models() if catalog.task_of(name).name != "classification"}
    assert others == {"autoencoder": "reconstruction", "variational-autoencoder": "reconstruction"}


def test_every_metric_is_of_a_task_and_every_loss_of_one_task_alone() -> None:
    tasks = catalog.tasks().values()
    assert {metric.name for task in tasks for metric in task.metrics} == set(catalog.metrics())
    losses = [name for task in tasks for name in task.losses]
    assert len(losses) == len(set(losses))


def test_published_columns_are_made_of_the_names_of_metrics() -> None:
    columns = [metric.column(split) for split in catalog.SPLITS for metric in catalog.metrics().values()]
    assert columns == ["test_accuracy", "test_loss", "train_accuracy", "train_loss", "validation_accuracy", "validation_loss"]
    assert [metric.gap_column() for metric in catalog.metrics().values()] == ["batch_gap_pp", "batch_gap_nats"]
    assert catalog.metrics()["accuracy"].gap_column("matched_loss_gap") == "matched_loss_gap_pp"


def test_a_gap_is_positive_where_the_other_is_worse() -> None:
    accuracy, loss = catalog.metrics()["accuracy"], catalog.metrics()["loss"]
    better, worse = accuracy.gap_terms(0.9, 0.8)
    assert accuracy.shown(better) - accuracy.shown(worse) == pytest.approx(10.0)
    worse, better = loss.gap_terms(0.5, 0.7)
    assert loss.shown(worse) - loss.shown(better) == pytest.approx(0.2)


def test_the_task_of_runs_of_an_unknown_model_is_told_by_what_they_measured() -> None:
    assert catalog.measured_task(["test_loss", "train_loss", "train_accuracy"]).name == "classification"
    assert catalog.measured_task(["test_loss", "train_loss"]).name == "reconstruction"
    assert catalog.measured_task([]).name == "classification"
