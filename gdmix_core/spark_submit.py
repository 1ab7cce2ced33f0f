"""Submitting the two Spark applications from a plain process, and getting their errors back whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gdmix_core import errors, storage
from gdmix_core.errors import GdmixError, StepError
from gdmix_core.plan import Step
from gdmix_core.run import Run
from gdmix_core.steps import spark_application
from gdmix_core.system_errors import as_user_error

# Quiet and without ports: both jobs are short and report through the run directory.
DEFAULT_CONF = {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.ui.showConsoleProgress": "false"}


def command(run: Run, step: Step) -> list[str]:
    """The spark-submit call of a step, with the configuration's Spark settings."""
    spark = run.config.spark
    conf = DEFAULT_CONF | spark.conf
    settings = [part for key, value in sorted(conf.items()) for part in ("--conf", f"{key}={value}")]
    return [
        find_spark_submit(),
        *("--master", spark.master, "--driver-memory", spark.driver_memory),
        *settings,
        spark_application(step),
        *("--run", run.root),
    ]


def find_spark_submit() -> str:
    """The one beside the running interpreter (pip's pyspark), else the one on PATH."""
    beside = Path(sys.executable).with_name("spark-submit")
    found = str(beside) if beside.exists() else shutil.which("spark-submit")
    if found is None:
        raise StepError("spark-submit is not to be found; install pyspark in this environment or put it on PATH")
    return found


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables for spark-submit: the same interpreter and the same packages on the driver and in local workers."""
    variables = dict(os.environ if base is None else base)
    variables.setdefault("PYSPARK_PYTHON", sys.executable)
    variables.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    root = str(Path(__file__).resolve().parents[1])
    paths = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    # An application's own folder comes first on its path; the packages must be found whether installed or not.
    variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, root]))
    return variables


def forget_reported(run: Run, step: Step) -> None:
    """Before the application is submitted: what an earlier one reported must not be taken for this one's."""
    storage.remove(_report(run, step.id))


def _report(run: Run, step_id: str) -> str:
    return run.path("errors", f"{step_id}.json")


@contextlib.contextmanager
def reporting_errors(run: Run, step_id: str) -> Iterator[None]:
    """Inside the application: leaves a GdmixError in the run directory, where raise_reported finds it."""
    try:
        yield
    except Exception as error:
        found = as_user_error(error)
        if found is None:
            raise
        with contextlib.suppress(GdmixError):  # a full disk may be the very error
            storage.write_json(_report(run, step_id), {"type": type(found).__name__, "message": str(found)})
        raise found from None


def raise_reported(run: Run, step: Step, otherwise: str) -> None:
    """Outside, after the application failed: raises the error it reported, or a StepError saying `otherwise`."""
    path = _report(run, step.id)
    if storage.exists(path):
        content = storage.read_json(path)
        raise getattr(errors, content["type"], StepError)(content["message"])
    raise StepError(otherwise)
