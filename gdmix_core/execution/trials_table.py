"""The output of a search on the screen: a line for each trial as it is made, and a table of all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from gdmix_core.config.search_space import searched, shown_name, shown_values, trial_count, trials_of_round
from gdmix_core.evaluation.selection import deciding_split
from gdmix_core.execution.dispatch import execute
from gdmix_core.metrics.registry import parse_metric, shown_value
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.search.trials import finished_trials, make_trials


def make_round(run: Run, step: Step, show: Callable[..., None], console: Console) -> None:
    """Make a round's trials one after another.

    show: called with every step of a trial and the keyword `within`, the trial's name.
    """
    count = trial_count(run.config)
    for number in trials_of_round(run.config, step.settings["round"]):
        name = f"trial {number} of {count}"
        result = make_trials(run, step, execute, only=number, on_step=partial(show, within=name))
        start = f", from trial {result['start']}" if result["start"] else ""
        values = shown_values({path: result["parameters"][path] for path in searched(run.config)})
        found = f"{result['metric']} {shown_value(result['value'])} (pass {result['pass']}{start})"
        console.print(f"{name}: {values}: {found}", highlight=False, soft_wrap=True)


def trials_table(run: Run) -> Table:
    """Return a table of the trials that are done: their parameters and the metrics of their best passes."""
    split = deciding_split(run)
    table = Table(title=f"{run.config.name}: {split} metrics of the trials")
    table.add_column("trial", justify="right")
    paths = list(searched(run.config))
    for path in paths:
        table.add_column(shown_name(path), justify="right", overflow="fold")
    table.add_column("pass", justify="right")
    for name in run.config.numeric_metrics:
        table.add_column(f"{name} {parse_metric(name).arrow}", justify="right")
    best: dict[str, Any] = run.result("select") if run.is_done(run.plan["select"]) else {}
    for result in finished_trials(run):
        chosen = result["trial"] == best.get("trial")
        metrics = result["metrics"][split]
        table.add_row(
            f"★ {result['trial']}" if chosen else str(result["trial"]),
            *(f"{result['parameters'][path]:.6g}" for path in paths),
            str(result["pass"]),
            *(shown_value(metrics[name]) for name in run.config.numeric_metrics),
            style="bold" if chosen else None,
        )
    if best:
        table.caption = f"★ best by {best['metric']}: trial {best['trial']}, pass {best['pass']}, exported"
    return table
