"""The arms table as tidy numbers: the columns of `arms.csv`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapbench.analysis.arms import ArmRow
    from gapbench.analysis.examples import ExampleInterval
    from gapbench.analysis.stats import Difference, Estimate, Ratio


def record(row: ArmRow) -> dict[str, Any]:
    """Returns one row of `arms.csv`. Accuracies and shares are fractions, `_pp` percentage points; missing values are None."""
    panel, cell, matched, published, gap = row.panel, row.cell, row.matched_loss, row.published, row.batch_gap
    seen = row.power.smallest_gap if row.power else None
    low, high = row.prediction or (None, None)
    clipped = cell.column("clipped_share_late")
    return {
        "dataset": panel.dataset,
        "dataset_options": panel.dataset_options,
        "model": panel.model,
        "model_options": panel.model_options,
        "recipe": panel.recipe,
        "preset": cell.preset,
        "cell": cell.name,
        "arm": cell.arm,
        "reference_cell": row.reference is cell,
        "reference": row.reference.name if row.reference else None,
        "batch_size": cell.batch_size,
        "regime": cell.regime,
        "ghost_batch_size": cell.ghost_batch_size,
        "optimizer": cell.optimizer,
        "precision": cell.precision,
        "learning_rate": cell.learning_rate,
        "learning_rate_rule": cell.learning_rate_rule,
        "planned_updates": cell.planned_updates,
        "planned_examples": cell.planned_examples,
        "n_ok": len(cell.ok_runs),
        "n_planned": len(cell.runs),
        "interval_over": "splits" if cell.split_drawn else "seeds of this split",
        **_estimate("test_accuracy", row.test_accuracy),
        **_estimate("test_loss", row.test_loss),
        **_estimate("train_accuracy", row.train_accuracy),
        **_estimate("train_loss", row.train_loss),
        **_estimate("train_test_gap_pp", row.train_test_gap_pp),
        **_difference("batch_gap_pp", row.batch_gap_pp),
        **_difference("batch_gap_nats", row.batch_gap_nats),
        "batch_gap_p_holm": row.p_holm,
        "batch_gap_method": gap.method if gap else None,
        "batch_gap_n": gap.n if gap else None,
        "batch_gap_degrees": gap.degrees if gap else None,
        "batch_gap_pp_error": row.batch_gap_pp.error if row.batch_gap_pp else None,
        "batch_gap_nats_error": row.batch_gap_nats.error if row.batch_gap_nats else None,
        **_examples(row.batch_gap_examples),
        "batch_gap_comparisons": row.power.comparisons if row.power else None,
        "batch_gap_chance_of_1_pp": row.power.chance if row.power else None,
        "batch_gap_pp_seen_with_80_percent": seen if row.batch_gap_pp else None,
        "batch_gap_nats_seen_with_80_percent": seen if row.batch_gap_nats else None,
        "batch_gap_budget": row.batch_gap_budget or None,
        "batch_gap_learning_rate": row.batch_gap_learning_rate or None,
        **_difference("matched_loss_gap_pp", matched.gap_pp if matched else None),
        "matched_loss": matched.train_loss if matched else None,
        "matched_loss_statistics": matched.statistics if matched else None,
        "matched_loss_reason": (matched.reason or None) if matched else None,
        "verdict": row.verdict,
        **_ratio("share_closed", row.share_closed),
        "share_baseline": row.share_baseline or None,
        "same_runs_as": row.same_runs_as or None,
        "published_test_accuracy": published.test_accuracy if published else None,
        "published_source": published.source if published else None,
        "prediction_low": low,
        "prediction_high": high,
        "published_inside": row.published_inside,
        "published_not_comparable": row.not_comparable,
        "clipped_share_late": sum(clipped.values()) / len(clipped) if clipped else None,
    }


def _estimate(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _difference(name: str, found: Difference | None) -> dict[str, float | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name.removesuffix('_pp')}_p": None}
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high, f"{name.removesuffix('_pp')}_p": found.p_value}


def _examples(found: ExampleInterval | None) -> dict[str, float | str | None]:
    return {
        "batch_gap_pp_examples_low": found.low if found else None,
        "batch_gap_pp_examples_high": found.high if found else None,
        "batch_gap_pp_examples_error": found.error if found else None,
        "batch_gap_examples": found.examples if found else None,
        "batch_gap_examples_reason": (found.reason or None) if found else None,
    }


def _ratio(name: str, ratio: Ratio | None) -> dict[str, float | None]:
    if ratio is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: ratio.estimate, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
