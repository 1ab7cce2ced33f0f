"""What takes longer to start than most tests take: one Spark session for all of them, and Airflow's database."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow_standalone import airflow, airflow_environment


@pytest.fixture(scope="session")
def spark() -> Iterator[None]:
    """A local session with two cores; the jobs find it active, use it and leave it running."""
    _use_sparks_own_python()
    from pyspark.sql import SparkSession

    from gdmix_core.execution import spark_submit

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for key, value in (spark_submit.DEFAULT_CONF | {"spark.driver.memory": "1g"}).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield
    session.stop()


def _use_sparks_own_python() -> None:
    """As spark-submit does: the modules in the Spark distribution's own archive come before those installed.

    Airflow's Spark provider installs pyspark-client, which lays an older pyspark over the installed one.
    """
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    home = Path(next(iter(spec.submodule_search_locations or [])))
    archive = home / "python" / "lib" / "pyspark.zip"
    if not archive.exists() or str(archive) in sys.path:
        return
    os.environ["SPARK_HOME"] = str(home)
    sys.path.insert(0, str(archive))
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] in {"pyspark", "spark_jobs"}]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes the directory it is given an AIRFLOW_HOME, with an empty database."""
    first = tmp_path_factory.mktemp("airflow_home")
    airflow(airflow_environment(first, first / "dags"), "db", "migrate")

    def make(home: Path) -> Path:
        home.mkdir()
        shutil.copy(first / "airflow.db", home)
        return home

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)
