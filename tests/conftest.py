"""Fixtures every test may use."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything that asks for the shared data carries its marker, so that `-m shared_data` finds it.

    The slow files come first, those that start Airflow before all, then those with many tests: whoever of several
    test processes is ready takes the next file, and none is left with a long one while the others have nothing to do.
    """
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_data)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    airflow = {item.path for item in items if item.path in slow and item.get_closest_marker("airflow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in airflow, item.path not in slow, -tests[item.path], item.path))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with reference data (MovieLens, lme4's estimates); the test is skipped, loudly, without it."""
    folder = Path(os.environ.get("GDMIX_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"SHARED DATA MISSING: {folder} is not there; set GDMIX_SHARED_DATA to run this test")
    return folder


# Spark's bridge logs its end after pytest has closed the streams.
logging.getLogger("py4j").setLevel(logging.ERROR)

# A JVM that lives for seconds spends most of its time compiling, unless told not to. spark-submit hands this to all.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

# The machine may be busy: a slow example is no failure. The examples are the same each time, so that a failure is of
# the change at hand; `pytest --hypothesis-profile explore` looks for others.
_ON_A_BUSY_MACHINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("gdmix", **_ON_A_BUSY_MACHINE, derandomize=True)
settings.register_profile("explore", **_ON_A_BUSY_MACHINE)
settings.load_profile("gdmix")
