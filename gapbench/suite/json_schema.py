"""The suite file's form as a JSON Schema, for editors that complete and check TOML by one.

Made from the models that validate a suite and from the catalog, so that it cannot say anything else than they do. What a schema
cannot say (a ghost batch size divides the batch size, a key stands in [run] or in [grid]) `gapbench plan` says.

Draft 7, which Taplo and the editors built on it read; definitions are referred to by `$ref` alone, since whatever stands beside it is
ignored there. `x-taplo` holds what Taplo shows beside each name that it offers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from gapbench import catalog
from gapbench.catalog import Parameter
from gapbench.suite.schema import (
    SEEDS,
    ArmSection,
    RegimeSection,
    ReportSection,
    RunFields,
    RunSection,
    Section,
    SetSection,
    SuiteSection,
    TuneSection,
)
from gapbench.suite.source import COMPONENTS

Schema: TypeAlias = dict[str, Any]

FILE_NAME = "suite.schema.json"
"""What the schema is called beside the suites that name it."""

_SEED_RANGE: Schema = {"type": "string", "pattern": r"^\s*\d+\s*\.\.\s*\d+\s*$", "description": 'Both ends included, such as "0..4".'}
_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}
_HEADER = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "gapbench suite",
    "description": "What a suite of gapbench trains: one complete run, axes, labelled arms, exceptions.",
}


def suite_schema() -> Schema:
    """Returns the schema, with the names and options of everything that the catalog holds now, loaded plugins included."""
    run = _fields(RunSection)
    fields = {name: run[name] for name in RunFields.model_fields}
    extra = {name: field for name, field in run.items() if name not in fields}
    where = {
        "arm": _one_or_several({"type": "string", "description": "Label of an [[arm]]; empty: runs of the [grid]."}),
        **{name: _condition(name) for name in fields if name != "phases"},
    }
    definitions = {
        **{f"field-{name}": field for name, field in fields.items()},
        **{f"{kind}-name": _names(catalog.REGISTRIES[kind](), f"Name of a {kind} (`gapbench ls {kind}s`).") for kind in COMPONENTS},
        "where": _table(where, "Conditions, all of which hold; of a list any value."),
    }
    references = {name: _reference(f"field-{name}") for name in fields}
    axes = {name: _axis(name) for name in fields}
    reason = {"type": "string", "minLength": 1, "description": "Shown with the dropped runs."}
    report = _fields(ReportSection)
    report["reference"] = _reference("where")
    arm = {name: _fields(ArmSection)[name] for name in ("label", "reference", "alternative_to")}
    sections = {
        **_fields(SuiteSection),
        "run": _table({**references, **extra}, "One complete run: every field that [grid] and [[arm]] leave out."),
        "grid": {**_table(axes, "The product of these lists, each cell with every seed."), "minProperties": 1},
        "arm": _list(_table({**arm, **references}, "A labelled way to train.", "label")),
        "exclude": _list({**_table({**where, "reason": reason}, "Drops the runs with all these values.", "reason"), "minProperties": 2}),
        "override": _list(
            _table(
                {
                    "where": _reference("where"),
                    "set": _table({**references, "updates": _fields(SetSection)["updates"]}, "Final values."),
                    "tuned": {"type": "boolean", "description": "Whether `gapbench tune` found these values."},
                },
                "Sets values of some runs.",
                "where",
                "set",
            )
        ),
        "regimes": {
            "type": "object",
            "description": "Regimes of the suite's own, by name.",
            "additionalProperties": _table(_fields(RegimeSection), "How a recipe adapts to another batch size."),
        },
        "report": _table(report, "What tables and figures show."),
        "tune": _table(_fields(TuneSection), "What `gapbench tune` searches, and how hard."),
    }
    root = _table(sections, _HEADER["description"], "schema", "name")
    return {**_HEADER, **root, "definitions": definitions, "x-taplo": {"initKeys": ["schema", "name", "run"]}}


def schema_text() -> str:
    """Returns the schema as the text of a file."""
    return json.dumps(suite_schema(), indent=2, ensure_ascii=False) + "\n"


def _fields(section: type[Section]) -> dict[str, Schema]:
    """Returns the schema of every key of a section, with names from the catalog."""
    raw = section.model_json_schema(by_alias=True)
    properties = {name: _plain(field, raw.get("$defs", {})) for name, field in raw["properties"].items()}
    return {name: _with_names(name, field) for name, field in properties.items()}


def _plain(field: Any, models: Mapping[str, Any]) -> Any:
    """Returns pydantic's schema without references, titles, null (TOML has none) and defaults (lower layers set what is left out)."""
    if isinstance(field, list):
        return [_plain(item, models) for item in field]
    if not isinstance(field, dict):
        return field
    if "$ref" in field:
        described = {"description": field["description"]} if "description" in field else {}
        return {**_plain(models[field["$ref"].rpartition("/")[2]], models), **described}
    found = {key: _plain(value, models) for key, value in field.items() if key not in ("title", "default", "properties")}
    if "properties" in field:
        found["properties"] = {name: _plain(value, models) for name, value in field["properties"].items()}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    choices = [choice for choice in found.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        del found["anyOf"]
        return {**choices[0], **found}
    return found


def _with_names(name: str, field: Schema) -> Schema:
    """Returns the schema of a key with what the catalog knows of it."""
    text = field.get("description", "")
    if name in COMPONENTS:
        return _component(name, text)
    if name == "recipe":
        return _names(catalog.recipes(), text)
    if name == "preset":
        presets = {preset: entry.presets[preset] for entry in catalog.recipes().values() for preset in entry.presets}
        return _names({"paper": presets["paper"], **presets}, text)
    if name == "regime":
        own = {"type": "string", "description": "One of [regimes.NAME]."}
        return {"description": text, "anyOf": [_names(catalog.regimes(), text), own]}
    if name == "probes":
        return {**field, "items": _probe()}
    if name == "normalization":
        kinds = field["properties"]["kind"]
        return {"description": text, "anyOf": [{**kinds, "enum": [kind for kind in kinds["enum"] if kind != "fixed"]}, field]}
    if name == "scaling_batch_size":
        return {"description": text, "anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["reference"]}, field]}
    return field


def _component(kind: str, text: str) -> Schema:
    """Returns the schema of a name, of a table with a name and its options, and of one without a name, with any entry's options."""
    tables = []
    shared: dict[str, list[Schema]] = {}
    for name, entry in catalog.REGISTRIES[kind]().items():
        options = {option: _option(parameter) for option, parameter in entry.parameters.items()}
        for option, schema in options.items():
            shared.setdefault(option, [])
            if schema not in shared[option]:
                shared[option].append(schema)
        named = {"type": "string", "enum": [name], "description": entry.summary}
        tables.append(_table({"name": named, **options}, entry.summary, "name"))
    unnamed = {option: schemas[0] if len(schemas) == 1 else {"anyOf": schemas} for option, schemas in shared.items()}
    tables.append(_table(unnamed, f"Options of the {kind} that a recipe or [run] names."))
    return {"description": text, "anyOf": [_reference(f"{kind}-name"), *tables]}


def _probe() -> Schema:
    """Returns the schema of a probe's name, and of a table with its options where it has any."""
    named = _names(catalog.probes(), "Name of a probe (`gapbench ls probes`).")
    tables = []
    for name, entry in catalog.probes().items():
        if entry.parameters:
            options = {option: _option(parameter) for option, parameter in entry.parameters.items()}
            tables.append(_table({"name": {"type": "string", "enum": [name]}, **options}, entry.summary, "name"))
    return {"anyOf": [named, *tables]}


def _option(parameter: Parameter) -> Schema:
    """Returns the schema of a component's option."""
    kind = parameter.type.removeprefix("list[").removesuffix("]")
    one: Schema = {"type": _TYPES[kind]}
    if parameter.choices:
        one["enum"] = list(parameter.choices)
    for key, limit in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if limit is not None:
            one[key] = int(limit) if limit == int(limit) else limit
    if parameter.multiple_of is not None and not parameter.remainder:
        one["multipleOf"] = parameter.multiple_of
    whole = {"type": "array", "items": one} if parameter.type.startswith("list[") else one
    text = f"{parameter.help or 'An option'}: {parameter.describe()}."
    default = {} if parameter.default is None else {"default": parameter.default}
    return {**whole, "description": text[:1].upper() + text[1:], **default}


def _names(entries: Mapping[str, Any], text: str) -> Schema:
    """Returns the schema of a name, with one line about each."""
    summaries = [entry.summary for entry in entries.values()]
    listed = "\n".join(f"- {name}: {summary}" for name, summary in zip(entries, summaries, strict=True))
    docs = {"main": text, "enumValues": summaries}
    return {"type": "string", "enum": [*entries], "description": f"{text}\n\n{listed}", "x-taplo": {"docs": docs}}


def _axis(name: str) -> Schema:
    values: Schema = {"type": "array", "items": _reference(f"field-{name}"), "minItems": 1, "uniqueItems": True}
    return {"anyOf": [values, _SEED_RANGE]} if name in SEEDS else values


def _condition(name: str) -> Schema:
    condition = _one_or_several(_reference(f"field-{name}"))
    if name in SEEDS:
        condition["anyOf"].append(_SEED_RANGE)
    return condition


def _one_or_several(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _list(table: Schema) -> Schema:
    return {"type": "array", "items": table, "description": table["description"]}


def _table(properties: Mapping[str, Schema], text: str, *required: str) -> Schema:
    """Returns the schema of a table that has no other keys."""
    needed = {"required": [*required]} if required else {}
    return {"type": "object", "description": text, "properties": dict(properties), **needed, "additionalProperties": False}


def _reference(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}
