"""A file of finished results is damaged: what it held is made again or refused in words, and no number changes."""

from __future__ import annotations

import shutil

import pytest

from tests.faults.conftest import EXIT_STATUSES, Place

DAMAGE = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "flipped": lambda content: content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :],
}

MADE_AGAIN = ("plan.parquet", "runs.parquet", "curves.parquet", "suite.toml", "session.json", "log.txt", "env.json")


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["events.jsonl", "outcome.json"])
def test_a_damaged_file_with_numbers_has_its_run_trained_again(undisturbed, recovers, tmp_path, name, how):
    place = Place(undisturbed.suite, tmp_path / "results")
    shutil.copytree(undisturbed.results, place.results)
    file = place.runs[0] / name
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    recovers(place)


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_files_that_are_made_again_change_no_number(undisturbed, recovers, tmp_path, how):
    place = Place(undisturbed.suite, tmp_path / "results")
    shutil.copytree(undisturbed.results, place.results)
    for folder in (place.results / "small", place.runs[0]):
        for file in [folder / name for name in MADE_AGAIN if (folder / name).exists()]:
            file.write_bytes(DAMAGE[how](file.read_bytes()))
    recovers(place)


@pytest.mark.parametrize("name", ["schema.json", "spec.json"])
def test_a_damaged_file_that_says_whose_results_these_are_is_refused_in_words(undisturbed, tmp_path, name):
    place = Place(undisturbed.suite, tmp_path / "results")
    shutil.copytree(undisturbed.results, place.results)
    file = next(path for path in [place.results / "small" / name, place.runs[0] / name] if path.exists())
    file.write_bytes(DAMAGE["cut"](file.read_bytes()))
    status, words = place.run()
    assert status in EXIT_STATUSES - {0}
    assert str(file) in words
    assert "Traceback" not in words
