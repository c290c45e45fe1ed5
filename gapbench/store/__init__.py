"""What is kept: the results directory, atomic writes, tidy tables, schema version, provenance, bundles."""

from __future__ import annotations

from gapbench.store.bundle import check_bundle_name, is_bundle, pack, unpack
from gapbench.store.directory import Leftover, ResultsDirectory, find_leftovers, find_results, folder_leftover, remove
from gapbench.store.merging import Conflict, Merged, merge
from gapbench.store.plan import Prediction, StoredPlan, read_plan
from gapbench.store.provenance import describe_machine, describe_session
from gapbench.store.run_directory import (
    FAILED,
    CheckpointHeader,
    EventLog,
    Failure,
    RunDirectory,
    RunOutcome,
    commit,
    last_lines,
    read_events,
    read_failure,
    read_header,
    read_payload,
    recover,
    stack_line,
    start_line,
    write_checkpoint,
)
from gapbench.store.schema import SCHEMA_FILE, SCHEMA_VERSION
from gapbench.store.session import SeenSession, Session, SessionJob, read_session, write_session
from gapbench.store.tables import RUN_COLUMNS, Tables, build_tables, read_tables

__all__ = [
    "FAILED",
    "RUN_COLUMNS",
    "SCHEMA_FILE",
    "SCHEMA_VERSION",
    "CheckpointHeader",
    "Conflict",
    "EventLog",
    "Failure",
    "Leftover",
    "Merged",
    "Prediction",
    "ResultsDirectory",
    "RunDirectory",
    "RunOutcome",
    "SeenSession",
    "Session",
    "SessionJob",
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
    "last_lines",
    "merge",
    "pack",
    "read_events",
    "read_failure",
    "read_header",
    "read_payload",
    "read_plan",
    "read_session",
    "read_tables",
    "recover",
    "remove",
    "stack_line",
    "start_line",
    "unpack",
    "write_checkpoint",
    "write_session",
]
