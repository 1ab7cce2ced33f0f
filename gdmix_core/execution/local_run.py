"""`gdmix run`: the plan's steps one after another in this process, with progress to look at and a table at the end."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.validation import report_path
from gdmix_core.evaluation.selection import deciding_split, evaluated
from gdmix_core.execution import dispatch, file_digests, preflight, spark_submit
from gdmix_core.execution.trials_table import make_round, trials_table
from gdmix_core.metrics.registry import parse_metric, shown_value
from gdmix_core.models.initial import newest_run
from gdmix_core.pipeline import run_directory, run_lock
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.report.page import try_to_write_report
from gdmix_core.workers import processes, progress
from gdmix_core.workers.log_lines import step_line

log = logging.getLogger(__name__)


def run_pipeline(config: Config, console: Console) -> Run:
    """Run, or resume, a whole pipeline; steps that are done are skipped.

    Parameters
    ----------
    config
        The pipeline; its `output` is the run's directory.
    console
        What shows progress and the table of metrics.

    Returns
    -------
    Run
        The run, finished.

    Raises
    ------
    GdmixError
        When a step cannot be done, or the directory is not this pipeline's.
    """
    with begun(config) as run:
        _walk(run, console)
    return run


@contextmanager
def begun(config: Config) -> Iterator[Run]:
    """The run in config.output, held by this process alone.

    Nothing of an earlier run there is changed when this one cannot start. Raises GdmixError: for a directory that is
    not this pipeline's, for what the run lacks, and when another process works in it.
    """
    run_directory.check(config)
    preflight.check(config)
    with run_lock.whole_run(run_directory.claim(config)):
        yield Run.create(config)


def _walk(run: Run, console: Console) -> None:
    began = time.monotonic()
    skipped: set[int] = set()
    with _display(console) as show:
        for step in run.plan.steps:
            if step.pass_number in skipped:
                continue
            if step.kind != "trials":
                show(step)
            if step.kind in dispatch.DATA_STEPS:
                # Spark goes on with the next in the same JVM, which takes a dozen seconds to start.
                carry_out_data_step(run, step, then=run.plan["partition"] if step.kind == "validate" else None)
            elif step.kind == "trials":
                make_round(run, step, show, console)
            else:
                result = dispatch.execute(run, step)
                if step.kind == "gate" and not result["continue"]:
                    skipped |= set(range(step.pass_number or 0, run.plan.passes + 1))
                    console.print(f"no further pass: {result['reason']}", style="dim")
    console.print(metrics_table(run))
    console.print(f"run directory: [bold]{run.root}[/bold]   ({time.monotonic() - began:.1f} s)", soft_wrap=True)
    if path := try_to_write_report(run):
        console.print(f"report: {path}", soft_wrap=True, highlight=False)


def carry_out_data_step(run: Run, step: Step, then: Step | None = None) -> None:
    """Validates or partitions, with the engine that the configuration says.

    then: a step that a Spark application carries out, too
    """
    if step.kind == "validate":
        newest_run.record(run)
        file_digests.record(run)
    if run.config.data_engine == "spark":
        submit(run, step, then)
    else:
        dispatch.execute(run, step)


def submit(run: Run, step: Step, then: Step | None = None) -> None:
    """Runs a Spark step, and one more, in a process of its own.

    Raises the error it reported, or StepError with its last lines.
    """
    if spark_submit.is_current(run, step):
        return
    spark_submit.check_java()
    steps = [step] if then is None else [step, then]
    for one in steps:
        spark_submit.forget_reported(run, one)
    done = subprocess.run(
        spark_submit.command(run, *steps),
        env=spark_submit.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        preexec_fn=processes.end_with_parent,
    )
    if done.returncode != 0:
        spark_submit.raise_reported(run, steps, spark_submit.reason(done.stdout + done.stderr))
    run.forget_input()  # the application has listed it by itself
    if step.kind == "validate":  # what the application said of it is not shown
        for warning in storage.read_json(report_path(run)).get("warnings", []):
            log.warning("%s", warning)


def metrics_table(run: Run) -> Table:
    """Validation metrics (training ones without a validation split) after every coordinate of every pass, or of every
    trial of a search."""
    if run.plan.rounds:
        return trials_table(run)
    split = deciding_split(run)
    table = Table(title=f"{run.config.name}: {split} metrics")
    table.add_column("pass", justify="right")
    table.add_column("coordinate")
    for name in run.config.numeric_metrics:
        table.add_column(f"{name} {parse_metric(name).arrow}", justify="right", overflow="fold")
    has_moved = run.plan.passes > 1
    if has_moved:
        table.add_column("moved", justify="right")
    automatic = any(coordinate.automatic is not None for coordinate in run.config.coordinates.values())
    if automatic:
        table.add_column("λ by auto")
    best: dict[str, Any] = run.result("select") if storage.exists(run.path("best.json")) else {}
    for number, name, last, result in evaluated(run):
        values = result["metrics"][split]
        cells = [shown_value(values[metric]) for metric in run.config.numeric_metrics]
        if has_moved:
            cells.append(f"{result['moved']['share']:.1g}" if "moved" in result else "")
        if automatic:
            cells.append(_shown_l2(result.get("l2")))
        chosen = last and number == best.get("pass")
        marked = f"{name} ★" if chosen else name
        table.add_row(str(number), marked, *cells, style="bold" if chosen else None, end_section=last)
    if best:
        table.caption = f"★ best by {best['metric']}: pass {best['pass']}{', exported' if _is_exported(run) else ''}"
    return table


def _is_exported(run: Run) -> bool:
    return run.trial is None and run.is_done(run.plan["export"])


def _shown_l2(l2: dict[str, Any] | None) -> str:
    return (
        "" if l2 is None else "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in l2["used"].items())
    )


@contextmanager
def _display(console: Console) -> Iterator[Any]:
    """A line that says which step runs, with a bar where the step reports how far it is."""
    if not console.is_terminal:
        yield lambda step, within="": console.print(step_line(_name(step.id, within)))
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        inside = ""

        def show(step: Step, within: str = "") -> None:
            nonlocal inside
            inside = within
            bars.reset(task, description=_name(step.id, within), total=None)

        def advance(done: int, total: int, what: str) -> None:
            bars.update(task, completed=done, total=total, description=_name(what, inside))

        progress.listen(advance)
        processes.show_lines(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        try:
            yield show
        finally:
            processes.show_lines(None)
            progress.listen(None)


def _name(step: str, within: str) -> str:
    """A step's name on the screen; within: the trial it is a step of, if any."""
    return f"{within}: {step}" if within else step
