"""Results directories of one suite as one: every run's folder from whichever directory has it best, never a mixture of two.

Of several copies of a run the better outcome is kept: ok, then diverged, then any other, then the one furthest in training; among
equals that of the directory named first. The same run on two machines may have other numbers in the last digits: that is listed,
and nothing is averaged. The directories that are merged stay as they are.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store.directory import LOCK_FILE, ResultsDirectory
from gapbench.store.files import TEMPORARY_SUFFIX, whole_folder
from gapbench.store.plan import StoredPlan
from gapbench.store.run_directory import RunDirectory, RunOutcome, recover
from gapbench.store.schema import SCHEMA_VERSION, read_schema
from gapbench.store.tables import build_tables, columns_from
from gapbench.suite.runspec import Labels, PlannedRun, canonical_json, differing, values_by_cell

# The plans of several directories of one suite as one; a label that stands for different runs is refused.

Key = tuple[str, int, int, int, int]
MANY = 3


def merged_plan(plans: Mapping[Path, StoredPlan]) -> StoredPlan:
    """Returns the union of plans of one suite, in the order of the longest; what the others have more follows.

    Raises:
        StoreError: a cell stands for different values in two of the plans.
    """
    for (path, plan), (later_path, later) in itertools.combinations(plans.items(), 2):
        _merged_plan_check(path, plan, later_path, later)
    ordered = sorted(plans.values(), key=lambda plan: -len(plan.runs))  # stable: of equal ones the first named leads
    base, *others = ordered
    others = [_with_labels_of(base, plan) for plan in others]
    runs = {_key(run): run for run in base.runs}
    cells = {run.labels.cell: run.labels for run in base.runs}
    for plan in others:
        for run in plan.runs:
            if _key(run) not in runs:
                # A cell has one order and one set of labels, whichever directory a seed of it comes from.
                labels = cells.setdefault(run.labels.cell, run.labels.model_copy(update={"cell_order": 1 + _last(cells)}))
                runs[_key(run)] = PlannedRun(run_id=run.run_id, spec=run.spec, labels=labels)
    commands = tuple(dict.fromkeys(command for plan in plans.values() for command in plan.commands))
    return StoredPlan(base.suite, tuple(runs.values()), base.report, commands=commands)


def _with_labels_of(base: StoredPlan, plan: StoredPlan) -> StoredPlan:
    """Returns a plan with the base's labels of its cells that are called otherwise there, as the same file under another name is."""
    ours, theirs = values_by_cell(base.runs), values_by_cell(plan.runs)
    labels = {run.labels.cell: run.labels for run in base.runs}
    known = {_plain(labels[cell], values): cell for cell, values in ours.items() if cell not in theirs}
    found = {run.labels.cell: known.get(_plain(run.labels, theirs[run.labels.cell])) for run in plan.runs if run.labels.cell not in ours}
    runs = [
        run.model_copy(update={"labels": labels[cell]}) if (cell := found.get(run.labels.cell)) is not None else run for run in plan.runs
    ]
    return replace(plan, runs=tuple(runs))


def _plain(labels: Labels, values: Mapping[str, Any]) -> str:
    """Returns what two cells share that differ in nothing but the names of files."""
    rest = labels.model_dump(mode="json", exclude={"cell", "axes", "words", "cell_order"})
    return canonical_json({"values": dict(values), "labels": rest})


def merged_suite_toml(texts: Mapping[Path, str]) -> str:
    """Returns the suite file of the merged directory: the one that all share, else the first's with the others as comments below."""
    different = dict.fromkeys(texts.values())
    if len(different) == 1:
        return next(iter(different))
    first, *others = different
    lines = ["# Merged from directories whose suites differ: first that of the directory named first, then the others as comments.", ""]
    lines += first.rstrip().splitlines()
    for text in others:
        lines += ["", "# Another of the merged suites:", "#", *(f"# {line}".rstrip() for line in text.rstrip().splitlines())]
    return "\n".join(lines) + "\n"


def _key(run: PlannedRun) -> Key:
    spec = run.spec
    return run.labels.cell, spec.seed, spec.init_seed, spec.order_seed, spec.split_seed


def _last(cells: Mapping[str, Labels]) -> int:
    return max((labels.cell_order for labels in cells.values()), default=-1)


def _merged_plan_check(first_path: Path, first: StoredPlan, second_path: Path, second: StoredPlan) -> None:
    """Raises StoreError where the same cell and seeds are different runs, or a cell has other values for other seeds."""
    ids = {_key(run): run.run_id for run in first.runs}
    unequal = {run.labels.cell for run in second.runs if ids.get(_key(run), run.run_id) != run.run_id}
    values, other_values = values_by_cell(first.runs), values_by_cell(second.runs)
    shared = [cell for cell in values if cell in other_values]
    problems = []
    for cell in shared:
        found = differing(values[cell], other_values[cell])
        if cell in unequal or found:
            listed = "; ".join(f"{key} {before} against {after}" for key, (before, after) in found.items())
            problems.append(f"{cell} ({listed or 'its seeds stand for other runs'})")
    if problems:
        more = f" and {len(problems) - MANY} more" if len(problems) > MANY else ""
        raise StoreError(
            f"{first_path} and {second_path}: the same labels stand for different runs: {', '.join(problems[:MANY])}{more}; "
            "give them other labels, or put the two side by side with `gapbench compare`"
        )


@dataclass(frozen=True)
class Conflict:
    """A run that several directories have an outcome of, and not the same."""

    run_id: str
    kept: Path
    """The directory whose copy was taken."""
    found: Mapping[Path, str]
    """What each directory has, in words."""


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge."""

    path: Path
    runs: Mapping[Path, int]
    """How many runs came from each directory."""
    identical: int
    """Runs that several directories have with exactly the same outcome."""
    conflicts: tuple[Conflict, ...]
    begin_anew: tuple[str, ...]
    """Unfinished runs whose checkpoint is of no use, because other runs of its stack were taken from another directory."""
    old_attempts: int
    """Old attempts that were left where they are."""
    grown: bool
    """Whether the directories planned different runs, so that the plan is the union."""
    suite: str
    left: int
    """Planned runs without an outcome."""


def merge(sources: Sequence[Path], target: Path) -> Merged:
    """Writes the union of several results directories of one suite into a new one, which appears only when it is whole.

    Raises:
        StoreError: a directory is missing, in use, a bundle or of another suite; a label stands for different runs in two of them;
            the target exists or cannot be written.
    """
    directories = [_open(path) for path in sources]
    named = {directory.path: path for directory, path in zip(directories, sources, strict=True)}
    _check(directories)
    with ExitStack() as stack:
        if target.exists():
            raise StoreError(f"{target}: exists already; merge into a new directory")
        for directory in directories:
            stack.enter_context(_held(directory))
        plans = {directory.path: directory.plan() for directory in directories}
        choice = _Choice.among(directories)
        # What a run was predicted to take was predicted for the machine that it comes from.
        predictions = {run_id: own for run_id, one in choice.kept.items() if (own := plans[one.path].predictions.get(run_id))}
        plan = replace(merged_plan(plans), predictions=predictions)
        temporary = stack.enter_context(whole_folder(target.absolute()))
        with ResultsDirectory.create(temporary, directories[0].suite) as merged:
            for run_id, directory in choice.kept.items():
                _copy(directory.run(run_id), merged.run(run_id), checkpoint=run_id not in choice.useless_checkpoints)
            recover(merged.runs_path)
            merged.write_plan(plan, merged_suite_toml({one.path: _suite_toml(one) for one in directories}))
            build_tables(merged)
    kept = list(choice.kept.values())
    return Merged(
        path=target,
        runs={named[directory.path]: sum(one is directory for one in kept) for directory in directories},
        identical=choice.identical,
        conflicts=tuple(
            Conflict(one.run_id, named[one.kept], {named[path]: words for path, words in one.found.items()}) for one in choice.conflicts
        ),
        begin_anew=tuple(choice.begin_anew),
        old_attempts=sum(len(directory.attempts()) for directory in directories),
        grown=len({frozenset(plan.run_ids) for plan in plans.values()}) > 1,
        suite=plan.suite,
        left=sum(run_id not in choice.kept or choice.kept[run_id].run(run_id).outcome() is None for run_id in plan.run_ids),
    )


def _open(path: Path) -> ResultsDirectory:
    directory = ResultsDirectory.open_existing(path)
    if directory.is_bundle:
        raise StoreError(f"{path}: has no folder runs/, as after unpacking a bundle; merging needs whole results directories")
    version = read_schema(path)["schema"]
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: has schema {version}; `gapbench run` of its suite brings it to {SCHEMA_VERSION}, then it can be merged")
    return directory


def _check(directories: Sequence[ResultsDirectory]) -> None:
    if len(directories) < 2:
        raise StoreError("merging needs two results directories or more")
    places = [directory.path.resolve() for directory in directories]
    repeated = [directory.path for directory, place in zip(directories, places, strict=True) if places.count(place) > 1]
    if repeated:
        raise StoreError(f"{repeated[0]}: is named twice; name every directory once")
    first = directories[0]
    for directory in directories[1:]:
        if directory.suite != first.suite:
            raise StoreError(
                f'{directory.path}: holds the results of suite "{directory.suite}", and {first.path} those of "{first.suite}"; '
                "only directories of one suite can be merged (`gapbench compare` puts two suites side by side)"
            )


@contextmanager
def _held(directory: ResultsDirectory) -> Iterator[None]:
    """Holds a source's lock and finishes what a kill left; on a disk that cannot be written to nothing trains, so there is no need."""
    try:
        held = FileLock(directory.path / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise StoreError(f"{directory.path}: another gapbench is working in this directory; wait until it ends, then merge") from None
    except OSError:
        yield
        return
    with held:
        recover(directory.runs_path)
        yield


@dataclass
class _Choice:
    """Which directory each run is taken from."""

    kept: dict[str, ResultsDirectory] = field(default_factory=dict)
    identical: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    useless_checkpoints: set[str] = field(default_factory=set)
    """By the run whose folder holds it."""
    begin_anew: list[str] = field(default_factory=list)

    @classmethod
    def among(cls, directories: Sequence[ResultsDirectory]) -> _Choice:
        choice = cls()
        holders: dict[str, list[ResultsDirectory]] = {}
        for directory in directories:
            for run in directory.run_folders():
                holders.setdefault(run.run_id, []).append(directory)
        for run_id, having in holders.items():
            choice._choose(run_id, having)
        choice._look_at_stacks()
        return choice

    def _choose(self, run_id: str, having: Sequence[ResultsDirectory]) -> None:
        outcomes = {directory.path: None if directory.run(run_id).damage() else directory.run(run_id).outcome() for directory in having}
        self.kept[run_id] = best = min(having, key=lambda directory: _rank(directory.run(run_id), outcomes[directory.path]))
        ended = {path: outcome for path, outcome in outcomes.items() if outcome is not None}
        if len(ended) < 2:
            return
        first, *others = ended.values()
        if all(_same(first, other) for other in others):
            self.identical += 1
        else:
            self.conflicts.append(Conflict(run_id, best.path, {path: _words(outcome) for path, outcome in ended.items()}))

    def _look_at_stacks(self) -> None:
        """Finds checkpoints of stacks whose unfinished runs come from several directories: their events would not fit each other."""
        unfinished = {run_id for run_id, directory in self.kept.items() if directory.run(run_id).outcome() is None}
        covered: set[str] = set()
        for run_id, directory in self.kept.items():
            header = directory.run(run_id).checkpoint()
            if header is None:
                continue
            members = [member for member in header.stack if member in unfinished]
            if all(self.kept[member] is directory for member in members):
                covered.update(members)
            else:
                self.useless_checkpoints.add(run_id)
        stacked = {directory.path: _stacked(directory) for directory in {id(one): one for one in self.kept.values()}.values()}
        self.begin_anew = [run_id for run_id in self.kept if run_id in unfinished - covered and run_id in stacked[self.kept[run_id].path]]


def _stacked(directory: ResultsDirectory) -> set[str]:
    """Returns the runs that some checkpoint of a directory has a slice of."""
    headers = [run.checkpoint() for run in directory.run_folders()]
    return {member for header in headers if header is not None for member in header.stack}


def _rank(run: RunDirectory, outcome: RunOutcome | None) -> tuple[int, int]:
    """Returns what the best copy has least of."""
    if outcome is None:
        return 3, -run.updates_done()
    return {Outcome.OK: 0, Outcome.DIVERGED: 1}.get(outcome.outcome, 2), 0


def _same(first: RunOutcome, second: RunOutcome) -> bool:
    """Whether two outcomes have exactly the same numbers; seconds and memory are not the run's."""
    numbers = [{name: outcome.summary.get(name) for name in columns_from("result")} for outcome in (first, second)]
    return first.outcome is second.outcome and numbers[0] == numbers[1] and first.test_correct == second.test_correct


def _words(outcome: RunOutcome) -> str:
    accuracy = outcome.summary.get("test_accuracy")
    if outcome.outcome is Outcome.OK and accuracy is not None:
        return f"ok, test accuracy {100 * float(accuracy):.3f} %"
    return outcome.outcome.value


def _copy(source: RunDirectory, target: RunDirectory, *, checkpoint: bool) -> None:
    """Copies a run's files, with their times, but no locks and no half-written ones."""
    skipped = {LOCK_FILE} if checkpoint else {LOCK_FILE, source.checkpoint_path.name}

    def ignore(_folder: str, names: Iterable[str]) -> set[str]:
        return {name for name in names if name in skipped or name.endswith(TEMPORARY_SUFFIX)}

    try:
        shutil.copytree(source.path, target.path, ignore=ignore)
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{source.path}: cannot be copied to {target.path} ({error})") from error


def _suite_toml(directory: ResultsDirectory) -> str:
    try:
        return (directory.path / "suite.toml").read_text(encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{directory.path / 'suite.toml'}: cannot be read ({error.strerror or error})") from error
