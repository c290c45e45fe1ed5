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


MCCANDLISH = [name for name in catalog.recipes() if name.startswith("mccandlish2018/")]


@pytest.mark.parametrize("name", MCCANDLISH)
def test_every_value_of_a_paper_without_code_says_whether_it_is_the_papers(name: str) -> None:
    recipe = catalog.recipes()[name]
    paper = recipe.presets["paper"]
    assert {*recipe.fields, *paper.fields} - set(paper.notes) <= {"dataset"}
    assert all("chosen here" in note or note.startswith("paper:") for field, note in paper.notes.items() if field != "dataset")


@pytest.mark.parametrize("name", MCCANDLISH)
def test_the_noise_scale_is_defined_for_every_workload_of_its_paper(name: str) -> None:
    """Without batch norm, or with one ghost batch size for every batch size."""
    recipe = catalog.recipes()[name]
    entry = catalog.models()[recipe.fields["model"]["name"]]  # type: ignore[index, call-overload]
    assert not entry.has_batch_norm({}) or isinstance(recipe.fields["ghost_batch_size"], int)


def test_the_rate_of_svhn_is_the_papers_rule() -> None:
    recipe = catalog.recipes()["mccandlish2018/cnn-svhn"]
    batch = recipe.fields["reference_batch_size"]
    assert isinstance(batch, int)
    assert recipe.fields["learning_rate"] == pytest.approx(0.27 * batch / (96 + batch))
