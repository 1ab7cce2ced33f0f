"""The trials of a search: each is a run of its own in <run>/trials, with the search's frame and shards."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gdmix_core.config.model import leniently
from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import (
    Candidates,
    Values,
    on_a_log_scale,
    searched,
    shown_values,
    trials_of_round,
    with_values,
)
from gdmix_core.config.tune import Range
from gdmix_core.errors import StepError
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.search.proposals import TrialResult, propose
from gdmix_core.system_errors import as_user_error

log = logging.getLogger(__name__)

OnStep = Callable[[Step], None]
Execute = Callable[[Run, Step], dict[str, Any]]
Result = dict[str, Any]


def _log_step(step: Step) -> None:
    log.info("step %s", step.id)


def make_trials(
    run: Run, step: Step, execute: Execute, *, only: int | None = None, on_step: OnStep = _log_step
) -> dict[str, Any]:
    """Make the trials of a round that are not done, one after another.

    execute: carries out a step of a trial; on_step: is told of every step before it; only: the number of one trial.
    Returns {round, trials}, or with `only` the one trial's {trial, parameters, start, pass, metric, value, metrics}.
    The round's marker is written when no trial is missing. Raises what a step raises, with the trial's number and
    parameters before the message.
    """
    run.require(step)
    number_of_round = step.settings["round"]
    if not run.is_done(step):
        for number, values in proposals(run, step).items():
            if only in (None, number):
                _make(run, step, number, values, execute, on_step)
        results = list(results_of_round(run, step))
        if len(results) < len(trials_of_round(run.config, number_of_round)):
            return _one(results, only, step)
        run.commit(step, {"round": number_of_round, "trials": results})
    results = run.result(step.id)["trials"]
    return {"round": number_of_round, "trials": results} if only is None else _one(results, only, step)


def proposals(run: Run, step: Step) -> dict[int, dict[str, float]]:
    """Propose the values of the round's trials, by their numbers. The rounds before it must be done."""
    before = [TrialResult(result["parameters"], result["value"]) for result in _results_before(run, step)]
    return propose(run.config, step.settings["round"], before)


def open_trial(run: Run, number: int, values: Values, before: Sequence[Result] = ()) -> Run:
    """Open the trial's run, whether it was begun or not; nothing is written.

    before: the results of earlier rounds, from the nearest of which it starts
    """
    root = run.trial_root(number)
    with leniently():
        config = with_values(run.config, values, root)
    start = nearest_trial(run.config, values, before)
    return Run(root, config, trial={"number": number, "parameters": dict(values), "start": start})


def results_of_round(run: Run, step: Step) -> Iterator[Result]:
    """Read the results of a round's trials as far as they are done; the rounds before it must be done."""
    if run.is_done(step):
        yield from run.result(step.id)["trials"]
        return
    for number, values in proposals(run, step).items():
        trial = open_trial(run, number, values, _results_before(run, step))
        if trial.is_done(trial.plan["select"]):
            yield _result(trial)


def finished_trials(run: Run) -> list[Result]:
    """Read the results of all trials that are done, in their order."""
    results: list[Result] = []
    for step in run.plan.rounds:
        results += results_of_round(run, step)
        if not run.is_done(step):
            break
    return results


def nearest_trial(config: Config, values: Values, results: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """Find {trial, pass} of the finished trial whose parameters are nearest, the first of equals; None without any.

    The distance is a sum of squares: of decades where a parameter is searched on a logarithmic scale, else of
    differences relative to the width of its candidates.
    """
    if not results:
        return None
    parameters = searched(config)

    def distance(result: Mapping[str, Any]) -> float:
        differences = [
            _position(path, candidates, values[path]) - _position(path, candidates, result["parameters"][path])
            for path, candidates in parameters.items()
        ]
        # Rounded, so that in a grid equal steps to either side are equal.
        return round(math.fsum(difference**2 for difference in differences), 9)

    nearest = min(results, key=lambda result: (distance(result), result["trial"]))
    return {"trial": nearest["trial"], "pass": nearest["pass"]}


def _position(path: str, candidates: Candidates, value: float) -> float:
    if on_a_log_scale(path, candidates):
        return math.log10(value)
    ends = [candidates.low, candidates.high] if isinstance(candidates, Range) else candidates
    low, high = min(ends), max(ends)
    return (value - low) / (high - low) if low < high else 0.0


def _make(run: Run, step: Step, number: int, values: Values, execute: Execute, on_step: OnStep) -> None:
    trial = open_trial(run, number, values, _results_before(run, step))
    name = f"trial {number} ({shown_values(values)})"
    if trial.is_done(trial.plan["select"]):
        log.info("%s is done already", name)
        return
    start = (trial.trial or {})["start"]
    log.info("%s begins%s", name, f", from trial {start['trial']}" if start else "")
    try:
        _make_passes(Run.create(trial.config, trial=trial.trial), execute, on_step)
    except Exception as error:
        found = as_user_error(error) or StepError(f"{type(error).__name__}: {error}")
        raise type(found)(f"{name}: {found}") from error


def _make_passes(trial: Run, execute: Execute, on_step: OnStep) -> None:
    steps = [step for number in range(1, trial.plan.passes + 1) for step in trial.plan.of_pass(number)]
    for step in steps:
        on_step(step)
        result = execute(trial, step)
        if step.kind == "gate" and not result["continue"]:
            break
    on_step(trial.plan["select"])
    execute(trial, trial.plan["select"])


def _result(trial: Run) -> Result:
    """Read the recorded result of a trial that is done."""
    made, best = trial.trial or {}, trial.result("select")
    return {
        "trial": made["number"],
        "parameters": made["parameters"],
        "start": made["start"] and made["start"]["trial"],
        **{key: best[key] for key in ("pass", "metric", "value", "metrics")},
    }


def _results_before(run: Run, step: Step) -> list[Result]:
    return [result for read in step.reads if run.plan[read].kind == "trials" for result in run.result(read)["trials"]]


def _one(results: list[Result], only: int | None, step: Step) -> Result:
    for result in results:
        if result["trial"] == only:
            return result
    raise StepError(f"{step.id} has no trial {only}")
