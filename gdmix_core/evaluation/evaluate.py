"""The evaluation after a coordinate is trained: its scores brought together, and the metrics of the model so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.data.scores import ScoreSum, assemble
from gdmix_core.metrics.registry import Metric, parse_metric
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep, evaluate_id, latest_scores, train_id
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.workers.cores import core_count
from gdmix_core.workers.threads import Threads

if TYPE_CHECKING:
    from gdmix_core.metrics.all_rows import MetricValue

log = logging.getLogger(__name__)

_ROWS_AT_A_TIME = 1 << 18


def evaluate(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Write metrics.json; return {pass, coordinate, metrics: {split: {metric: value or null}}}.

    metrics.json also holds metrics that are matrices ({split: {metric: rows}}), how many groups counted, the λ of
    l2: auto, that was used and that the next pass starts from, and how far the pass moved the coordinate's scores.

    The model evaluated is the sum of every coordinate's latest scores, this one's among them, and the data's offset.
    """
    content = once(run, step, lambda: _evaluate(run, step), after=_log_metrics)
    return {key: content[key] for key in ("pass", "coordinate", "metrics")}


def _evaluate(run: Run, step: CoordinateStep) -> dict[str, Any]:
    assemble(run, run.plan.of_coordinate(train_id(step.pass_number, step.coordinate)))
    passes = latest_scores(run.config, step.pass_number, step.coordinate) | {step.coordinate: step.pass_number}
    # In the configuration's order, so that a sum of floats does not depend on which coordinate was trained last.
    passes = {name: passes[name] for name in run.config.coordinates if name in passes}
    frame = Frame(run)
    metrics = [parse_metric(name) for name in run.config.metrics]
    values: dict[str, dict[str, float | None]] = {}
    groups: dict[str, dict[str, dict[str, int]]] = {}
    matrices: dict[str, dict[str, list[list[float]]]] = {}
    moved: dict[str, float] | None = None
    for split in SPLITS:
        if frame.rows(split) == 0:
            continue
        margin = ScoreSum(run, passes, split).span(0, frame.rows(split))
        if margin.ndim == 1:
            margin += frame.column(split, "offset")
        if split == "training" and step.pass_number > 1:
            moved = _moved(run, step, float(np.std(margin)))
        found = measure(frame, split, margin, metrics, Threads(core_count(run.config)))
        values[split] = {name: one.value for name, one in found.items() if one.matrix is None}
        groups[split] = {
            name: {"counted": one.groups_counted, "left_out": one.groups_left_out or 0}
            for name, one in found.items()
            if one.groups_counted is not None
        }
        matrices[split] = {name: one.matrix for name, one in found.items() if one.matrix is not None}
    content = {"pass": step.pass_number, "coordinate": step.coordinate, "metrics": values, "groups": groups}
    if any(matrices.values()):
        content["matrices"] = matrices
    if moved is not None:
        content["moved"] = moved
    trained = run.result(train_id(step.pass_number, step.coordinate))
    if "l2" in trained:
        content["l2"] = trained["l2"]
    return content


def _moved(run: Run, step: CoordinateStep, spread: float) -> dict[str, float]:
    """Measure how far the pass moved the coordinate's scores of the training rows.

    spread: the margins' standard deviation. Returns {rms, largest} in the margin's unit, and {share}: rms by spread.
    """
    before, now = (
        storage.read_array(run.whole(run.scores(number, step.coordinate, "training"), made_by), memory_map=True)
        for number, made_by in (
            (step.pass_number - 1, evaluate_id(step.pass_number - 1, step.coordinate)),
            (step.pass_number, step.id),
        )
    )
    squares = largest = 0.0
    for first in range(0, len(now), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        difference = now[rows].astype(np.float64) - before[rows]
        squares += float(np.sum(difference * difference))
        largest = max(largest, float(np.max(np.abs(difference))))
    rms = math.sqrt(squares / max(1, now.size))
    return {"rms": rms, "largest": largest, "share": rms / spread if spread > 0.0 else 0.0}


def _log_metrics(result: dict[str, Any]) -> None:
    if "moved" in result:
        log.info(
            "pass %d, %s: the pass moved its scores by %.2g of the margins' spread",
            result["pass"], result["coordinate"], result["moved"]["share"],
        )  # fmt: skip
    for split, found in result["metrics"].items():
        text = " ".join(f"{name} {_number(value)}" for name, value in found.items())
        log.info("pass %d, %s, %s: %s", result["pass"], result["coordinate"], split, text)


def measure(
    frame: Frame, split: str, margin: NDArray[np.float64], metrics: Sequence[Metric], threads: Threads
) -> dict[str, MetricValue]:
    """Compute a split's metrics, by name. margin: float64 [rows] with offsets, or [rows, K] of K classes."""
    label, weight = labels(frame, split), frame.column(split, "weight")
    columns = dict.fromkeys(metric.column for metric in metrics if metric.column is not None)
    codes = {column: group_codes(frame, split, column) for column in columns}
    found: dict[str, MetricValue] = {}

    def evaluate_one(k: int) -> None:
        found[metrics[k].name] = metrics[k].evaluate(label, margin, weight, codes)

    threads.each(evaluate_one, len(metrics))
    return {metric.name: found[metric.name] for metric in metrics}


def labels(frame: Frame, split: str) -> NDArray[Any]:
    """Read the labels of a split: float64 [rows], or bool [rows, K] where any of K classes may apply to a row."""
    key = frame.manifest.get("label_bag")
    if key is None:
        return frame.column(split, "label")
    bag = frame.bag(split, key)
    applies = np.zeros((len(bag), frame.feature_count(key)), np.bool_)
    applies[bag.entry_rows, bag.indices] = bag.values > 0
    return applies


def group_codes(frame: Frame, split: str, column: str) -> NDArray[np.int64]:
    """Number the rows' groups: int64 [rows], 0 … groups − 1."""
    encoded = frame.ids(split, column).combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5f}"
