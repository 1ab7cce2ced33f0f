"""Submitting the two Spark applications from a plain process, and getting their errors back whole."""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gdmix_core import errors, storage
from gdmix_core.errors import GdmixError, StepError
from gdmix_core.execution.dispatch import spark_application
from gdmix_core.extras import requirement
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.system_errors import as_user_error

# Quiet and without ports: both jobs are short and report through the run directory.
DEFAULT_CONF = {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.ui.showConsoleProgress": "false"}


_SHOWN_LINES = 5
# What the JVM says, and what it means to whoever started the run.
_REASONS = (
    (r'Cannot run program "([^"]+)"', "Spark cannot start {0}; let PYSPARK_PYTHON name the Python of gdmix-airflow"),
    (r"(\S+/bin/)spark-(?:class|submit): No such file", "no Spark is in {0}; unset SPARK_HOME"),
    (r"\[PYTHON_VERSION_MISMATCH\] ([^\n]+)", "{0}; set PYSPARK_PYTHON and PYSPARK_DRIVER_PYTHON to one Python"),
    (r"UnsupportedClassVersionError", "this Java is too old for Spark; set JAVA_HOME to the folder of a Java 17"),
    (r"OutOfMemoryError: ([^\n]+)", "the JVM is out of memory ({0}); raise spark.driver_memory"),
    (r"There is insufficient memory for the Java Runtime", "no memory for the JVM; lower spark.driver_memory"),
    (
        r"(?m)^(?:[\w.]*\.)?(ModuleNotFoundError: [^\n]+)",
        "{0}, in a Python process of Spark; install it in the Python that PYSPARK_PYTHON names",
    ),
    (r"(UnknownHostException: [^\n]+)", "{0}: this machine does not know its own name; set SPARK_LOCAL_IP=127.0.0.1"),
    (r"(No space left on device)", "{0}; make room where spark.local.dir is (SPARK_LOCAL_DIRS)"),
    (r"(Service '\w+' could not bind[^\n]*|BindException: [^\n]+)", "{0}; set SPARK_LOCAL_IP=127.0.0.1"),
    (
        r"Python worker (?:exited unexpectedly|failed to connect)|ExecutorLostFailure|exit code: 137",
        "a Python worker of Spark was killed (out of memory?); lower frame.rows_per_block or spark.master's cores, or "
        "use a machine with more memory",
    ),
    (r"(?m)^(?:[\w.]*\.)?((?:Connect|Spark|ClassNotFound|AccessControl)Exception: [^\n]+)", "{0}"),
)


# Set for an application whose driver is below the process that submits it, and ends with it.
TIED = "GDMIX_ENDS_WITH_PARENT"
THEN = "--then"  # of an application: another step for the same session


def is_current(run: Run, step: Step) -> bool:
    """Check whether a Spark step is done, without starting Spark. The input is listed, not read."""
    if step.kind == "validate":
        from gdmix_core.data.ingest.source import open_layout

        run.set_fingerprints(input=open_layout(run.config).fingerprint)
    return run.is_done(step)


def command(run: Run, step: Step, then: Step | None = None) -> list[str]:
    """The spark-submit call of a step, and of one that the same session goes on with, with the configuration's settings
    of Spark."""
    spark = run.config.spark
    conf = DEFAULT_CONF | spark.conf
    settings = [part for key, value in sorted(conf.items()) for part in ("--conf", f"{key}={value}")]
    return [
        find_spark_submit(),
        *("--master", spark.master, "--driver-memory", spark.driver_memory),
        *settings,
        spark_application(step),
        *("--run", run.root),
        *(() if then is None else (THEN, then.id)),
    ]


def find_spark_submit() -> str:
    """The one beside the running interpreter (pip's pyspark), else the one on PATH."""
    beside = Path(sys.executable).with_name("spark-submit")
    found = str(beside) if beside.exists() else shutil.which("spark-submit")
    if found is None:
        raise StepError(f"spark-submit is not to be found; pip install '{requirement('spark')}', or put it on PATH")
    return found


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables for spark-submit: the same interpreter and the same packages on the driver and in local workers."""
    variables = dict(os.environ if base is None else base)
    variables.setdefault("PYSPARK_PYTHON", sys.executable)
    if not Path(variables.get("PYSPARK_DRIVER_PYTHON", "")).name.startswith("python"):
        variables["PYSPARK_DRIVER_PYTHON"] = sys.executable  # a notebook's program starts no application
    root = str(Path(__file__).resolve().parents[2])
    paths = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    # Our packages before all others: nothing of the user's runs in these jobs, and a folder may have the name of ours.
    variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([root, *paths]))
    # Nor is a file of the working directory, such as random.py, taken for a module.
    variables["PYTHONSAFEPATH"] = "1"
    variables[TIED] = "1"
    if not _user_has_a_name():
        variables |= _with_a_name()
    return variables


def _user_has_a_name() -> bool:
    """Check whether the uid is in the system's list of users: in a container it may be any."""
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _with_a_name() -> dict[str, str]:
    """Variables that give the JVM a name for a user who has none: Hadoop refuses to work without one.

    By the library nss_wrapper, which is made for this. Raises StepError where it is not installed.
    """
    found = [path for folder in ("/usr/lib/*", "/usr/lib*") for path in glob.glob(f"{folder}/libnss_wrapper.so")]
    if not found:
        raise StepError(
            f"uid {os.getuid()} has no name on this machine, without which Spark does not start; add it to "
            "/etc/passwd, or install libnss-wrapper"
        )
    folder = tempfile.mkdtemp(prefix="gdmix-user-")
    uid, gid = os.getuid(), os.getgid()
    for name, line in (("passwd", f"gdmix:x:{uid}:{gid}::{folder}:/bin/sh"), ("group", f"gdmix:x:{gid}:")):
        Path(folder, name).write_text(f"{line}\n")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {
        "LD_PRELOAD": " ".join(filter(None, [os.environ.get("LD_PRELOAD"), sorted(found)[0]])),
        "NSS_WRAPPER_PASSWD": f"{folder}/passwd",
        "NSS_WRAPPER_GROUP": f"{folder}/group",
        "HOME": folder,
    }


def check_java() -> None:
    """Raises StepError where there is no Java to start Spark with: its own message names a shell script's line."""
    home = os.environ.get("JAVA_HOME")
    if home and not os.access(os.path.join(home, "bin", "java"), os.X_OK):
        raise StepError(f"JAVA_HOME is {home}, where there is no bin/java; set it to the folder of a Java 17")
    if not home and shutil.which("java") is None:
        raise StepError("Spark needs Java, which is not on PATH; install Java 17, or set JAVA_HOME to its folder")


def reason(output: str) -> str:
    """Return the reason of a failure from spark-submit's output, in a line; its last lines if no reason is found."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for pattern, sentence in _REASONS:
        if found := re.search(pattern, output):
            return sentence.format(*found.groups())
    return "\n".join(["spark-submit failed; its last lines:", *lines[-_SHOWN_LINES:]])


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


def raise_reported(run: Run, steps: Sequence[Step], otherwise: str) -> None:
    """Outside, after the application failed: raises the error it reported, or a StepError saying `otherwise`."""
    for step in steps:
        path = _report(run, step.id)
        if storage.exists(path):
            content = storage.read_json(path)
            raise getattr(errors, content["type"], StepError)(content["message"])
    raise StepError(f"{', '.join(step.id for step in steps)}: {otherwise}")
