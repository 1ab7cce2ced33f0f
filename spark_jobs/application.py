"""What both Spark applications share: argument, session, and how an error reaches whoever submitted them."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from gdmix_core.data.id_types import from_order_preserving, order_preserving
from gdmix_core.errors import ConfigError, DataError, GdmixError, StepError, StorageError
from gdmix_core.execution import spark_submit
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import log_lines, processes

log = logging.getLogger("gdmix_core.spark")

# The batches between the JVM and the Python workers; larger ones cost memory, smaller ones calls.
_ROWS_PER_BATCH = 50_000


def main(step_id: str, work: Callable[[Run, Step], None]) -> None:
    """Entry point: `--run ROOT`. Exit code 0 when the step is done, 1 with one clear message when it cannot be."""
    parser = argparse.ArgumentParser(description=f"Step {step_id} of a pipeline run, as a Spark application.")
    parser.add_argument("--run", required=True, help="run directory or URL, with its config.yaml")
    arguments = parser.parse_args()
    log_lines.to_standard_error(logging.INFO)
    if os.environ.get(spark_submit.TIED):
        processes.end_with_parent()
        if os.getppid() == 1:  # it had ended before
            sys.exit(1)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        run = Run.open(arguments.run)
        # This process holds its step itself: it may outlive whoever submitted it.
        with spark_submit.reporting_errors(run, step_id), _workers_errors(), run_lock.step(run.root, step_id):
            work(run, run.plan[step_id])
    except GdmixError as error:
        log.error("%s failed: %s", step_id, error)
        sys.exit(1)


@contextlib.contextmanager
def session(name: str) -> Iterator[SparkSession]:
    """The session spark-submit configured, or a local one, stopped at the end; or the caller's own, which stays."""
    existing = SparkSession.getActiveSession()
    spark = (
        SparkSession.builder.appName(name)
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(_ROWS_PER_BATCH))
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    try:
        yield spark
    finally:
        if existing is None:
            spark.stop()


def for_spark(schema: pa.Schema) -> pa.Schema:
    """The schema as Spark can have it: with names that it does not take for paths into structs, as distinct as they
    were, and, since it has no unsigned integers, with int64 in their place (see to_spark)."""
    encoded = [name.replace("%", "%25").replace(".", "%2E").replace("`", "%60") for name in schema.names]
    return pa.schema(
        [
            pa.field(name, pa.int64() if pa.types.is_uint64(field.type) else field.type)
            for field, name in zip(schema, encoded, strict=True)
        ]
    )


def to_spark(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the schema that for_spark gives; Spark sorts its unsigned integers as they are to be sorted."""
    columns = [order_preserving(c) if pa.types.is_uint64(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=for_spark(batch.schema))


def from_spark(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The inverse of to_spark."""
    columns = [
        from_order_preserving(column) if pa.types.is_uint64(field.type) else column
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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
