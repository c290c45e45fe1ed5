"""Outcomes of a stack, written all or none.

Runs of a stack end together. Were a kill to leave some of them finished and others not, the others would train again in a smaller
stack. So the outcomes first go into one journal file in the folder of the first run; from the moment that its rename is done they
are decided, and whoever next opens the results directory finishes what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gapbench.core.outcome import Outcome
from gapbench.store.files import read_json_or_none, write_json
from gapbench.store.run_directory import RunDirectory, RunOutcome

_CHECKPOINT_USELESS = frozenset({Outcome.OK, Outcome.DIVERGED})


def commit(outcomes: Mapping[RunDirectory, RunOutcome]) -> None:
    """Writes the outcomes of the runs of one job, the stack's first run first, and removes its checkpoint where it is of no more use."""
    runs = list(outcomes)
    leader = runs[0]
    if len(runs) > 1:
        write_json(leader.journal_path, {run.run_id: outcome.as_json() for run, outcome in outcomes.items()})
    for run, outcome in outcomes.items():
        run.write_outcome(outcome)
    if all(outcome.outcome in _CHECKPOINT_USELESS for outcome in outcomes.values()):
        for run in runs:
            run.checkpoint_path.unlink(missing_ok=True)
    leader.journal_path.unlink(missing_ok=True)


def recover(runs_folder: Path) -> int:
    """Finishes the journals that a kill left; returns how many outcomes that wrote. Call it under the results directory's lock."""
    written = 0
    for journal in sorted(runs_folder.glob("*/stack-outcomes.json")):
        content = read_json_or_none(journal)
        for run_id, stored in (content if isinstance(content, dict) else {}).items():
            outcome = RunOutcome.from_json(stored)
            run = RunDirectory(runs_folder / run_id, run_id)
            if outcome is not None and run.path.is_dir() and run.outcome() is None:
                run.write_outcome(outcome)
                written += 1
        journal.unlink(missing_ok=True)
    return written
