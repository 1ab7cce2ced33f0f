"""Training a fixed effect: one model of all rows, by one process, or by several that share the rows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from gdmix_core.config.coordinate import FixedEffect
from gdmix_core.data.feature_summary import summarize_bag
from gdmix_core.effects.bounds import limits_of
from gdmix_core.effects.linear.automatic_l2 import DENSE_LIMIT
from gdmix_core.effects.linear.fit import fit
from gdmix_core.effects.linear.posterior_variances import FULL_LIMIT
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.errors import ConfigError
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import progress
from gdmix_core.workers.all_reduce import SingleWorker
from gdmix_core.workers.checkpoint import IterateCheckpoint
from gdmix_core.workers.group import Event, WorkerGroup, train_together

log = logging.getLogger(__name__)


def train(context: TrainingContext) -> dict[str, Any]:
    """Train and score the fixed effect; return objective, iterations and whether it converged.

    A step that was killed resumes from its checkpoint.
    """
    return context.once(
        lambda: _train(context),
        before=lambda: check_settings(context),
        after=lambda _: IterateCheckpoint(context.folder("checkpoint"), context.key).remove(),
    )


def _train(context: TrainingContext) -> dict[str, Any]:
    result = _train_with_workers(context) if settings_of(context).workers > 1 else _train_alone(context)
    if result["unbounded"]:
        log.warning(
            "%s: the features separate the labels, so the model has no finite optimum; its coefficients would "
            "grow for ever. Set coordinates.%s.l2 above 0, or regularize_intercept: true",
            context.id, context.name,
        )  # fmt: skip
    elif not result["converged"]:
        log.warning(
            "%s did not converge: gradient %.3g after %d iterations (goal %.3g): %s; %s",
            context.id, result["gradient"], result["iterations"], result["goal"], result["message"],
            _advice(context, result),
        )  # fmt: skip
    log.info(
        "%s: objective %.8g, %d iterations, gradient %.2g",
        context.id, result["objective"], result["iterations"], result["gradient"],
    )  # fmt: skip
    return result


def _advice(context: TrainingContext, result: dict[str, Any]) -> str:
    """Return advice for a model that did not converge."""
    key = f"coordinates.{context.name}"
    unscaled = context.settings.normalization == "none"
    if result["iterations"] >= settings_of(context).max_iterations:
        if unscaled and _sizes_differ(context):
            return f"its features are of very different sizes: scale them with {key}.normalization: standard_deviation"
        return f"raise {key}.fixed_effect.max_iterations, or {key}.l2"
    if unscaled:
        return (
            "features of very different sizes do that: scale them with "
            f"{key}.normalization: standard_deviation (or max_magnitude)"
        )
    return f"raise {key}.fixed_effect.tolerance, or {key}.l2"


def _sizes_differ(context: TrainingContext) -> bool:
    """Check whether some feature's root mean square is a thousand times as large as another's."""
    frame = context.frame
    bag = frame.bag_of(context.name)
    if bag is None:
        return False
    summary = summarize_bag(frame, bag, context.cores)
    sizes = np.sqrt(summary.variance + summary.mean**2)
    sizes = sizes[sizes > 0]
    return len(sizes) > 0 and float(sizes.max()) > 1e3 * float(sizes.min())


def settings_of(context: TrainingContext) -> FixedEffect:
    return context.settings.linear


def _train_alone(context: TrainingContext) -> dict[str, Any]:
    report = progress.reporter()
    most = settings_of(context).max_iterations

    def on_iteration(number: int, objective: float) -> None:
        report(number, most, f"{context.id}: objective {objective:.6g}")

    rows = TrainingRows(context, rank=0, workers=1, threads=context.cores)
    return fit(context, rows, SingleWorker(), on_iteration=on_iteration)


def _train_with_workers(context: TrainingContext) -> dict[str, Any]:
    """Return the outcome of `fit`. Raises StepError as train_together does."""
    effect = settings_of(context)
    report = progress.reporter()

    def on_event(event: Event) -> None:
        report(event["iteration"], effect.max_iterations, f"{context.id}: objective {event['objective']:.6g}")

    threads = max(1, context.cores // effect.workers)
    group = WorkerGroup(
        context.id,
        "gdmix_core.effects.linear.worker",
        ["--run", context.run.root, "--step", context.id, "--threads", str(threads)],
        {"worker": effect.workers},
        effect.restarts,
        # Every worker does the optimiser's vector arithmetic; with one thread all get the same bits.
        environment={"OPENBLAS_NUM_THREADS": "1"},
    )
    return train_together(group, on_event)


def check_settings(context: TrainingContext) -> None:
    """Raise ConfigError, before any row is read, for bounds that do not fit the features and for what takes too much
    memory with so many of them."""
    settings, features, name = context.settings, context.features, context.name
    if settings.bounds:
        limits_of(name, settings, context.frame.feature_list_of(name))
    if settings.variances == "full" and features > FULL_LIMIT:
        raise ConfigError(
            f"coordinate {name}: variances: full needs the inverse of a {features} x {features} matrix; up to "
            f"{FULL_LIMIT} features can have it. Use variances: simple"
        )
    if settings.automatic is not None and settings.automatic.auto == "feature" and features > DENSE_LIMIT:
        raise ConfigError(
            f"coordinate {name}: l2: {{auto: feature}} needs the inverse of a {features} x {features} matrix; up to "
            f"{DENSE_LIMIT} features can have it. Use {{auto: intercept_slopes}}"
        )
