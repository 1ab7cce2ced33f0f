"""Points Airflow at a home of its own before anything imports it: its configuration is read once, at the
import.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
_HOME = tempfile.mkdtemp(prefix="gdmix-airflow-")

if "airflow" not in sys.modules:
    os.environ["AIRFLOW_HOME"] = _HOME
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
for folder in (ROOT, ROOT / "plugins"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


PIPELINE = """\
name: ratings
input: data/{{ ds }}
output: runs/{{ ds }}
columns: {label: response, weight: weight}
coordinates:
  global:
    fixed_effect: {}
    bag: global
  per_user:
    random_effect: {entity: user_id, groups: 2}
    bag: per_user
passes: {max: 2, min_delta: 0.001}
metrics: [auc]
airflow: {schedule: "@daily", start_date: 2026-11-01, retries: 4, retry_delay_seconds: 7}
"""


@pytest.fixture
def pipeline() -> dict[str, Any]:
    """A YAML's content: two coordinates, two passes, two groups of shards."""
    content: dict[str, Any] = yaml.safe_load(PIPELINE)
    return content


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.yaml"
    path.write_text(PIPELINE)
    return path
