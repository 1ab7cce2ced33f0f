"""The common part of both Spark applications: their argument, and how an error reaches whoever submitted them."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator

from pyspark.errors import PySparkException

from gdmix_core.data.engines.interface import DataEngine
from gdmix_core.data.ingest.validate import validate
from gdmix_core.data.partition import partition
from gdmix_core.errors import ConfigError, DataError, GdmixError, StepError, StorageError
from gdmix_core.execution import spark_submit
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import log_lines, processes
from spark_jobs.spark_engine import SparkEngine

log = logging.getLogger("gdmix_core.spark")


_STEPS: dict[str, Callable[[Run, Step, DataEngine], object]] = {"validate": validate, "partition": partition}


def main(step_id: str) -> None:
    """Entry point: `--run ROOT`. Exit code 0 when the step is done, 1 with one clear message when it cannot be."""
    parser = argparse.ArgumentParser(description=f"Step {step_id} of a pipeline run, as a Spark application.")
    parser.add_argument("--run", required=True, help="run directory or URL, with its config.yaml")
    parser.add_argument(spark_submit.THEN, choices=list(_STEPS), help="the step to go on with in the same session")
    arguments = parser.parse_args()
    log_lines.to_standard_error(logging.INFO)
    if os.environ.get(spark_submit.TIED):
        processes.end_with_parent()
        if os.getppid() == 1:  # it had ended before
            sys.exit(1)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    current = step_id
    try:
        run = Run.open(arguments.run)
        with SparkEngine(f"gdmix {step_id} {run.config.name}") as engine:
            for current in filter(None, (step_id, arguments.then)):
                # This process holds its step itself: it may outlive whoever submitted it.
                with (
                    spark_submit.reporting_errors(run, current),
                    _workers_errors(),
                    run_lock.step(run.root, current),
                ):
                    _STEPS[current](run, run.plan[current], engine)
    except GdmixError as error:
        log.error("%s failed: %s", current, error)
        sys.exit(1)


@contextlib.contextmanager
def _workers_errors() -> Iterator[None]:
    """Turns Spark's wrapping of a worker's GdmixError back into the error itself."""
    try:
        yield
    except PySparkException as error:
        for kind in (DataError, ConfigError, StorageError, StepError):
            found = re.search(rf"{kind.__module__}\.{kind.__name__}: (.+?)(?:\n\n|\n\s+at |$)", str(error), re.DOTALL)
            if found:
                raise kind(found[1].strip()) from None
        if reason := _last_line_of_traceback(str(error)):
            raise StepError(f"a Python worker of Spark failed: {reason}") from None
        raise


def _last_line_of_traceback(text: str) -> str | None:
    """`ModuleNotFoundError: No module named 'x'`, in what Spark wraps around it."""
    found = re.findall(r"^\s*(?:[\w.]+\.)?(\w*(?:Error|Exception|Exit|Interrupt|Warning): .+)$", text, re.MULTILINE)
    own = [line for line in found if not line.startswith(("PythonException", "SparkException"))]
    return own[-1].strip() if own and "Traceback (most recent call last)" in text else None
