from __future__ import annotations

import pytest

from gapbench import catalog
from gapbench.suite.resolve import REQUIRED
from gapbench.suite.schema import RunFields


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, recipe in catalog.recipes().items() for preset in recipe.presets])
def test_recipes_are_complete_and_of_the_schema(name: str, preset: str) -> None:
    recipe = catalog.recipes()[name]
    fields = {**recipe.fields, **recipe.presets[preset].fields}
    RunFields.model_validate(fields, strict=True)
    assert set(REQUIRED) - set(fields) == {"batch_size"}
