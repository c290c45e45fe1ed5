"""Cores, memory and devices are found as this process may use them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gapbench.core import machine
from gapbench.core.errors import DeviceError
from gapbench.execution import devices
from gapbench.execution.devices import Device, choose_devices
from gapbench.execution.executor import Gone, LocalProcesses, Setup
from gapbench.execution.jobs import Slot


@pytest.fixture
def control_group(tmp_path, monkeypatch):
    def limit(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(text)
        monkeypatch.setattr(machine, "_control_groups", lambda: iter([tmp_path]))

    return limit


def test_the_limit_of_a_control_group_counts(control_group):
    control_group(memory_max=str(1 << 30), memory_current=str(700 << 20), memory_stat=f"anon 5\ninactive_file {200 << 20}\n")
    assert machine.total_memory_mib() == pytest.approx(1024.0)
    assert machine.free_memory_mib() == pytest.approx(524.0)


def test_a_control_group_without_a_limit_changes_nothing(control_group):
    before = machine.total_memory_mib()
    control_group(memory_max="max\n", memory_current="5", cpu_max="max 100000\n")
    assert machine.total_memory_mib() == before


def test_the_quota_of_a_control_group_counts(control_group):
    control_group(cpu_max="50000 100000\n")
    assert machine.usable_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinities")
def test_the_affinity_of_the_process_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_process_that_is_gone_holds_no_memory():
    assert machine.resident_mib(os.getpid()) > 10
    assert machine.resident_mib(2**22 - 1) == 0.0


GPUS = [("GPU-aaaa-1", "Alpha", 1000.0), ("GPU-bbbb-2", "Beta", 2000.0), ("GPU-cccc-3", "Gamma", 3000.0)]


@pytest.fixture
def three_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_driver_gpus", lambda: devices._visible(GPUS))
    monkeypatch.setattr(devices, "torch_cuda_version", lambda: "13.0")


def test_gpus_come_first_and_the_cpu_where_there_are_none(three_gpus, monkeypatch):
    assert [device.name for device in choose_devices(None)] == ["cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setattr(devices, "_driver_gpus", lambda: ())
    assert [device.name for device in choose_devices(None)] == ["cpu"]


def test_devices_can_be_named(three_gpus):
    assert [device.visible for device in choose_devices("cuda:2, cuda:0")] == ["GPU-cccc-3", "GPU-aaaa-1"]
    assert len(choose_devices("cuda")) == 3
    assert [device.kind for device in choose_devices("cpu")] == ["cpu"]


@pytest.mark.parametrize(
    ("shown", "labels"),
    [
        ("1,0", ["Beta", "Alpha"]),
        ("GPU-cc", ["Gamma"]),
        ("0,7,1", ["Alpha"]),  # as in CUDA, the list ends at the first that does not exist
        ("", []),
        ("-1", []),
        ("MIG-1234", ["MIG device"]),
    ],
)
def test_visible_devices_are_respected(three_gpus, monkeypatch, shown, labels):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [device.label for device in devices.find_gpus()] == labels
    assert [device.name for device in devices.find_gpus()] == [f"cuda:{number}" for number in range(len(labels))]


@pytest.mark.parametrize(
    ("wanted", "words"), [("cuda:3", r'"cuda:3" does not exist.*cuda:0, cuda:1, cuda:2, cpu'), ("cuda:0,cpu", "choose one kind")]
)
def test_devices_that_do_not_exist_or_do_not_mix_are_errors(three_gpus, wanted, words):
    with pytest.raises(DeviceError, match=words):
        choose_devices(wanted)


def test_a_gpu_on_a_machine_without_one_is_an_error_that_says_why(monkeypatch):
    monkeypatch.setattr(devices, "_driver_gpus", lambda: ())
    with pytest.raises(DeviceError, match="no NVIDIA GPU is visible"):
        choose_devices("cuda:0")


def test_a_torch_without_cuda_sees_no_gpu(three_gpus, monkeypatch):
    monkeypatch.setattr(devices, "torch_cuda_version", lambda: None)
    assert devices.find_gpus() == ()
    with pytest.raises(DeviceError, match="built without CUDA"):
        choose_devices("cuda:0")


def test_the_cuda_version_of_torch_is_read_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "version.py").write_text(
        "from typing import Optional\n__version__ = '2.11'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert devices.torch_cuda_version() == "12.8"
    (package / "version.py").write_text("cuda: Optional[str] = None\n")
    assert devices.torch_cuda_version() is None


def test_a_worker_sees_its_own_gpu_alone(setup):
    gpu = environment_of(setup, Slot(0, Device("cuda:1", "cuda", "Beta", "GPU-bbbb-2"), 4))
    assert gpu["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb-2"
    assert gpu["OMP_NUM_THREADS"] == gpu["MKL_NUM_THREADS"] == "4"
    assert (Path(gpu["PYTHONPATH"].split(os.pathsep)[-1]) / "gapbench").is_dir()
    assert environment_of(setup, Slot(0, Device("cpu", "cpu", ""), 1))["CUDA_VISIBLE_DEVICES"] == ""


def environment_of(setup: Setup, slot: Slot) -> dict[str, str]:
    """What a worker of this slot sees."""
    program = "import json, os, sys; sys.stdin.readline(); print(json.dumps({**os.environ}), flush=True)"
    executor = LocalProcesses((sys.executable, "-c", program))
    executor.start(slot, setup)
    (_, environment), (_, gone) = executor.receive(60.0), executor.receive(60.0)
    assert gone == Gone("", "")
    return environment
