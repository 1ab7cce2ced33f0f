"""The selection of the best trial of a search."""

from __future__ import annotations

import logging
from typing import Any

from gdmix_core.config.search_space import shown_values
from gdmix_core.errors import StepError
from gdmix_core.evaluation.selection import best_of, has_validation
from gdmix_core.metrics.registry import parse_metric
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.search.trials import finished_trials, open_trial

log = logging.getLogger(__name__)


def select_trial(run: Run, step: Step) -> dict[str, Any]:
    """Write best.json: the trial with the best primary metric (the first of equals) and what all others gave.

    Returns {trial, parameters, pass, metric, value, metrics}. Raises StepError when a round is missing, or when the
    metric is undefined in every trial.
    """
    run.require(step)
    trials = finished_trials(run)
    metric = parse_metric(run.config.primary_metric)
    best = trials[best_of([trial["value"] for trial in trials], metric)]
    if best["value"] is None:
        raise StepError(
            f"{run.root}: {metric.name} is undefined in all {len(trials)} trials, so none is the best; "
            "put another metric first, or see the input's report for what its rows lack"
        )
    if not has_validation(run):
        log.warning(
            "no validation data: the best trial was chosen by %s of the rows it was trained on, which favours weak "
            "penalties; give the input a validation split", metric.name,
        )  # fmt: skip
    chosen = {key: best[key] for key in ("trial", "parameters", "pass", "metric", "value", "metrics")}
    others = [{key: trial[key] for key in ("trial", "parameters", "pass", "value")} for trial in trials]
    run.commit(step, chosen | {"trials": others})
    log.info("best of %d: trial %d (%s)", len(trials), best["trial"], shown_values(best["parameters"]))
    return chosen


def selected_run(run: Run) -> Run:
    """Open the run whose pass select has chosen: the best trial's, or the run itself where nothing is searched."""
    best = run.result("select")
    return open_trial(run, best["trial"], best["parameters"]) if run.plan.rounds else run
