"""The step program that is prepared: networks are compiled and, on a GPU, updates recorded, with what changes between them in tables there.

There is a ladder of ways to execute an update: recorded with a compiled network inside, recorded, compiled, and the plain program of
`program.py`. The first that works is taken, and works means: it makes an update that the plain program makes, too. Whatever goes wrong
on the way up is told in the results and costs no run. A CPU has the last two rungs: nothing waits to be started there.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapbench.catalog import optimizers
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import load_target
from gapbench.engine.feed import Batch, Feed, MicroBatches
from gapbench.engine.flat import FlatNetwork
from gapbench.engine.pieces import Shape
from gapbench.engine.program import LOSSES, Probe, Program, UpdateGradients
from gapbench.optimizers import Hyperparameters
from gapbench.probes import TrainState
from gapbench.suite.batches import BatchTable
from gapbench.suite.runspec import RunSpec

# Recorded updates: the work of an update on a GPU, recorded once as a CUDA graph and started again in one call.
#
# A network of many small kernels waits for the host, which takes longer to start a kernel than the GPU to run it. A recorded update starts
# all of them at once. It reads and writes only memory that stays where it is, and nothing in it may ask the device for a number.

WARM_UPS = 2
"""Times that an update runs on the side stream before it is recorded: libraries choose kernels and workspaces at their first calls."""


class Graphs(ABC):
    """Where updates are recorded."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns a function that does again what `work` does, on the same memory. `work` is also run, and changes that memory."""


class CudaGraphs(Graphs):
    """CUDA graphs that share one pool of memory, since no two of them run at a time and none leaves anything in it.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Graphs`."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: another one may be fetching the next examples, and must not spoil the recording.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


REASON = 300
"""Characters of a reason that are kept."""
RECOMPILATIONS = 256
"""Compiled forms of one layer's code that a process may hold: by shape, mode and kind of network."""
TOLERANCE = {"fp32": (0.1, 0.01), "bf16": (1.0, 0.1)}
"""How far an update may be from that of the plain program, and how much longer or shorter, relative to its length. Other kernels round
otherwise, which turns the first update of a deep network and leaves its length. Measured on a CPU: in fp32 the gradient of ResNet-44 is
0.026 from float64's, and 0.004 where it is compiled; in bf16 the update is 0.24 to 0.47 from fp32's, and its length within 0.02. A wrong
learning rate, a lost micro-batch or an update made twice changes the length."""


@dataclass(frozen=True)
class Rung:
    """A way to execute an update."""

    kind: str
    compiled: bool
    recorded: bool


LADDER = (Rung("compiled graph", True, True), Rung("graph", False, True), Rung("compiled", True, False))
"""From the fastest down; below stands the plain program."""


class RefusedError(GapbenchError):
    """A way to execute updates makes other updates than the plain program."""


class Static:
    """Batches at fixed places in memory, and what an update says of them.

    Args:
        batches: an update's, for their shapes.
        keyed: whether layers draw by the examples' keys.
        weighted: whether examples are weighted.
    """

    def __init__(self, batches: Sequence[Batch], *, keyed: bool, weighted: bool) -> None:
        self.batches = [
            replace(
                batch,
                images=torch.empty_like(batch.images),
                labels=torch.empty_like(batch.labels),
                keys=torch.empty_like(batch.keys),
            )
            for batch in batches
        ]
        self._keyed = keyed
        labels = batches[0].labels
        replicas, self.examples = len(labels), sum(batch.size for batch in batches)
        self.weights = torch.empty(replicas, self.examples, device=labels.device) if weighted else None
        self.loss, self.correct, self.gradient_norm = (torch.empty(replicas, device=labels.device) for _ in range(3))

    def fill(self, batches: Iterable[Batch], weights: Tensor | None) -> None:
        """Copies the batches of an update of this shape to their places, none fetched before it is needed."""
        for place, batch in zip(self.batches, batches, strict=True):
            place.images.copy_(batch.images)
            place.labels.copy_(batch.labels)
            if self._keyed:
                place.keys.copy_(batch.keys)
        if self.weights is not None:
            assert weights is not None
            self.weights.copy_(weights)


@dataclass(frozen=True)
class Recorded:
    """The recorded updates of one shape."""

    static: Static
    plain: Callable[[], None]
    observed: Callable[[], None] | None
    """None where micro-batch probes look at each gradient by itself: then observed updates are the plain program's."""


class PreparedProgram(Program):
    """A `Program` that executes the usual updates in a faster way, once `prepare` has found one.

    Args:
        network: the replicas.
        specs: the runs, one a replica.
        micro_batch_probes: see `Program`.
        resets: see `Program`.
        graphs: where to record; None: nowhere.
        compiles: whether to try `torch.compile`.
    """

    def __init__(
        self,
        network: FlatNetwork,
        specs: Sequence[RunSpec],
        micro_batch_probes: Sequence[Probe] = (),
        *,
        resets: Sequence[int] = (),
        graphs: Graphs | None,
        compiles: bool,
    ) -> None:
        device = network.weights.device
        self._graphs = graphs
        self.compiles = compiles
        self._tolerance = TOLERANCE[specs[0].precision]
        self._recorded: dict[Shape, Recorded] = {}
        self._compiled: set[Shape] = set()
        """Shapes of updates whose network is compiled and which are not recorded."""
        self._counter = torch.zeros(1, dtype=torch.int64, device=device)
        """The update that a recording makes next."""
        self._counter_at = 0
        self._ring: Float[Tensor, "update replica"] = torch.zeros(LOSSES, len(specs), device=device)
        """Losses by update, modulo LOSSES."""
        super().__init__(network, specs, micro_batch_probes, resets=resets)
        self._host_answers = self._host_answers and graphs is None

    def follow(self, batches: BatchTable, resets: Sequence[int]) -> None:
        """See `Program`. The hyperparameters of all updates lie on the device."""
        super().follow(batches, resets)
        rows = np.array([[table.learning_rate, table.weight_decay, table.momentum] for table in self._schedules], dtype=np.float32)
        self._table: Float[Tensor, "update hyperparameter replica"] = torch.from_numpy(rows.transpose(2, 1, 0).copy())
        self._table = self._table.to(self._counter.device)

    def prepare(self, examples: Sequence[tuple[int, MicroBatches]]) -> None:
        """Finds the first rung that works for some updates and all of their shapes. Nothing that an update moves is left moved.

        Args:
            examples: number and batches of an update of each shape; where there are none, updates stay those of the plain program.
        """
        for rung in LADDER:
            if not examples or (rung.compiled and not self.compiles) or (rung.recorded and self._graphs is None):
                continue
            try:
                for update, batches in examples:
                    self._climb(rung, update, batches)
            except Exception as error:  # whatever a compiler, a driver or a user's layer raises: the next rung may do without
                self._recorded.clear()
                self._compiled.clear()
                reason = (str(error).strip().splitlines() or [""])[0]
                self.refused = (*self.refused, f"{rung.kind}: {type(error).__name__}: {reason}"[:REASON])
                continue
            self.kind = rung.kind
            return

    def update(self, update: int, batches: MicroBatches, *, observe: bool) -> TrainState | None:
        """See `Program`."""
        recorded = self._recorded.get(batches.shape)
        replay = None if recorded is None else recorded.observed if observe else recorded.plain
        if recorded is None or replay is None:
            with self._calling(batches.shape in self._compiled):
                return super().update(update, batches, observe=observe)
        if update in self._resets_at:
            self.optimizer.reset()
        recorded.static.fill(batches, self._noise_weights(update))
        if self._counter_at != update:
            self._counter.fill_(update)
        self._make_room(update)
        replay()
        self._counter_at = update + 1
        if not observe:
            return None
        static = recorded.static
        return self._state(update, static.examples, static.loss, static.correct, self.network.gradients, static.gradient_norm)

    def _climb(self, rung: Rung, update: int, batches: MicroBatches) -> None:
        """Records updates of a shape by a rung. Raises where that cannot be done or where they are not those of the plain program."""
        plainly = functools.partial(self._make, update, batches, observe=False)
        expected = self._movement(plainly)
        with self._calling(rung.compiled):
            if not rung.recorded:
                self._check(self._movement(plainly), expected)
                self._compiled.add(batches.shape)
                return
            static = Static(list(batches), keyed=bool(self._keyed), weighted=self.noise.multiplicative)
            static.fill(batches, self._noise_weights(update))
            plain = self._record(static, update, expected, observe=False)
            observed = None if self._micro_batch_probes else self._record(static, update, expected, observe=True)
        self._recorded[batches.shape] = Recorded(static, plain, observed)

    def _record(self, static: Static, update: int, expected: Tensor, *, observe: bool) -> Callable[[], None]:
        """Returns the recorded update of static batches, once it has moved the weights as is expected of the one that they hold."""
        with self._unmoved():
            self._counter.fill_(update)
            assert self._graphs is not None
            replay = self._graphs.record(functools.partial(self._recordable, static, observe=observe))
        self._check(self._movement(functools.partial(self._replayed, replay, update)), expected)
        return replay

    def _recordable(self, static: Static, *, observe: bool) -> None:
        """Makes an update of the static batches, and all that differs between updates it finds on the device."""
        gradients = UpdateGradients(self, 0, static.batches, static.weights, observe=observe)
        now = self._table.index_select(0, self._counter)[0, :, :, None]
        norm = self._execute(gradients, Hyperparameters(now[0], now[1], now[2]), observe=observe)
        loss = gradients.passed.loss()
        self._ring.index_copy_(0, self._counter % LOSSES, loss[None])
        self._counter.add_(1)
        static.loss.copy_(loss)
        if norm is not None:
            static.gradient_norm.copy_(norm)
        if observe:
            static.correct.copy_(gradients.passed.right())

    def _replayed(self, replay: Callable[[], None], update: int) -> None:
        self._counter.fill_(update)
        replay()

    def _movement(self, work: Callable[[], object]) -> Tensor:
        """Returns how some work moves the weights; everything is put back."""
        with self._unmoved():
            before = self.network.weights.clone()
            work()
            return self.network.weights - before

    def _check(self, made: Tensor, expected: Tensor) -> None:
        length, longer, difference = (float(moved.norm()) for moved in (expected, made, made - expected))
        apart, stretched = self._tolerance
        if not (difference <= apart * length and abs(longer - length) <= stretched * length):
            raise RefusedError(
                f"an update of length {longer:.3g} is {difference:.3g} from that of the plain program, which is {length:.3g} long"
            )

    @contextmanager
    def _unmoved(self) -> Iterator[None]:
        """Afterwards everything that an update moves is as before, whatever went wrong."""
        extrapolated = [] if self.extrapolated is None else self.extrapolated.moved
        moved = [*self.network.moved, *self.optimizer.moved, *extrapolated, self.clipped_updates, self._ring, self._counter]
        kept = [tensor.clone() for tensor in moved]
        device = self._counter.device
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                yield
        finally:
            for tensor, value in zip(moved, kept, strict=True):
                tensor.copy_(value)
            self.network.forget_pending()
            self._counter_at = -1

    @contextmanager
    def _calling(self, compiled: bool) -> Iterator[None]:
        """Within it the network is computed by its compiled form, or as it is."""
        plain = self._module
        if compiled:
            self._module = self._compiled_module
        try:
            yield
        finally:
            self._module = plain

    @functools.cached_property
    def _compiled_module(self) -> Callable[[Tensor], Tensor]:
        return compiled_form(self.network.module)

    def _keep_loss(self, update: int, loss: Float[Tensor, " replica"]) -> None:
        self._make_room(update)
        self._ring[update % LOSSES].copy_(loss)

    def _make_room(self, update: int) -> None:
        if update - self._settled >= LOSSES:
            self._settle(update)

    def _recent_losses(self, updates: int) -> Float[Tensor, "update replica"] | None:
        if updates == self._settled:
            return None
        return self._ring.index_select(0, torch.arange(self._settled, updates, device=self._ring.device) % LOSSES)


def compiled_form(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Returns a module's compiled form. One that was compiled before in this process, for an equal network, compiles nothing anew."""
    # Every shape and mode of a network counts; a worker trains many, and past the limit compiling is given up.
    if torch._dynamo.config.disable:
        raise RefusedError("torch.compile is switched off in the environment")
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    return torch.compile(module, dynamic=False, fullgraph=True)


# Which program a job trains with: one that compiles its network or, on a GPU, records its updates, or the plain one.

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
    if spec.extrapolation is not None:
        return "how far to extrapolate is told by the host's count of updates"
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
