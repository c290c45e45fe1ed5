"""doctor: what works is tried, what does not gets a remedy, and nothing stays behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from gapbench import api
from gapbench.api import Finding, checkup
from gapbench.execution import inspect_torch
from gapbench.execution.devices import Device

CPU_ONLY: dict[str, Any] = {
    "torch": "2.11",
    "torchvision": {"version": "0.26", "error": ""},
    "cuda_build": None,
    "cpu_capability": "AVX2",
    "cpu_bf16": True,
    "devices": [],
}
GPU: dict[str, Any] = {
    "name": "cuda:0",
    "works": True,
    "free_mib": 79000.0,
    "total_mib": 81559.0,
    "capability": "9.0",
    "bf16": True,
    "capture": "",
}


pytestmark = pytest.mark.usefixtures("own_folder")


WORKS = {"cpu": {"seconds": 12.0, "error": ""}}


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def answers(torch: Any, compiled: Any, *, gpus: tuple[Device, ...] = (), compiler: str = "/usr/bin/c++") -> dict[str, Finding]:
    """What is found where torch answers so."""
    return by_name(checkup.torch_findings(torch, compiled, gpus, compiler))


def test_a_cpu_without_gpu_is_said_and_is_nothing_bad() -> None:
    found = answers(CPU_ONLY, WORKS)
    assert found["GPU"] == Finding("GPU", "note", "none that torch can use; runs train on the CPU")
    assert found["torch.compile on cpu"].text == "works (the first time in 12 s)"
    assert all(finding.state != "bad" for finding in found.values())


def test_a_gpu_is_described_by_name_memory_capability_precision_and_capture() -> None:
    label = Device("cuda:0", "cuda", "NVIDIA H100", "GPU-1", 81559.0)
    found = answers({**CPU_ONLY, "devices": [GPU]}, WORKS, gpus=(label,))
    assert found["cuda:0"] == Finding("cuda:0", "ok", "NVIDIA H100, 79.6 GiB, 77.1 GiB free, compute capability 9.0, bf16 works")
    assert found["CUDA graphs on cuda:0"].state == "ok"


@pytest.mark.parametrize(
    ("change", "name", "state", "words"),
    [
        ({"devices": [{**GPU, "free_mib": 1000.0}]}, "cuda:0", "note", "another program"),
        ({"devices": [{**GPU, "capture": "operation not permitted"}]}, "CUDA graphs on cuda:0", "note", "operation not permitted"),
        ({"devices": [{"name": "cuda:1", "works": False}]}, "cuda:1", "bad", "driver"),
        ({"torchvision": {"version": "", "error": "RuntimeError: no operator nms"}}, "torchvision", "bad", "pip install"),
    ],
)
def test_what_torch_cannot_do_is_said_with_its_remedy(change: dict[str, Any], name: str, state: str, words: str) -> None:
    found = answers({**CPU_ONLY, **change}, WORKS)[name]
    assert found.state == state
    assert words in f"{found.text} {found.remedy}"


def test_a_gpu_that_only_the_driver_sees_is_bad() -> None:
    assert answers(CPU_ONLY, WORKS, gpus=(Device("cuda:0", "cuda", "NVIDIA H100"),))["GPU"].state == "bad"


def test_without_a_compiler_the_remedy_is_to_install_one() -> None:
    broken = {"cpu": {"seconds": 1.0, "error": "InvalidCxxCompiler: none"}}
    found = answers(CPU_ONLY, broken, compiler="")
    assert found["torch.compile on cpu"].state == "note"
    assert "install a C++ compiler" in found["torch.compile on cpu"].remedy
    assert found["C++ compiler"].state == "note"
    assert "install a C++ compiler" not in answers(CPU_ONLY, broken)["torch.compile on cpu"].remedy


def test_a_compilation_that_hangs_or_dies_is_a_note_only() -> None:
    hangs = Finding("torch.compile", "bad", "does not answer within 300 s", "reinstall it")
    assert answers(CPU_ONLY, hangs)["torch.compile"].state == "note"


def test_a_process_that_hangs_crashes_or_cannot_start_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(**answer: Any) -> Any:
        monkeypatch.setattr(subprocess, "run", Mock(**answer))
        return checkup.ask("torch", 1.0)

    assert ask(side_effect=subprocess.TimeoutExpired("python", 1.0)).text == "does not answer within 1 s"
    assert ask(side_effect=FileNotFoundError(2, "No such file")).text == "cannot be started: No such file"
    died = SimpleNamespace(returncode=-11, stderr="", stdout="")
    assert ask(return_value=died).text == "cannot be used: exit status -11"
    answered = SimpleNamespace(returncode=0, stderr="", stdout='a warning\n{"torch": "2"}\n')
    assert ask(return_value=answered) == {"torch": "2"}


def test_what_torch_can_do_is_really_tried() -> None:
    found = json.loads(json.dumps(inspect_torch.inspect()))
    assert set(found) == set(CPU_ONLY)
    assert found["torchvision"]["error"] == ""
    assert all(set(device) == set(GPU) for device in found["devices"] if device["works"])


def test_a_compilation_counts_only_with_the_right_result(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert inspect_torch.inspect_compile()["cpu"]["error"] == ""
    monkeypatch.setattr(torch, "compile", lambda function: lambda values: function(values) + 1)
    assert inspect_torch.inspect_compile()["cpu"]["error"] == "gives another result"

    monkeypatch.setattr(torch, "compile", Mock(side_effect=RuntimeError("no compiler\nand a long story")))
    assert inspect_torch.inspect_compile()["cpu"]["error"] == "RuntimeError: no compiler"


def test_fast_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Mock(side_effect=AssertionError("started a process"))
    monkeypatch.setattr(subprocess, "run", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    names = [finding.name for finding in api.doctor(fast=True)]
    assert "CPU" in names
    assert "torch" not in names
    assert [*tmp_path.rglob("*")] == []  # nothing stays behind


def test_data_that_are_missing_are_named_with_their_place_and_how_to_get_them(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"not what it should be")
    found = by_name(api.doctor(data_dir=tmp_path / "data", fast=True))
    assert found["data directory"].text == f"{tmp_path / 'data'} (--data-dir)"
    assert found["data: digits"].state == "ok"
    assert found["data: cifar10"].state == "note"
    assert str(tmp_path / "data") in found["data: cifar10"].text
    assert found["data: cifar10"].remedy == "gapbench data fetch cifar10"
    assert found["data: mnist"].state == "bad"
    assert "train-images-idx3-ubyte.gz" in found["data: mnist"].text


def test_a_data_folder_that_is_not_there_is_noted_with_who_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_DATA", str(tmp_path / "nowhere"))
    found = by_name(api.doctor(fast=True))
    assert found["data directory"].state == "note"
    assert "GAPBENCH_DATA names" in found["data directory"].text


def test_folders_that_cannot_be_written_to_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "file" / "cache"))
    found = by_name(api.doctor(fast=True, results=tmp_path / "file"))
    assert (found["cache"].state, found["results"].state) == ("bad", "bad")
    assert "GAPBENCH_CACHE" in found["cache"].remedy
    assert "--results" in found["results"].remedy


@pytest.mark.parametrize(("free_gib", "state"), [(0.05, "bad"), (1.0, "note"), (50.0, "ok")])
def test_little_room_is_said(monkeypatch: pytest.MonkeyPatch, free_gib: float, state: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_gib * (1 << 30)))
    found = by_name(api.doctor(fast=True))
    assert (found["cache"].state, found["results"].state) == (state, state)
    assert bool(found["cache"].remedy) == (state != "ok")


def test_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "free_memory_mib", lambda: 1000.0)
    found = by_name(api.doctor(fast=True))
    assert found["memory"].state == "note"
    assert "--slots" in found["memory"].remedy


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_fast_bf16_is_told_from_bf16_that_only_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags : avx2 avx512_bf16 amx_bf16 amx_tile")
    assert answers(CPU_ONLY, WORKS)["bf16 on the CPU"].text == "works, with instructions of its own (AVX512_BF16, AMX)"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags : avx2")
    assert answers(CPU_ONLY, WORKS)["bf16 on the CPU"].state == "note"
    assert answers({**CPU_ONLY, "cpu_bf16": False}, WORKS)["bf16 on the CPU"].remedy
