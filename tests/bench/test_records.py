"""Every timing is kept: rounds are added, never written over, and counted only among their like."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapbench.bench import records
from gapbench.bench.records import COLUMNS, FILE, Records, group_of, read_timings
from gapbench.core.errors import StoreError


def test_rounds_of_several_starts_are_merged(tmp_path, timings):
    with Records.open(tmp_path) as first:
        first.add_round(timings(0, [10, 5, 6, 11]))
    with Records.open(tmp_path) as second:
        assert second.rounds("g", anyway=False) == 1
        assert second.next_round("g") == 1
        second.add_round(timings(1, [12, 5, 6, 11]))
    table = read_timings(tmp_path)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["round"]) == [0] * 4 + [1] * 4
    assert list(table["examples_per_second"])[::4] == [10, 12]


def test_rounds_of_a_loaded_machine_count_only_for_who_asks_again(tmp_path, timings):
    with Records.open(tmp_path) as kept:
        kept.add_round(timings(0, [10, 5, 6, 11], loaded=True))
        assert kept.rounds("g", anyway=False) == 0
        assert kept.rounds("g", anyway=True) == 1
        assert kept.next_round("g") == 1
        assert kept.rounds("another", anyway=True) == 0


def test_a_round_that_cannot_be_written_leaves_the_table_as_it_was(tmp_path, timings, monkeypatch):
    with Records.open(tmp_path) as kept:
        kept.add_round(timings(0, [10, 5, 6, 11]))
        before = (tmp_path / FILE).read_bytes()

        def fail(*_arguments, **_options):
            raise KeyboardInterrupt

        monkeypatch.setattr("pyarrow.parquet.write_table", fail)
        with pytest.raises(KeyboardInterrupt):
            kept.add_round(timings(1, [10, 5, 6, 11]))
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_two_starts_do_not_time_into_one_directory(tmp_path):
    with Records.open(tmp_path), pytest.raises(StoreError, match="another gapbench is timing into this directory"), Records.open(tmp_path):
        pass


def test_a_table_of_a_newer_schema_is_refused(tmp_path, timings):
    with Records.open(tmp_path) as kept:
        kept.add_round(timings(0, [10, 5, 6, 11]))
    table = pq.read_table(tmp_path / FILE)
    newer = {**table.schema.metadata, records.METADATA_KEY: json.dumps({"schema": records.SCHEMA + 1}).encode()}
    pq.write_table(table.replace_schema_metadata(newer), tmp_path / FILE)
    with pytest.raises(StoreError, match="written by a newer gapbench"):
        read_timings(tmp_path)


def test_what_is_no_table_of_timings_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / FILE)
    with pytest.raises(StoreError, match="is no table of timings"):
        read_timings(tmp_path)
    (tmp_path / FILE).write_text("no parquet")
    with pytest.raises(StoreError, match="cannot be read"):
        read_timings(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another directory with --output"), Records.open(tmp_path / "file"):
        pass


def test_rounds_are_counted_together_only_where_speed_depends_on_the_same_things(case, machine):
    group = group_of(case, machine, seconds=2.0, threads=2)
    assert group_of(replace(case, summary="other words", comparisons=()), machine, seconds=2.0, threads=2) == group
    for other in (
        group_of(case, machine, seconds=1.0, threads=2),
        group_of(case, machine, seconds=2.0, threads=1),
        group_of(case, replace(machine, source="0" * 12), seconds=2.0, threads=2),
        group_of(case, replace(machine, torch_version="2.16.0"), seconds=2.0, threads=2),
        group_of(replace(case, task=replace(case.task, batch_size=32)), machine, seconds=2.0, threads=2),
        group_of(replace(case, sides=case.sides[:2]), machine, seconds=2.0, threads=2),
    ):
        assert other != group
