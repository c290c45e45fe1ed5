"""Triton's kernels of ghost batch norm without a GPU: under Triton's interpreter, and compiled for GPUs that are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from gapbench.layers import ghost_kernels
from gapbench.layers.ghost_kernels import MERGED, OPTIONS, SPLITS, TILE, tiling

ROOT = Path(__file__).resolve().parents[2]
STATIC = ("rows_per_split", "splits", "tile_rows", "tile_channels")


def test_under_the_interpreter_the_kernels_equal_the_definition(tmp_path):
    file = "tests/layers/interpreted_ghost_kernels.py"
    arguments = ["-q", "--noconftest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'interpreted'}", file]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    environment = {name: value for name, value in environment.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@given(rows=st.integers(2, 1 << 24), channels=st.integers(1, 4096))
def test_a_cut_covers_every_row_and_channel_and_fits_a_program(rows, channels):
    cut = tiling(rows, channels)
    for size in (cut.rows, cut.channels, cut.splits):
        assert size & (size - 1) == 0  # triton's blocks are powers of two
    assert cut.rows * cut.channels <= TILE
    assert cut.splits * cut.channels <= MERGED
    assert cut.splits <= SPLITS
    assert cut.rows_per_split % cut.rows == 0
    assert cut.splits * cut.rows_per_split >= rows
    assert cut.splits == 1 or (cut.splits // 2) * cut.rows_per_split < rows  # half of the splits would not do


@pytest.mark.parametrize("kernel", ["split_moments", "normalize_elements", "split_gradients", "input_gradients"])
@pytest.mark.parametrize(
    ("capability", "elements", "ones"),
    [(80, "*fp32", ()), (90, "*bf16", ()), (90, "*bf16", ("groups", "channels"))],  # a launch makes a constant of an argument that is 1
    ids=["sm_80 fp32", "sm_90 bf16", "sm_90 bf16, one group and channel"],
)
def test_the_kernels_compile_for_gpus_without_one(kernel, capability, elements, ones, monkeypatch, tmp_path):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(ghost_kernels, kernel)
    cut = tiling(128 * 32 * 32, 1 if "channels" in ones else 16)
    static = dict(zip(STATIC, (cut.rows_per_split, cut.splits, cut.rows, cut.channels), strict=True)) | {
        name: 1 for name in ones if name in function.arg_names
    }
    types = dict.fromkeys(("inputs", "outputs", "gradients", "results"), elements)
    types |= dict.fromkeys(("groups", "rows", "channels"), "i32") | {"epsilon": "fp32"}
    types |= dict.fromkeys(static, "constexpr")
    signature = {name: types.get(name, "*fp32") for name in function.arg_names}
    compiled = compile_kernel(ASTSource(function, signature, constexprs=static), target=GPUTarget("cuda", capability, 32), options=OPTIONS)
    assert ".entry" in compiled.asm["ptx"]
    assert "atom." not in compiled.asm["ptx"]  # sums in any order would give other bits every time
