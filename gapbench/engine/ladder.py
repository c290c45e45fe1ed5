"""Which program a job trains with: on a GPU one that records its updates, elsewhere the plain one."""

from __future__ import annotations

from collections.abc import Sequence

from gapbench.catalog import optimizers
from gapbench.core.registry import load_target
from gapbench.engine.feed import Feed, MicroBatches
from gapbench.engine.flat import FlatNetwork
from gapbench.engine.graphs import CudaGraphs
from gapbench.engine.pieces import Shape
from gapbench.engine.program import Probe, Program
from gapbench.engine.recorded import RecordedProgram
from gapbench.suite.runspec import RunSpec

RECORDED_FROM = 50
"""Updates of a shape that are worth a recording, which takes about ten."""
COMPILED_FROM = 2000
"""Updates of a job that are worth compiling its network, which takes up to some minutes. A guess that is to be measured on a GPU."""


def make_program(
    network: FlatNetwork, specs: Sequence[RunSpec], micro_batch_probes: Sequence[Probe] = (), *, resets: Sequence[int] = ()
) -> Program:
    """Returns the program of a job. One that records does so only when it is prepared, and is a plain one until then.

    Args:
        network: the replicas.
        specs: the runs, one a replica.
        micro_batch_probes: see `Program`.
        resets: see `Program`.
    """
    device = network.weights.device
    reason = why_plain(specs[0]) if device.type == "cuda" else ""
    if device.type != "cuda" or reason:
        program = Program(network, specs, micro_batch_probes, resets=resets)
        program.refused = (f"graph: {reason}",) if reason else ()
        return program
    compiles = specs[0].updates >= COMPILED_FROM
    return RecordedProgram(network, specs, micro_batch_probes, resets=resets, graphs=CudaGraphs(device), compiles=compiles)


def why_plain(spec: RunSpec) -> str:
    """Returns why updates of a run cannot be recorded; empty where they can."""
    if spec.adaptive_batch is not None:
        return "the batch size is decided while training"
    if spec.gradient_noise is not None and spec.gradient_noise.kind == "isotropic":
        return "noise in the gradient's place is drawn by the host's count of updates"
    if not getattr(load_target(optimizers()[spec.optimizer.name].target), "follows_device", False):
        return f"the optimizer {spec.optimizer.name} takes its hyperparameters from the host"
    return ""


def usual_updates(feed: Feed, micro_batch_size: int, *, begin: int = 0) -> list[tuple[int, MicroBatches]]:
    """Returns an update of each shape that comes often enough to be recorded, the most frequent first.

    Args:
        feed: of the job.
        micro_batch_size: examples of a piece.
        begin: updates that were made already.
    """
    counts: dict[Shape, int] = {}
    first: dict[Shape, tuple[int, MicroBatches]] = {}
    for stretch in feed.batches.stretches:
        left = stretch.update + stretch.updates - max(begin, stretch.update)
        if left <= 0:
            continue
        batches = feed.micro_batches(stretch.update, micro_batch_size)
        counts[batches.shape] = counts.get(batches.shape, 0) + left
        first.setdefault(batches.shape, (stretch.update, batches))
    usual = sorted((shape for shape, count in counts.items() if count >= RECORDED_FROM), key=lambda shape: -counts[shape])
    return [first[shape] for shape in usual]
