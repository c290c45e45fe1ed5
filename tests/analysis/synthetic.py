"""Synthetic pairs of tables (runs, curves) as a suite would leave them: one digits-like suite of arms, one grid. No training.

Draws come from the counter hash, so that golden files do not depend on a library's generator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gapbench.analysis import ArmRow, ArmsTable
from gapbench.core.hashing import permutation, stream
from gapbench.suite.plan import spec_of
from gapbench.suite.runspec import canonical_json, values_of

MLP = '{"bias":false,"norm":"batch","widths":[128,128,128]}'
MLP_WITHOUT_NORM = '{"bias":false,"norm":"none","widths":[128,128,128]}'


def noise(purpose: str, seed: int, index: int = 0) -> float:
    """Roughly standard normal: the sum of twelve uniforms minus 6."""
    draws = stream(seed, purpose).at(index, np.arange(12, dtype=np.int64))
    return float(np.sum(draws) / 2**32 - 6)


def run_row(cell: str, seed: int, **fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": f"{cell.lower().replace(' ', '-')}-s{seed}", "suite": "quickstart", "cell": cell, "cell_order": 0, "arm": cell,
        "reference_cell": False, "recipe": "digits", "preset": "paper", "dataset": "digits", "dataset_options": "{}",
        "model": "mlp", "model_options": MLP, "batch_size": 16, "regime": "baseline", "ghost_batch_size": None,
        "optimizer": "sgd", "precision": "fp32", "learning_rate": 0.1, "learning_rate_rule": "untouched", "budget": "epochs",
        "momentum_reset": "never",
        "seed": seed, "init_seed": seed, "order_seed": seed, "split_seed": seed, "split_drawn": True, "outcome": "ok", "reason": "",
        "test_accuracy": 0.97, "test_loss": 0.1, "train_accuracy": 1.0, "train_loss": 0.001,
        "validation_accuracy": None, "validation_loss": None, "updates": 1687, "planned_updates": 1687, "examples": 26992,
        "reference_batch_size": 16, "reference_updates": 1687, "train_examples": 900, "weight_distance": 19.0,
        "clipped_share": 0.0, "clipped_share_late": 0.0, "train_seconds": 2.0, "evaluation_seconds": 0.1, "other_seconds": 0.2,
        "peak_memory_mib": 200.0, "replicas": 1, "threads": 1, "device": "cpu", "device_name": "cpu", "program": "eager",
        "gapbench_version": "0.1.0", "torch_version": "2.11.0", "python_version": "3.11", "git_commit": "", "started_at": "",
        "test_correct": b"\xff", "values": None,
    }  # fmt: skip
    row.update(fields)
    row["examples"] = row["updates"] * row["batch_size"]
    effective = {name: row[name] for name in ("dataset", "model", "optimizer", "batch_size", "learning_rate")}
    row["values"] = row["values"] or json.dumps({**effective, "updates": row["planned_updates"]})  # at a constant rate
    return row


def effective(**fields: Any) -> dict[str, Any]:
    """The columns of a run that sets these fields of [run] and nothing else."""
    spec = spec_of(fields)
    assert spec is not None
    return {"values": canonical_json(values_of(spec)), "train_examples": spec.train_examples, "planned_updates": spec.updates}


def arms() -> dict[str, dict[str, Any]]:
    """The five arms of the paper in small and the controls; accuracies near those of the prototype."""
    large = {"batch_size": 512, "planned_updates": 52}
    sqrt = {"regime": "sqrt-lr", "learning_rate": 0.5657, "learning_rate_rule": "sqrt"}
    plain = {"model_options": MLP_WITHOUT_NORM}
    return {
        "SB": {"reference_cell": True, "test_accuracy": 0.9787, "test_loss": 0.085, "train_loss": 0.0010},
        "LB": {**large, "test_accuracy": 0.9620, "test_loss": 0.125, "train_loss": 0.0195},
        "LB+LR": {**large, **sqrt, "test_accuracy": 0.9690, "test_loss": 0.130, "train_loss": 0.0018},
        "LB+LR+GBN": {**large, **sqrt, "ghost_batch_size": 16, "test_accuracy": 0.9768, "test_loss": 0.092, "train_loss": 0.0025},
        "LB+LR+GBN+RA": {**large, **sqrt, "regime": "adapted", "budget": "updates", "planned_updates": 1687, "ghost_batch_size": 16,
                         "test_accuracy": 0.9861, "test_loss": 0.069, "train_loss": 0.0002},
        "SB+4x": {"regime": "baseline, 4x epochs", "planned_updates": 6748, "test_accuracy": 0.9831, "test_loss": 0.078,
                  "train_loss": 0.0004},
        "SB no norm": {**plain, "reference_cell": True, "test_accuracy": 0.9720, "test_loss": 0.11, "train_loss": 0.0011},
        "LB no norm": {**plain, **large, "test_accuracy": 0.9626, "test_loss": 0.14, "train_loss": 0.02},
    }  # fmt: skip


def digits_suite(seeds: int = 8, *, diverged: Iterable[tuple[str, int]] = (), missing: Iterable[tuple[str, int]] = (),
                 only: Iterable[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """The quickstart: eight arms in two panels, every seed with its own split (shared by all arms)."""
    rows, curves = [], []
    for order, (name, fields) in enumerate(arms().items()):
        if only is not None and name not in only:
            continue
        for seed in range(seeds):
            row = run_row(name, seed, cell_order=order, updates=fields.get("planned_updates", 1687), **fields)
            shared, own = 0.0030 * noise("split", seed), 0.0018 * noise(name, seed)
            row["test_accuracy"] = round((row["test_accuracy"] + shared + own) * 897) / 897
            row["test_correct"] = correct_bits(row, np.sort(permutation(stream(seed, "split"), 0, np.arange(1797))[900:]))
            row["test_loss"] *= 1 + 0.06 * noise(name + "loss", seed)
            row["train_loss"] *= 1 + 0.10 * noise(name + "train", seed)
            row["train_accuracy"] = 1.0 if row["train_loss"] < 0.01 else 0.998
            row["weight_distance"] = _distance(row)(row["planned_updates"])
            curves += curve_rows(row, stop=0.4 if (name, seed) in set(diverged) else 1.0 if (name, seed) not in set(missing) else 0.0)
            rows.append(unfinished(row, diverged, missing))
    return tables(rows, curves)


def preset_suite(
    seeds: int = 5, *, missing: Iterable[tuple[str, int]] = (), preset_cost: float = 0.02
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two arms in the presets paper and code, at one fixed split; of code also without its momentum reset, and at matched gain."""
    large = {"batch_size": 1024, "updates": 195, "planned_updates": 195, "reference_cell": False}
    never = {"regime": "baseline, no momentum reset", "preset": "code"}
    matched = {"regime": "baseline, rate at matched gain, no momentum reset", "preset": "code", "learning_rate_rule": "matched gain",
               "learning_rate": 0.04}  # fmt: skip
    cells: dict[str, dict[str, Any]] = {
        "SB, paper": {"arm": "SB", "reference_cell": True, "test_accuracy": 0.96},
        "SB, code": {"arm": "SB", "reference_cell": True, "preset": "code", "momentum_reset": "epoch", "test_accuracy": 0.96},
        "LB, paper": {"arm": "LB", **large, "test_accuracy": 0.92},
        "LB, code": {"arm": "LB", **large, "preset": "code", "momentum_reset": "epoch", "test_accuracy": 0.92 - preset_cost},
        "no reset, B 1024": {"arm": "no reset", **large, **never, "test_accuracy": 0.92},
        "no reset, matched gain, B 1024": {"arm": "no reset, matched gain", **large, **matched, "test_accuracy": 0.92 - preset_cost},
    }
    rows = []
    for order, (name, fields) in enumerate(cells.items()):
        for seed in range(seeds):
            row = run_row(name, seed, cell_order=order, split_drawn=False, split_seed=0, reference_batch_size=32, **fields)
            row["test_accuracy"] += 0.0015 * noise(name, seed)
            rows.append(unfinished(row, (), missing))
    return tables(rows, [])


def grid_suite(seeds: int = 3, batch_sizes: Iterable[int] = (128, 512, 2048, 4096)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A grid of batch sizes, regimes and ghost batch norm at one fixed split, as of CIFAR-10 with ResNet-44."""
    rows, curves, order = [], [], 0
    for batch_size in batch_sizes:
        for regime, rule in (("baseline", "untouched"), ("sqrt-lr", "sqrt"), ("adapted", "sqrt")):
            for ghost in (None, 128):
                if batch_size == 128 and (regime == "adapted" or ghost):
                    continue
                cell = f"B {batch_size}, {regime}" + (f", ghost {ghost}" if ghost else "")
                gap = 0.0135 * np.log2(batch_size / 128) * {"baseline": 1.0, "sqrt-lr": 0.6, "adapted": 0.2}[regime] * (0.7 if ghost else 1)
                for seed in range(seeds):
                    updates = 39062 if regime == "adapted" else 39062 * 128 // batch_size
                    row = run_row(
                        cell, seed, arm="", cell_order=order, batch_size=batch_size, regime=regime, ghost_batch_size=ghost,
                        reference_cell=batch_size == 128 and regime == "baseline", learning_rate_rule=rule, suite="cifar10",
                        learning_rate=0.1 * (batch_size / 128) ** 0.5 if rule == "sqrt" else 0.1, recipe="hoffer2017/resnet44-cifar10",
                        dataset="cifar10", model="resnet", model_options='{"depth":44}', updates=updates, planned_updates=updates,
                        reference_updates=39062, reference_batch_size=128, split_seed=0, split_drawn=False, train_examples=50000,
                        budget="updates" if regime == "adapted" else "epochs",
                    )  # fmt: skip
                    row["test_accuracy"] = 0.9283 - gap + 0.0022 * noise(cell, seed)
                    row["test_correct"] = correct_bits(row, np.arange(10000))
                    row["test_loss"] = 0.28 + 2 * gap + 0.006 * noise(cell + "loss", seed)
                    row["train_loss"] = 0.012 + 1.4 * gap + 0.001 * noise(cell + "train", seed)
                    row["train_accuracy"] = 0.998 - gap / 2
                    curves += curve_rows(row)
                    rows.append(row)
                order += 1
    return tables(rows, curves)


def correct_bits(row: Mapping[str, Any], examples: Any) -> bytes:
    """As many right test examples as the accuracy says: the easy ones, and easy is partly the example's nature, partly the network's."""
    nature, own = (stream(seed, name).at(0, np.asarray(examples)) for seed, name in ((0, "hardness"), (row["seed"], row["cell"])))
    hardest = np.argsort(2 * nature + own, kind="stable")[::-1]
    right = np.ones(len(examples), dtype=bool)
    right[hardest[: len(examples) - round(row["test_accuracy"] * len(examples))]] = False
    return np.packbits(right).tobytes()


def point(run_id: str, update: int, metric: str, value: float, *, batch_size: int = 16) -> dict[str, Any]:
    """One row of curves.parquet."""
    return {"run_id": run_id, "update": update, "examples": update * batch_size, "metric": metric, "layer": "", "value": value}


def curve_rows(row: Mapping[str, Any], stop: float = 1.0) -> list[dict[str, Any]]:
    """Weight distance at log-spaced updates; evaluations log-spaced early, then even, ending at the row's numbers."""
    last, seed = int(row["planned_updates"]), int(row["seed"])
    probed = np.unique(np.r_[np.geomspace(1, last, 12 * max(1, int(np.log10(last)))).round().astype(int), last])
    evaluated = np.unique(
        np.r_[np.geomspace(1, last, 12), np.linspace(0.1, 1, 10) * last, np.linspace(0.96, 1, 5) * last].round().astype(int)
    )
    out: list[dict[str, Any]] = []

    def add(update: int, metric: str, value: float) -> None:
        out.append(point(row["run_id"], update, metric, value, batch_size=row["batch_size"]))

    distance = _distance(row)
    for update in probed[probed <= stop * last].tolist():
        add(update, "weight_distance", distance(update))
        out.append({**out[-1], "layer": "0.weight", "value": out[-1]["value"] / 2})
    start = 2.3
    for update in evaluated[evaluated <= stop * last].tolist():
        part = np.log1p(update * 2) / np.log1p(last * 2)
        wiggle = 0.02 * (1 - update / last)
        train_loss = start * (row["train_loss"] / start) ** (part**1.6) * (1 + wiggle * noise(row["run_id"] + "tl", seed, update))
        error = 0.9 * ((1 - row["test_accuracy"]) / 0.9) ** min(1.0, 1.15 * part) * (1 + wiggle * noise(row["run_id"] + "ta", seed, update))
        for prefix, lag in (("recalibrated_", 0.0), ("", 0.3 * np.exp(-update / 20))):
            add(update, f"{prefix}train_loss", train_loss * (1 + 2 * lag))
            add(update, f"{prefix}test_accuracy", float(np.clip(1 - error * (1 + lag), 0.01, 1)))
            add(update, f"{prefix}test_loss", row["test_loss"] + (start - row["test_loss"]) * (1 - part))
            add(update, f"{prefix}train_accuracy", float(np.clip(1 - error * 0.7 * (1 - part), 0, 1)))
    return out


def _distance(row: Mapping[str, Any]) -> Any:
    rate = row["learning_rate"] / 0.1
    slope = 2.4 * rate**0.5 * (1 + 0.03 * noise(row["run_id"] + "walk", int(row["seed"])))
    return lambda update: slope * np.log1p(update * rate * 0.6) * (16 / row["batch_size"]) ** 0.08


def unfinished(row: dict[str, Any], diverged: Iterable[tuple[str, int]], missing: Iterable[tuple[str, int]]) -> dict[str, Any]:
    key = row["cell"], row["seed"]
    numbers = ["test_accuracy", "test_loss", "train_accuracy", "train_loss", "weight_distance", "clipped_share", "clipped_share_late"]
    if key in set(diverged):
        reason = "loss is not finite at update 20"
        return {**row, **dict.fromkeys(numbers), "outcome": "diverged", "reason": reason, "updates": 20, "test_correct": None}
    if key in set(missing):
        return {**row, **dict.fromkeys(numbers), "outcome": "skipped", "updates": None, "test_correct": None}
    return row


def tables(rows: list[dict[str, Any]], curves: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame(rows, columns=list(run_row("SB", 0)))
    runs = runs.astype({"ghost_batch_size": "Int64", "updates": "Int64"})
    return runs, pd.DataFrame(curves, columns=["run_id", "update", "examples", "metric", "layer", "value"])


def row_of(table: ArmsTable, name: str) -> ArmRow:
    return next(row for row in table.rows if row.cell.name == name)


def write(results: Path, runs: pd.DataFrame, curves: pd.DataFrame, *, schema: int = 1, report: Mapping[str, Any] | None = None) -> Path:
    """Writes the two tables as a results directory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    results.mkdir(parents=True, exist_ok=True)
    suite = str(runs["suite"].iloc[0]) if len(runs) else "empty"
    for name, frame in (("runs", runs), ("curves", curves)):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        own = json.dumps({"schema": schema, "suite": suite, "report": dict(report or {})}).encode()
        metadata = {**(table.schema.metadata or {}), b"gapbench": own}
        pq.write_table(table.replace_schema_metadata(metadata), results / f"{name}.parquet")
    return results
