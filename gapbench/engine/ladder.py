"""Which program a job trains with: one that compiles its network or, on a GPU, records its updates, or the plain one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gapbench.catalog import optimizers
from gapbench.core.registry import load_target
from gapbench.engine.feed import Feed, MicroBatches
from gapbench.engine.flat import FlatNetwork
from gapbench.engine.graphs import CudaGraphs
from gapbench.engine.pieces import Shape
from gapbench.engine.prepared import PreparedProgram
from gapbench.engine.program import Probe, Program
from gapbench.suite.runspec import RunSpec

RECORDED_FROM = 50
"""Updates of a shape that are worth a recording, which takes about ten."""
USUAL_SHARE = 10
"""Where the network is compiled, a shape of one update in so many is worth it, too, however few there are."""


def make_program(
    network: FlatNetwork,
    specs: Sequence[RunSpec],
    micro_batch_probes: Sequence[Probe] = (),
    *,
    resets: Sequence[int] = (),
    compiles: bool = False,
) -> Program:
    """Returns the program of a job. One that compiles or records does so only when it is prepared, and is a plain one until then.

    Args:
        network: the replicas.
        specs: the runs, one a replica.
        micro_batch_probes: see `Program`.
        resets: see `Program`.
        compiles: whether to try to compile the network.
    """
    device = network.weights.device
    reason = why_not_recorded(specs[0]) if device.type == "cuda" else ""
    graphs = CudaGraphs(device) if device.type == "cuda" and not reason else None
    if graphs is not None or compiles:
        program: Program = PreparedProgram(network, specs, micro_batch_probes, resets=resets, graphs=graphs, compiles=compiles)
    else:
        program = Program(network, specs, micro_batch_probes, resets=resets)
    program.refused = (f"graph: {reason}",) if reason else ()
    return program


def why_not_recorded(spec: RunSpec) -> str:
    """Returns why updates of a run cannot be recorded; empty where they can."""
    if spec.adaptive_batch is not None:
        return "the batch size is decided while training"
    if spec.gradient_noise is not None and spec.gradient_noise.kind == "isotropic":
        return "noise in the gradient's place is drawn by the host's count of updates"
    if not getattr(load_target(optimizers()[spec.optimizer.name].target), "follows_device", False):
        return f"the optimizer {spec.optimizer.name} takes its hyperparameters from the host"
    return ""


def usual_updates(feed: Feed, micro_batch_size: int, *, begin: int = 0, compiles: bool = False) -> list[tuple[int, MicroBatches]]:
    """Returns an update of each shape that still comes, and comes often enough to be recorded or compiled, the most frequent first.

    Args:
        feed: of the job.
        micro_batch_size: examples of a piece.
        begin: updates that were made already.
        compiles: whether the network is to be compiled; that this pays is decided elsewhere, and for the run as a whole.
    """
    whole: Counter[Shape] = Counter()
    left: Counter[Shape] = Counter()
    first: dict[Shape, tuple[int, MicroBatches]] = {}
    for stretch in feed.batches.stretches:
        batches = feed.micro_batches(stretch.update, micro_batch_size)
        whole[batches.shape] += stretch.updates
        if stretch.update + stretch.updates > begin:
            left[batches.shape] += stretch.update + stretch.updates - max(begin, stretch.update)
            first.setdefault(batches.shape, (stretch.update, batches))
    if compiles:  # by the run as a whole, so that one that goes on compiles what it compiled before: that changes last bits
        enough = min(RECORDED_FROM, whole.total() / USUAL_SHARE)
        usual = [shape for shape in left if whole[shape] >= enough]
    else:
        usual = [shape for shape in left if left[shape] >= RECORDED_FROM]
    return [first[shape] for shape in sorted(usual, key=lambda shape: -left[shape])]
