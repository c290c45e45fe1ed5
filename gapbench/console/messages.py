"""What is said of a suite while it trains, in words: the same lines above the live table and, without a terminal, in a log."""

from __future__ import annotations

from rich.text import Text

from gapbench.console.failures import job_failures
from gapbench.console.sentences import place, unfolded
from gapbench.console.words import count, duration, percent
from gapbench.core.outcome import Outcome
from gapbench.execution import Begun, Ended, JobEnded, Notice, Said, Stopping, Tracker


def messages(notice: Notice, tracker: Tracker, told: set[tuple[Outcome, str]]) -> list[Text]:
    """Returns what everybody should read about a notice; empty for what only moves numbers.

    Args:
        notice: which `tracker` has taken.
        tracker: of the whole suite.
        told: failures that need no quoting any more, see `job_failures`; grows.
    """
    match notice:
        case Begun():
            return [Text(begun_text(notice)), Text(prediction_text(notice, tracker)), unfolded(f"results: {place(notice.results)}")]
        case Said():
            return [Text(notice.text)]
        case Stopping():
            return [Text(stopping_text(notice), style="bold")]
        case Ended():
            command = tracker.begun.command if tracker.begun and notice.interrupted else ""
            return [Text(ended_text(notice, tracker)), *([unfolded(f"to go on: {command}")] if command else [])]
        case JobEnded() if notice.failures:
            return job_failures(notice.title, notice.outcomes, notice.failures, told)
        case _:
            return []


def begun_text(begun: Begun) -> str:
    """Returns what is about to happen, in one sentence."""
    failed = f", {begun.failed:,} of them not ok" if begun.failed else ""
    done = f" ({begun.done:,} done before{failed})" if begun.done else ""
    cpu = begun.devices == ("cpu",)
    slots = f"{count(begun.slots, 'slot')} with {count(begun.threads, 'thread')}" if cpu else count(begun.slots, "slot")
    return f"{begun.suite}: training {count(begun.runs, 'run')}{done} on {', '.join(begun.devices)}, {slots}"


def prediction_text(begun: Begun, tracker: Tracker) -> str:
    """Returns how long that should take."""
    if tracker.predicted_seconds is None:
        return "how long that takes cannot be predicted before something of it has trained"
    rough = ", roughly: not all of it was timed on this machine before" if begun.basis != "measured" else ""
    return f"predicted to take {duration(tracker.predicted_seconds)}{rough}"


def stopping_text(stopping: Stopping) -> str:
    """Returns what happens after Ctrl-C."""
    if stopping.at_once:
        return "stopping at once: what was training goes on from its last checkpoint, at most a minute old"
    return "stopping: what is training writes a checkpoint first, to go on from there later (Ctrl-C again: stop at once)"


def ended_text(ended: Ended, tracker: Tracker) -> str:
    """Returns how long training took against the prediction or, after an interruption, what is left."""
    took = duration(tracker.seconds)
    if ended.interrupted:
        left = tracker.seconds_left
        rest = f", about {duration(left)} of training are left" if left else ""
        return f"interrupted after {took}: {tracker.runs_ended:,} of {count(tracker.runs, 'run')} have ended{rest}"
    predicted = f" (predicted: {duration(tracker.predicted_seconds)})" if tracker.predicted_seconds is not None else ""
    return f"trained {count(tracker.ended.total(), 'run')} in {took}{predicted}; tables and figures follow"


def job_text(notice: JobEnded) -> str:
    """Returns how a job ended that did not fail."""
    outcomes = sorted({outcome.value for outcome in notice.outcomes.values()})
    known = [value for run_id, value in (notice.test_accuracy or {}).items() if value is not None and notice.outcomes[run_id] is Outcome.OK]
    accuracy = f", test accuracy {percent(sum(known) / len(known))}" if known else ""
    return f"{notice.title}: {', '.join(outcomes)}{accuracy}"
