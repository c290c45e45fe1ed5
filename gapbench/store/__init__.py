"""What is kept: the results directory, atomic writes, tidy tables, schema version, provenance, bundles."""

from __future__ import annotations

from gapbench.store.bundle import check_bundle_name as check_bundle_name
from gapbench.store.bundle import is_bundle as is_bundle
from gapbench.store.bundle import pack as pack
from gapbench.store.bundle import unpack as unpack
from gapbench.store.directory import Leftover as Leftover
from gapbench.store.directory import ResultsDirectory as ResultsDirectory
from gapbench.store.directory import find_leftovers as find_leftovers
from gapbench.store.directory import find_results as find_results
from gapbench.store.directory import folder_leftover as folder_leftover
from gapbench.store.directory import remove as remove
from gapbench.store.merging import Merged as Merged
from gapbench.store.merging import merge as merge
from gapbench.store.plan import Prediction as Prediction
from gapbench.store.plan import StoredPlan as StoredPlan
from gapbench.store.plan import shared_plan as shared_plan
from gapbench.store.plan import shared_suite as shared_suite
from gapbench.store.plan import read_plan as read_plan
from gapbench.store.provenance import describe_machine as describe_machine
from gapbench.store.provenance import describe_session as describe_session
from gapbench.store.run_directory import FAILED as FAILED
from gapbench.store.run_directory import CheckpointHeader as CheckpointHeader
from gapbench.store.run_directory import EventLog as EventLog
from gapbench.store.run_directory import Failure as Failure
from gapbench.store.run_directory import RunDirectory as RunDirectory
from gapbench.store.run_directory import RunOutcome as RunOutcome
from gapbench.store.run_directory import commit as commit
from gapbench.store.run_directory import read_failure as read_failure
from gapbench.store.run_directory import read_payload as read_payload
from gapbench.store.run_directory import recover as recover
from gapbench.store.run_directory import stack_line as stack_line
from gapbench.store.run_directory import start_line as start_line
from gapbench.store.run_directory import write_checkpoint as write_checkpoint
from gapbench.store.session import SeenSession as SeenSession
from gapbench.store.session import Session as Session
from gapbench.store.session import SessionJob as SessionJob
from gapbench.store.session import read_session as read_session
from gapbench.store.session import write_session as write_session
from gapbench.store.tables import Tables as Tables
from gapbench.store.tables import build_tables as build_tables
from gapbench.store.tables import copy_to_read as copy_to_read
from gapbench.store.tables import read_tables as read_tables
