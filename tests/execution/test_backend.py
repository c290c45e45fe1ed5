"""Torch is the worker's alone, which tells the engine how the runs train: pieces and compiling follow from the spec."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import torch

from gapbench import engine, sizing
from gapbench.core.errors import StoreError
from gapbench.execution.backend import TorchBackend
from gapbench.execution.executor import Setup
from gapbench.execution.worker import find_resumed
from gapbench.store import CheckpointHeader, RunDirectory, write_checkpoint
from gapbench.store.files import write_atomically
from gapbench.suite import load_suite


def train(setup: Setup, compiles: bool | None = None) -> None:
    backend = TorchBackend()
    backend._setup = setup
    specs = [run.spec for run in load_suite("quickstart", only="arm=SB").runs[:3]]
    backend.train(specs, emit=lambda event: None, stop=lambda: None, snapshots=None, checkpoint_seconds=60.0, compiles=compiles)


@pytest.mark.parametrize("compiles", [False, True])
def test_the_spec_decides_on_pieces_and_on_compiling(monkeypatch: pytest.MonkeyPatch, setup: Setup, compiles: bool) -> None:
    """Of a short job that stands for longer ones its order does."""
    asked = {}
    monkeypatch.setattr(
        sizing, "worth_compiling", lambda spec, *, replicas, device_kind: asked.update(ask=(replicas, device_kind)) or compiles
    )
    monkeypatch.setattr(sizing, "micro_batch_size", lambda spec, device_kind: 7)
    monkeypatch.setattr(engine, "train", lambda specs, pool, splits, **more: asked.update(more))
    train(setup)
    assert asked["ask"] == (3, "cpu")
    assert (asked["micro_batch_size"], asked["compiles"], asked["device"]) == (7, compiles, "cpu")
    train(setup, not compiles)
    assert asked["compiles"] is not compiles


def test_torch_gives_back_what_it_keeps_of_a_gpu(monkeypatch: pytest.MonkeyPatch, setup: Setup) -> None:
    freed = []
    monkeypatch.setattr(engine, "train", lambda *specs, **more: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("cuda"))
    train(setup)
    assert freed == []
    train(setup.model_copy(update={"device": "cuda:0"}))
    assert freed == ["cuda"]


def test_the_parent_imports_no_torch() -> None:
    code = "import sys, gapbench.execution.worker; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_disk_that_is_full_in_the_midst_of_a_checkpoint_is_refused_in_words(tmp_path):
    class Full:
        written = 0

        def write(self, content):
            if self.written > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written += len(content)
            return len(content)

        def flush(self):
            pass

    with pytest.raises(StoreError, match=r"checkpoint\.pt: cannot be written .No space"):
        write_atomically(tmp_path / "checkpoint.pt", lambda _file: TorchBackend().dump({"weights": torch.zeros(1000)}, Full()))


def test_a_flipped_bit_of_a_weight_makes_a_checkpoint_none(tmp_path):
    run = RunDirectory(tmp_path, "a")
    backend = TorchBackend()
    run.events_path.write_bytes(b"")
    header = CheckpointHeader(("a",), 7, (0,), 1.5)
    write_checkpoint(run.checkpoint_path, header, lambda file: backend.dump([{"weights": torch.ones(1000)}], file))
    assert find_resumed([run], [run], backend).update == 7
    content = bytearray(run.checkpoint_path.read_bytes())
    content[content.index(b"\x00\x00\x80\x3f" * 100) + 2] ^= 1
    run.checkpoint_path.write_bytes(content)
    assert find_resumed([run], [run], backend) is None
    assert "checksum" in run.log_path.read_text()
