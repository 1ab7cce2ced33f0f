"""The selection of the best pass, and the decision whether another pass pays."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from gdmix_core.errors import DataError, StepError
from gdmix_core.metrics.registry import Metric, parse_metric
from gdmix_core.pipeline.plan import Step, evaluate_id, order_of_pass, trained
from gdmix_core.pipeline.run import Run

log = logging.getLogger(__name__)

_AT_REST = 1e-3  # of the margins' spread: coefficients of a run that ends with less are near their joint optimum


def gate(run: Run, step: Step) -> dict[str, Any]:
    """Decide whether the gate of a pass lets it run: {continue, reason}.

    It does not when the pass before improved the primary validation metric by less than passes.min_delta over the best
    before that, or, at a min_delta of 0, not at all. A min_delta below 0 bears a loss of that size. Without validation
    data it does not when the pass before moved no coordinate's scores by more than passes.tolerance. With a min_delta
    of none all passes run. The first two passes always run: one alone has nothing to be compared with.
    """
    assert step.pass_number is not None
    run.require(step)
    proceed, reason = _continues(run, primary_values(run, step.pass_number - 1))
    log.info("%s: %s: %s", step.id, "go on" if proceed else "stop", reason)
    return {"continue": proceed, "reason": reason}


def _continues(run: Run, values: list[float | None]) -> tuple[bool, str]:
    """Decide whether another pass pays after passes with these values, and say why."""
    metric, least = parse_metric(run.config.primary_metric), run.config.passes.min_delta
    if least == "none":
        return True, "passes.min_delta is none: all passes are made"
    if len(values) < 2:
        return True, "no earlier pass to compare with"
    if not has_validation(run):
        share = moved(run, len(values))
        if share is None:
            return True, "no validation data"
        said = f"no validation data, and pass {len(values)} moved the scores by {share:.2g} of the margins' spread"
        return share > run.config.passes.tolerance, f"{said} (passes.tolerance {run.config.passes.tolerance:g})"
    last, before = values[-1], values[best_of(values[:-1], metric)]
    if last is None or before is None:
        return True, f"{metric.name} is undefined"
    gain = last - before if metric.higher_is_better else before - last
    enough = gain >= least and (gain > 0 or least < 0)
    return enough, f"pass {len(values)} improved {metric.name} by {gain:.6f} (min_delta {least:g})"


def select(run: Run, step: Step) -> dict[str, Any]:
    """Write best.json: the pass with the best primary validation metric (the first of equals).

    Without validation data it is the last one. Raises StepError when a pass is not complete that no gate has stopped.
    """
    values = primary_values(run, run.plan.passes)
    if not values:
        raise StepError(f"{run.root}: no pass is complete; run the passes first")
    if len(values) < run.plan.passes and _continues(run, values)[0]:
        raise StepError(
            f"{run.root}: pass {len(values) + 1} of {run.plan.passes} is missing or out of date, and no gate has "
            "stopped before it; run it first"
        )
    metric = parse_metric(run.config.primary_metric)
    best = best_of(values, metric) + 1 if has_validation(run) else len(values)
    value = values[best - 1]
    # Of a search all trials count: it says so itself where none of them has a value.
    if value is None and run.trial is None and run.config.checks.uninformative == "fail":
        raise DataError(
            f"{metric.name}, which chooses among the passes, is undefined in all of them on the {deciding_split(run)} "
            "rows (labels of one class, in all or in every group, have none); correct these rows, name another metric "
            "first, or set checks.uninformative: allow"
        )
    metrics = run.result(evaluate_id(best, trained(run.config)[-1]))["metrics"]
    content = {"pass": best, "metric": metric.name, "value": value, "passes": len(values), "metrics": metrics}
    log.info("best of %d passes: pass %d with %s %s", len(values), best, metric.name, value)
    _say_what_still_moves(run, len(values))
    run.commit(step, content)
    return content


def moved(run: Run, number: int) -> float | None:
    """Return the share of the margins' spread by which a pass moved the coordinate that it moved most; None for the
    first, which has nothing to be compared with."""
    steps = [run.plan[evaluate_id(number, name)] for name in trained(run.config)]
    if not all(run.is_done(step) for step in steps):
        return None
    found = [run.result(step.id).get("moved") for step in steps]
    return max(one["share"] for one in found if one) if all(found) else None


def _say_what_still_moves(run: Run, number: int) -> None:
    """Tell how far the last pass moved the scores: a warning where no validation metric says that it is good enough."""
    share = moved(run, number)
    if share is None or share <= _AT_REST:
        return
    log.log(
        logging.INFO if has_validation(run) else logging.WARNING,
        "pass %d, the last one, still moved scores by %.2g of the margins' spread: coefficients are not yet those of "
        "the joint optimum; raise passes.max to come nearer",
        number, share,
    )  # fmt: skip


def primary_values(run: Run, upto: int) -> list[float | None]:
    """Read the primary metric after each complete, current pass 1 … upto.

    It stops at the first that is not, and where a gate does: passes on disk that another min_delta let run are not a
    part of this run.
    """
    last = trained(run.config)[-1]
    split = deciding_split(run)
    values: list[float | None] = []
    for number in range(1, upto + 1):
        step = run.plan[evaluate_id(number, last)]
        if not run.is_done(step) or not _continues(run, values)[0]:
            break
        values.append(run.result(step.id)["metrics"][split][run.config.primary_metric])
    return values


def evaluated(run: Run) -> Iterator[tuple[int, str, bool, dict[str, Any]]]:
    """Read (pass, coordinate, whether it ends the pass, metrics.json) after every coordinate of every complete,
    current pass, in order."""
    for number in range(1, len(primary_values(run, run.plan.passes)) + 1):
        names = order_of_pass(run.config, number)
        for name in names:
            yield number, name, name == names[-1], run.result(evaluate_id(number, name))


def best_of(values: Sequence[float | None], metric: Metric) -> int:
    """Find the position of the best value, the first of equals; one that is undefined is worse than any other."""
    best = 0
    for position in range(1, len(values)):
        if metric.better(values[position], values[best]):
            best = position
    return best


def deciding_split(run: Run) -> str:
    """Name the split whose metrics choose, and are shown."""
    return "validation" if has_validation(run) else "training"


def has_validation(run: Run) -> bool:
    """Look for validation rows, which then choose; without any, training rows do."""
    return bool(run.result("validate")["splits"]["validation"]["rows"])
