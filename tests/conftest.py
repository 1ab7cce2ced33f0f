"""Fixtures every test may use."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything that asks for the shared data carries its marker, so that `-m shared_data` finds it."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_data)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with reference data (MovieLens, lme4's estimates); the test is skipped, loudly, without it."""
    folder = Path(os.environ.get("GDMIX_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"SHARED DATA MISSING: {folder} is not there; set GDMIX_SHARED_DATA to run this test")
    return folder


# Spark's bridge logs its end after pytest has closed the streams.
logging.getLogger("py4j").setLevel(logging.ERROR)

# The machine may be busy: a slow example is no failure.
settings.register_profile("gdmix", deadline=None)
settings.load_profile("gdmix")
