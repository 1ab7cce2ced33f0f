"""One finished search for all tests of this folder."""

from __future__ import annotations

import pytest
from run_directory import make_run, walk
from search_runs import TRAINING, VALIDATION, content

from gdmix_core.pipeline.run import Run


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search over 2 × 3 penalties, one trial at a time."""
    run = make_run(tmp_path_factory.mktemp("grid"), content(([0.3, 3], [0.1, 1, 10])), TRAINING, VALIDATION)
    walk(run)
    return Run.open(run.root)
