"""Training a fixed effect: one model of all rows, by one process, or by several that share the rows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from gdmix_core.config.coordinate import FixedEffect
from gdmix_core.data.feature_summary import summarize_bag
from gdmix_core.data.frame import Frame
from gdmix_core.effects.bounds import limits_of
from gdmix_core.effects.linear.automatic_l2 import DENSE_LIMIT
from gdmix_core.effects.linear.fit import fit
from gdmix_core.effects.linear.posterior_variances import FULL_LIMIT
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import progress
from gdmix_core.workers.all_reduce import Alone
from gdmix_core.workers.checkpoint import Checkpoint
from gdmix_core.workers.cores import core_count
from gdmix_core.workers.group import Event, WorkerGroup, train_together

log = logging.getLogger(__name__)


def train(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Trains and scores the fixed effect; returns objective, iterations and whether it converged.

    A step that was killed goes on from its checkpoint.
    """
    return once(
        run,
        step,
        lambda: _train(run, step),
        before=lambda: check_settings(run, step.coordinate),
        after=lambda _: Checkpoint(run, step).remove(),
    )


def _train(run: Run, step: CoordinateStep) -> dict[str, Any]:
    result = _train_with_workers(run, step) if settings_of(run, step).workers > 1 else _train_alone(run, step)
    if result["unbounded"]:
        log.warning(
            "%s: the features separate the labels, so the model has no finite optimum; its coefficients would "
            "grow for ever. Set coordinates.%s.l2 above 0, or regularize_intercept: true",
            step.id, step.coordinate,
        )  # fmt: skip
    elif not result["converged"]:
        log.warning(
            "%s did not converge: gradient %.3g after %d iterations (goal %.3g): %s; %s",
            step.id, result["gradient"], result["iterations"], result["goal"], result["message"],
            _advice(run, step, result),
        )  # fmt: skip
    log.info(
        "%s: objective %.8g, %d iterations, gradient %.2g",
        step.id, result["objective"], result["iterations"], result["gradient"],
    )  # fmt: skip
    return result


def _advice(run: Run, step: CoordinateStep, result: dict[str, Any]) -> str:
    """What helps a model that did not converge."""
    key = f"coordinates.{step.coordinate}"
    unscaled = run.config.coordinates[step.coordinate].normalization == "none"
    if result["iterations"] >= settings_of(run, step).max_iterations:
        if unscaled and _sizes_differ(run, step.coordinate):
            return f"its features are of very different sizes: scale them with {key}.normalization: standard_deviation"
        return f"raise {key}.fixed_effect.max_iterations, or {key}.l2"
    if unscaled:
        return (
            "features of very different sizes do that: scale them with "
            f"{key}.normalization: standard_deviation (or max_magnitude)"
        )
    return f"raise {key}.fixed_effect.tolerance, or {key}.l2"


def _sizes_differ(run: Run, coordinate: str) -> bool:
    """Whether some feature is a thousand times as large as another, by the root of its mean square."""
    frame = Frame(run)
    bag = frame.bag_of(coordinate)
    if bag is None:
        return False
    summary = summarize_bag(frame, bag, core_count(run.config))
    sizes = np.sqrt(summary.variance + summary.mean**2)
    sizes = sizes[sizes > 0]
    return len(sizes) > 0 and float(sizes.max()) > 1e3 * float(sizes.min())


def settings_of(run: Run, step: CoordinateStep) -> FixedEffect:
    return run.config.coordinates[step.coordinate].linear


def _train_alone(run: Run, step: CoordinateStep) -> dict[str, Any]:
    report = progress.reporter()
    most = settings_of(run, step).max_iterations

    def on_iteration(number: int, objective: float) -> None:
        report(number, most, f"{step.id}: objective {objective:.6g}")

    rows = TrainingRows(run, step, rank=0, workers=1)
    return fit(run, step, rows, Alone(), threads=core_count(run.config), on_iteration=on_iteration)


def _train_with_workers(run: Run, step: CoordinateStep) -> dict[str, Any]:
    """Returns the outcome of `fit`. Raises StepError as train_together does."""
    effect = settings_of(run, step)
    report = progress.reporter()

    def on_event(event: Event) -> None:
        report(event["iteration"], effect.max_iterations, f"{step.id}: objective {event['objective']:.6g}")

    threads = max(1, core_count(run.config) // effect.workers)
    group = WorkerGroup(
        step.id,
        "gdmix_core.effects.linear.worker",
        ["--run", run.root, "--step", step.id, "--threads", str(threads)],
        {"worker": effect.workers},
        effect.restarts,
        # Every worker does the optimiser's vector arithmetic; with one thread all get the same bits.
        environment={"OPENBLAS_NUM_THREADS": "1"},
    )
    return train_together(group, on_event)


def check_settings(run: Run, name: str) -> None:
    """Raises ConfigError, before any row is read, for bounds that do not fit the features and for what takes too much
    memory with so many of them."""
    settings = run.config.coordinates[name]
    frame = Frame(run)
    features = frame.features_of(name)
    if settings.bounds:
        limits_of(name, settings, frame.feature_list_of(name))
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
