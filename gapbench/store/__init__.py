"""What is kept: the results directory, atomic writes, tidy tables, schema version, provenance, bundles."""

from __future__ import annotations

from gapbench.store.bundle import check_bundle_name, is_bundle, pack, unpack
from gapbench.store.checkpoint import CheckpointHeader, read_header, read_payload, write_checkpoint
from gapbench.store.cleaning import Leftover, find_leftovers, folder_leftover, remove
from gapbench.store.commit import commit, recover
from gapbench.store.directory import ResultsDirectory, find_results
from gapbench.store.events import EventLog, read_events
from gapbench.store.plan import Prediction, StoredPlan, read_plan
from gapbench.store.provenance import describe_machine, describe_session
from gapbench.store.run_directory import RunDirectory, RunOutcome
from gapbench.store.schema import SCHEMA_FILE, SCHEMA_VERSION
from gapbench.store.tables import RUN_COLUMNS, Tables, build_tables, read_tables

__all__ = [
    "RUN_COLUMNS",
    "SCHEMA_FILE",
    "SCHEMA_VERSION",
    "CheckpointHeader",
    "EventLog",
    "Leftover",
    "Prediction",
    "ResultsDirectory",
    "RunDirectory",
    "RunOutcome",
    "StoredPlan",
    "Tables",
    "build_tables",
    "check_bundle_name",
    "commit",
    "describe_machine",
    "describe_session",
    "find_leftovers",
    "find_results",
    "folder_leftover",
    "is_bundle",
    "pack",
    "read_events",
    "read_header",
    "read_payload",
    "read_plan",
    "read_tables",
    "recover",
    "remove",
    "unpack",
    "write_checkpoint",
]
