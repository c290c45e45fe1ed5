"""What the parent and its workers say to each other: JSON objects, one a line, over the worker's stdin and stdout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gapbench.store.files import to_json


@dataclass(frozen=True)
class Setup:
    """The first message to a worker: what stays the same for all its jobs."""

    results: str
    """Path of the results directory."""
    suite: str
    device: str
    """As the engine calls it: "cpu", or "cuda:0", the only one that the worker sees."""
    device_label: str
    """As the tables call it: "cuda:1"."""
    device_name: str
    threads: int
    data_dir: str | None
    cache_dir: str
    offline: bool
    suite_dir: str | None
    plugins: tuple[str, ...]
    machine: dict[str, Any]
    """Provenance that is the same for all workers."""
    checkpoint_seconds: float
    lock_seconds: float = 120.0
    """How long to wait for the worker of an earlier start that is still writing its last checkpoint."""


@dataclass(frozen=True)
class JobOrder:
    """To a worker: train these runs, together."""

    run_ids: tuple[str, ...]
    specs: tuple[dict[str, Any], ...]
    checkpoint: str | None
    """Id of the run whose folder holds a checkpoint with their slices."""
    slots: int = 1
    """How many jobs may train on its device at a time meanwhile, this one included: for its results."""


STOP = {"kind": "stop"}
"""To a worker: write a checkpoint and end. Closing its stdin says the same."""


def encode(message: dict[str, Any]) -> bytes:
    """Returns a message as a line."""
    return json.dumps(to_json(message), allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"


def encode_setup(setup: Setup) -> bytes:
    """Returns the first message."""
    return encode({"kind": "setup", **asdict(setup)})


def decode_setup(message: dict[str, Any]) -> Setup:
    """Returns the content of the first message."""
    fields = {name: value for name, value in message.items() if name != "kind"}
    return Setup(**{**fields, "plugins": tuple(fields["plugins"])})


def encode_job(order: JobOrder) -> bytes:
    """Returns an order as a line."""
    return encode({"kind": "job", **asdict(order)})


def decode_job(message: dict[str, Any]) -> JobOrder:
    """Returns the content of an order."""
    return JobOrder(tuple(message["run_ids"]), tuple(message["specs"]), message["checkpoint"], int(message["slots"]))


def read_messages(stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yields messages until the other side ends; a torn last line is dropped."""
    for line in stream:
        if not line.endswith(b"\n"):
            return
        yield json.loads(line)
