"""The call of spark-submit as the pipeline's configuration and the Airflow connection want it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gdmix_core.config.execution import is_local_master
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import Run
from gdmix_operators.airflow_secrets import check_connection

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
    from airflow.sdk import Connection

log = logging.getLogger(__name__)


def spark_submit_hook(run: Run, step: Step) -> SparkSubmitHook:
    """Return a hook for the step's application: master and deploy mode from the connection, all else from the YAML.

    Raises StepError when there is no spark-submit, ConfigError for a connection whose secrets it would show.
    """
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    from gdmix_core.execution import spark_submit

    connection, spark = run.config.airflow.spark_connection, run.config.spark
    master = _master(connection)
    if master is None:
        log.info("No connection %s: Spark runs on %s, the YAML's spark.master", connection, spark.master)
    with _connection(connection, None if master else spark.master):
        return SparkSubmitHook(
            conn_id=connection,
            name=f"{run.config.name}.{step.id}",
            application_args=["--run", run.root],
            driver_memory=spark.driver_memory,
            conf=spark_submit.DEFAULT_CONF | spark.conf,
            # On a cluster the Python and its packages are the cluster's affair (spark.conf).
            env_vars=spark_submit.environment() if (master or spark.master).startswith("local") else None,
            # The one on the PATH may be another one, by the connection's extra spark-binary.
            spark_binary=None if shutil.which("spark-submit") else spark_submit.find_spark_submit(),
        )


def data_engine(run: Run) -> str:
    """embedded or spark: what the configuration says; under auto the connection's master, else the YAML's, decides."""
    master = _master(run.config.airflow.spark_connection) if run.config.engine.data == "auto" else None
    if master is None:
        return run.config.data_engine
    return "embedded" if is_local_master(master) else "spark"


def driver_is_here(run: Run) -> bool:
    """Return whether the application's driver, which lists the input, runs here: unless in deploy mode cluster."""
    found = _found(run.config.airflow.spark_connection)
    extra = {} if found is None else found.extra_dejson
    return (extra.get("deploy-mode") or run.config.spark.conf.get("spark.submit.deployMode")) != "cluster"


def _master(connection: str) -> str | None:
    """Return the connection's host, None when there is no such connection."""
    found = _found(connection)
    if found is None:
        return None
    check_connection(found)
    return found.host if found.conn_type == "spark" else f"{found.conn_type}://{found.host}"


def _found(connection: str) -> Connection | None:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(connection)
    except AirflowNotFoundException:
        return None


@contextlib.contextmanager
def _connection(name: str, master: str | None) -> Iterator[None]:
    """Define the connection inside the block, if a master is given: without one the hook silently takes YARN."""
    if master is None:
        yield
        return
    variable = f"AIRFLOW_CONN_{name.upper()}"
    os.environ[variable] = json.dumps({"conn_type": "spark", "host": master, "extra": {"deploy-mode": "client"}})
    try:
        yield
    finally:
        del os.environ[variable]
