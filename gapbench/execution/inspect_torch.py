"""What torch can do here, as JSON on stdout: run in a process of its own, so that a torch that crashes cannot take doctor with it.

python -m gapbench.execution.inspect_torch
"""

from __future__ import annotations

import json
from typing import Any


def main() -> None:
    """Prints the findings."""
    print(json.dumps(inspect()))


def inspect() -> dict[str, Any]:
    """Returns versions, devices and whether bf16 works, each tried and not only asked for."""
    import torch

    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    devices = [{"name": name, "bf16": _bf16_works(name), "works": _works(name)} for name in names]
    return {
        "torch": torch.__version__,
        "cuda_build": torch.version.cuda,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_bf16": _bf16_works("cpu"),
        "devices": devices,
    }


def _works(device: str) -> bool:
    import torch

    try:
        return bool(torch.ones(8, 8, device=device).matmul(torch.ones(8, 8, device=device)).sum().item() == 512.0)
    except RuntimeError:
        return False


def _bf16_works(device: str) -> bool:
    import torch

    try:
        ones = torch.ones(8, 8, device=device, dtype=torch.bfloat16)
        return bool(ones.matmul(ones).float().sum().item() == 512.0)
    except RuntimeError:
        return False


if __name__ == "__main__":
    main()
