"""Times one side of a case in a process of its own: `python -m gapbench.bench.measure CASE ours|plain SECONDS THREADS`, prints JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from gapbench.bench import peers
from gapbench.bench.cases import CASES, Case
from gapbench.engine.session import Session
from gapbench.layers.dropout import Dropout
from gapbench.workloads.datasets.arrays import Pool, Split

CLASSES = 10
WARM_UP = 3
GATE_UPDATES = 3


def our_session(case: Case, pool: Pool) -> Session:
    """Returns our engine ready to train the case."""
    train = np.arange(case.examples)
    split = Split(train, np.arange(case.examples, len(pool.labels)), np.array([], dtype=np.int64), train[:64])
    return Session(case.specs(), pool, [split] * case.replicas, device=torch.device("cpu"), emit=lambda _event: None)


def random_pool(case: Case) -> Pool:
    """Returns random bytes of the data set's shape."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (case.examples + 64, *case.shape), dtype=np.uint8)
    return Pool(images, generator.integers(0, CLASSES, len(images)), CLASSES, 255.0, case.examples)


def our_loop(case: Case, pool: Pool) -> Iterator[int]:
    """Trains with the engine for ever, probes and clipping included; yields the number of examples after each update."""
    session = our_session(case, pool)
    while True:
        state = session.step()
        if state is not None:
            session.probe(state, "update")
        yield case.batch_size * case.replicas


def gate(case: Case, pool: Pool) -> float:
    """Trains both sides on the same batches; returns the largest relative difference of the first losses.

    No timing counts where the difference is large: two loops that compute different things are not compared.
    Dropout masks differ between the sides, so a model with dropout is compared with dropout off.
    """
    session = our_session(case, pool)
    model = peers.plain_model(case, 0, CLASSES)
    for module in (*session.network.module.modules(), *model.modules()):
        if isinstance(module, Dropout):
            module.probability = 0.0
    optimizer = peers.plain_optimizer(model)
    worst = 0.0
    for update in range(GATE_UPDATES):
        batch = session.feed.batch(update)
        theirs = peers.plain_update(model, optimizer, batch.images[0].contiguous(), batch.labels[0])
        state = session.program.update(update, [batch], observe=True)
        assert state is not None
        ours = float(state.batch_loss[0])
        worst = max(worst, abs(ours - theirs) / max(abs(theirs), 1e-12))
    return worst


def timed(loop: Iterator[int], seconds: float) -> dict[str, float]:
    """Returns examples a second over at least `seconds` after a warm-up, and the milliseconds an update takes."""
    started = time.perf_counter()
    next(loop)
    first = time.perf_counter() - started
    for _ in range(WARM_UP):
        next(loop)
    examples, updates, start = 0, 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        examples += next(loop)
        updates += 1
    elapsed = time.perf_counter() - start
    return {"images_per_second": examples / elapsed, "update_ms": 1e3 * elapsed / updates, "first_update_seconds": first}


def main(arguments: list[str]) -> None:
    """Measures and prints one line of JSON."""
    name, side, seconds, threads = arguments[0], arguments[1], float(arguments[2]), int(arguments[3])
    case = CASES[name]
    torch.set_num_threads(threads)
    pool = random_pool(case)
    if side == "gate":
        result = {"difference": gate(case, pool)}
    elif side == "ours":
        result = timed(our_loop(case, pool), seconds)
    elif case.replicas > 1:
        result = timed(peers.memory_loop(case, pool.images, pool.labels, CLASSES), seconds)
    else:
        result = timed(peers.loader_loop(case, pool.images, pool.labels, CLASSES, workers=threads), seconds)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
