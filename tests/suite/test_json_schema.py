"""The schema that editors complete suite files by: valid, complete, shipped, and never stricter than gapbench itself."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from gapbench import api, catalog
from gapbench.core.errors import StoreError, SuiteError
from gapbench.suite import load_suite, shipped_suites
from gapbench.suite.json_schema import FILE_NAME, schema_text, suite_schema
from gapbench.suite.schema import ArmSection, RegimeSection, ReportSection, RunSection, SetSection, SuiteSection
from gapbench.suite.toml import KeyPath, dumps
from tests.suite.nested import changed, paths, shown

ROOT = Path(__file__).resolve().parents[2]
BROKEN = Path(__file__).parent / "broken"


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = suite_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def errors(validator: Draft7Validator, data: Any) -> list[str]:
    return [f"{'.'.join(str(part) for part in error.path)}: {error.message}" for error in validator.iter_errors(data)]


def test_the_committed_schema_is_what_the_command_prints() -> None:
    assert (ROOT / "suites" / FILE_NAME).read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_name_the_schema_and_obey_it(name: str, validator: Draft7Validator) -> None:
    text = shipped_suites()[name].read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"#:schema ./{FILE_NAME}"
    assert (shipped_suites()[name].parent / FILE_NAME).is_file()
    assert errors(validator, tomllib.loads(text)) == []


def test_the_starter_suite_names_the_schema_beside_it_and_obeys_it(tmp_path: Path, validator: Draft7Validator) -> None:
    suite = api.starter_suite(tmp_path / "mine.toml")
    assert suite.read_text(encoding="utf-8").splitlines()[0] == f"#:schema ./{FILE_NAME}"
    assert (tmp_path / FILE_NAME).read_text(encoding="utf-8") == schema_text()
    assert errors(validator, tomllib.loads(suite.read_text(encoding="utf-8"))) == []


def test_a_schema_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("mine")
    api.starter_suite(tmp_path / "suite.toml")
    assert (tmp_path / FILE_NAME).read_text() == "mine"
    with pytest.raises(StoreError, match="exists already"):
        api.write_suite_schema(tmp_path / FILE_NAME)
    with pytest.raises(StoreError, match="cannot be written"):
        api.write_suite_schema(tmp_path / "no" / FILE_NAME)


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("misspelled-keys", {"", "run", "report"}),
        ("unknown-names", {"run.dataset", "run.model", "run.optimizer", "run.recipe", "run.preset", "run.probes.1"}),
        (
            "out-of-range",
            {f"run.{key}" for key in ("batch_size", "learning_rate", "weight_decay", "holdout", "norm_momentum", "crop_fill")},
        ),
        ("wrong-types", {"schema", *(f"run.{key}" for key in ("recipe", "batch_size", "epochs", "flip", "probes", "model"))}),
        ("lists-over-lines", {"run.phases.1", "run.phases.2.start", "run.phases.2.momentum", "run.keep_weights.1", "grid.seed"}),
        ("components", {"run", "run.model", "run.optimizer"}),
        ("tables-and-arrays", {"regimes", "report", "run", "arm", "exclude", "grid"}),
        ("noise-scale", {"report.targets.2.metric", "report.targets.3.value", "report.targets.4"}),
        ("dotted-keys", {"run", "run.model", "run.optimizer", "grid.seed", "report.reference.ghost_batch_size"}),
    ],
)
def test_broken_suites_break_the_schema_where_they_are_wrong(name: str, paths: set[str], validator: Draft7Validator) -> None:
    data = tomllib.loads((BROKEN / f"{name}.toml").read_text(encoding="utf-8"))
    found = {".".join(str(part) for part in error.path) for error in validator.iter_errors(data)}
    assert found == paths


@pytest.mark.parametrize("name", catalog.recipes())
def test_the_fields_of_every_recipe_obey_the_schema(name: str, validator: Draft7Validator) -> None:
    recipe = catalog.recipes()[name]
    for preset in recipe.presets.values():
        run = {**recipe.fields, **preset.fields, "batch_size": 128}
        assert errors(validator, {"schema": 1, "name": "x", "run": run}) == []


def test_every_key_of_every_section_is_there_and_described() -> None:
    schema = suite_schema()
    sections = schema["properties"]
    tables = {
        RunSection: sections["run"],
        ArmSection: sections["arm"]["items"],
        SetSection: sections["override"]["items"]["properties"]["set"],
        RegimeSection: sections["regimes"]["additionalProperties"],
        ReportSection: sections["report"],
    }
    for model, table in tables.items():
        assert set(table["properties"]) == set(model.model_fields)
        assert table["additionalProperties"] is False
        for name, field in table["properties"].items():
            if "$ref" in field:
                assert set(field) == {"$ref"}, "what stands beside a reference is ignored"
                field = schema["definitions"][field["$ref"].rpartition("/")[2]]
            assert field["description"], name
    assert {field.alias or name for name, field in SuiteSection.model_fields.items()} < set(sections)


def test_names_and_options_are_those_of_the_catalog() -> None:
    fields = suite_schema()["definitions"]
    assert fields["model-name"]["enum"] == [*catalog.models()]
    assert fields["field-recipe"]["enum"] == [*catalog.recipes()]
    assert fields["field-recipe"]["x-taplo"]["docs"]["enumValues"] == [recipe.summary for recipe in catalog.recipes().values()]
    (mlp,) = [table for table in fields["field-model"]["anyOf"] if table.get("properties", {}).get("name", {}).get("enum") == ["mlp"]]
    assert mlp["properties"]["widths"]["items"] == {"type": "integer", "minimum": 1}
    assert mlp["properties"]["norm"]["enum"] == ["batch", "group", "none"]
    (sgd,) = [table for table in fields["field-optimizer"]["anyOf"] if table.get("properties", {}).get("name", {}).get("enum") == ["sgd"]]
    assert (sgd["properties"]["momentum"]["minimum"], sgd["properties"]["momentum"]["maximum"]) == (0, 0.9999)


def test_components_of_plugins_are_known(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import gapbench\n\n@gapbench.model(name='tiny')\ndef tiny(input_shape, classes, *, width: int = 8):\n    '''Tiny.'''\n"
    )
    schema = json.loads(api.suite_schema([plugin]))
    data = {"schema": 1, "name": "x", "run": {"model": {"name": "tiny", "width": 4}}}
    assert errors(Draft7Validator(schema), data) == []
    assert errors(Draft7Validator(schema), {**data, "run": {"model": {"name": "tiny", "width": "4"}}})


SOUND = tomllib.loads(Path(__file__).with_name("sound.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*paths(SOUND)], ids=shown)
def test_what_the_schema_refuses_gapbench_refuses_too(path: KeyPath, tmp_path: Path, validator: Draft7Validator) -> None:
    file = tmp_path / "suite.toml"
    for value in ("off", "seed", "0..1", "mlp", "baseline", -1, 0, 1, 2.5, True, [], [1], {}, {"kind": "epochs"}):
        data = changed(SOUND, path, value)
        if errors(validator, data):
            file.write_text(dumps(data), encoding="utf-8")
            with pytest.raises(SuiteError):
                load_suite(file)
