"""What is assumed of a CPU core and of a GPU: by these numbers batches are cut, runs stacked, and jobs that nobody timed are priced."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DeviceKind:
    """Of one CPU core, or of one GPU."""

    piece_mib: float
    """Activations that a micro-batch may keep."""
    recomputed_from_mib: float
    """Activations of a batch that cannot be cut, from which on blocks pass forward twice instead of keeping theirs."""
    stack_below_flops: float
    """A stack pays while an update of one replica has fewer floating point operations than this: it is then bound by the fixed cost of its
    kernels, which a stack pays once for all replicas."""
    flops_per_second: float
    """That an update reaches."""
    layer_seconds: float
    """Fixed cost of a layer's kernels in one update: on a GPU the time to launch them."""
    parameter_seconds: float
    """Moving one weight in one update: gradient, norm and optimizer pass over all of them."""
    worker_mib: float
    """Memory of a worker before it holds anything."""
    activation_copies: float
    """Memory of an update by what its backward pass needs kept."""


KINDS = {
    # On one thread of a processor: C1 at batch 1024, ghost 128 takes 1.45 s an update whole (0.7 GB), 1.22 s in pieces of 256; F1 at 4096
    # (0.14 GB) 0.27 s whole, 0.32 s in pieces of 256; a residual network is as fast either way. Digits at batch 16 has 4e6 operations an
    # update, at batch 512 1.3e8. Python with torch holds 620 to 740 MiB. Freed blocks that the allocator keeps included, F1 at 4096 holds
    # 1.7 to 2.0 times its activations, C1 at 512 2.1, ResNet-44 at 128 1.4.
    "cpu": DeviceKind(
        piece_mib=256.0,
        recomputed_from_mib=8192.0,
        stack_below_flops=5e7,
        flops_per_second=5e10,
        layer_seconds=2e-4,
        parameter_seconds=5e-9,
        worker_mib=750.0,
        activation_copies=1.7,
    ),
    # Guesses, all of them: no GPU has measured any. Two copies of activations, since recorded updates have memory of their own and the
    # plain program, to which they are held before training, has its own.
    "cuda": DeviceKind(
        piece_mib=4096.0,
        recomputed_from_mib=49152.0,
        stack_below_flops=1e10,
        flops_per_second=3e13,
        layer_seconds=1e-4,
        parameter_seconds=2e-11,
        worker_mib=800.0,
        activation_copies=2.0,
    ),
}

# More guesses at GPUs.
GPU_COMPILED_FROM = 2000
"""Updates of a job that are worth compiling its network, which takes up to some minutes."""
GPU_MIB = 80.0 * 1024
"""Memory of the GPU that will train, which may not be at hand when a run is planned: an A100 or H100."""
GPU_HOST_MIB = 3000.0
"""Memory of the host that a GPU's worker holds before any data: Python, torch, the libraries of CUDA."""
MOST_AT_A_TIME = 4
"""That share a GPU at most: each holds a context and keeps a core busy with launching."""
