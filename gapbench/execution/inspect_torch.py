"""What torch can do here, as JSON on stdout: run in a process of its own, so that a torch that crashes cannot take doctor with it.

python -m gapbench.execution.inspect_torch            versions, devices, precision, CUDA graph capture
python -m gapbench.execution.inspect_torch compile    whether torch.compile works, on every device
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Prints the findings."""
    print(json.dumps(inspect_compile() if sys.argv[1:] == ["compile"] else inspect()))


def inspect() -> dict[str, Any]:
    """Returns versions, devices and what works on them, each tried and not only asked for."""
    import torch

    return {
        "torch": torch.__version__,
        "torchvision": _torchvision(),
        "cuda_build": torch.version.cuda,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_bf16": _multiplies("cpu", "bfloat16"),
        "devices": [_device(index) for index in range(torch.cuda.device_count())],
    }


def inspect_compile() -> dict[str, Any]:
    """Returns, for every device, how many seconds a first compilation took, or what it failed with."""
    import torch

    found: dict[str, Any] = {}
    for name in ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]:
        started = time.perf_counter()
        try:
            values = torch.arange(8.0, device=name)
            right = torch.equal(torch.compile(_function)(values), _function(values))
            found[name] = {"seconds": time.perf_counter() - started, "error": "" if right else "gives another result"}
        except Exception as error:  # whatever a compiler may come up with is a finding
            lines = str(error).strip().splitlines() or [""]
            found[name] = {"seconds": time.perf_counter() - started, "error": f"{type(error).__name__}: {lines[0]}"}
    return found


def _function(values: Any) -> Any:
    return (values * 2.0 + 1.0).relu()


def _torchvision() -> dict[str, str]:
    """Returns its version, or why it cannot be imported: built for another torch, it fails then."""
    try:
        import torchvision

        return {"version": torchvision.__version__, "error": ""}
    except Exception as error:
        return {"version": "", "error": f"{type(error).__name__}: {error}"}


def _device(index: int) -> dict[str, Any]:
    import torch

    name = f"cuda:{index}"
    found: dict[str, Any] = {"name": name, "works": _multiplies(name)}
    if found["works"]:
        free, total = torch.cuda.mem_get_info(index)
        found["free_mib"], found["total_mib"] = free / (1 << 20), total / (1 << 20)
        found["capability"] = ".".join(str(part) for part in torch.cuda.get_device_capability(index))
        found["bf16"] = _multiplies(name, "bfloat16")
        found["capture"] = _capture_error(name)
    return found


def _multiplies(device: str, precision: str = "float32") -> bool:
    import torch

    try:
        ones = torch.ones(8, 8, device=device, dtype=getattr(torch, precision))
        return bool(ones.matmul(ones).float().sum().item() == 512.0)
    except RuntimeError:
        return False


def _capture_error(device: str) -> str:
    """Returns why a few operations cannot be captured as a CUDA graph and replayed; empty where they can."""
    import torch

    try:
        with torch.cuda.device(device):
            values = torch.zeros(8, device=device)
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                values += 1.0  # first calls make what capture must not
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                values += 1.0
            values.zero_()
            graph.replay()
            torch.cuda.synchronize()
            return "" if bool((values == 1.0).all()) else "a replay gives another result"
    except RuntimeError as error:
        return (str(error).strip().splitlines() or ["RuntimeError"])[0]


if __name__ == "__main__":
    main()
