"""The library by its base alone: it trains, costs little, and names the extra of whatever else is asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# What the base must not bring along.
HEAVY = ("airflow", "pyspark", "tensorflow", "optuna", "matplotlib", "pandas", "s3fs")
NOTEBOOK = f"""
import sys
import numpy as np
import pyarrow as pa
from gdmix_core import Bag, Coordinate, EntityRows, fit_entity_models
n = 12
bag = Bag(np.arange(n + 1), np.arange(n, dtype=np.int32) % 2, np.ones(n, np.float32))
label = np.arange(n) % 3 == 0.0
ids, begin = pa.array(["a", "b", "c"]), np.array([0, 4, 8])
rows = EntityRows(ids, begin, begin + 4, np.arange(n), label, np.ones(n), np.zeros(n), bag)
settings = Coordinate.model_validate({{"random_effect": {{"entity": "user"}}, "bag": "f", "l2": 1.0}})
table = fit_entity_models(rows, settings, "logistic_regression", 2).table
print(len(table.entities), bool(np.isfinite(table.means).all()), [name for name in {HEAVY} if name in sys.modules])
"""
PIPELINE = """
name: base
input: {folder}/input
output: {folder}/run
columns: {{label: response}}
coordinates:
  global: {{fixed_effect: {{workers: {workers}}}, data: global, bag: global}}
{tune}
"""
TUNE = "tune: {method: random, trials: 2, parameters: {coordinates.global.l2: {low: 0.1, high: 10}}}"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a fresh environment with the wheel in it, and what its base asks for."""
    folder = tmp_path_factory.mktemp("base")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY)]
    subprocess.run([*pip, *build], check=True)
    venv.create(folder / "environment", with_pip=False)
    inside = str(folder / "environment/bin/python")
    (wheel,) = folder.glob("*.whl")
    # The versions of the lock, so that the test does not change with what is published.
    lock = REPOSITORY / "requirements.lock"
    subprocess.run([*pip, "--python", inside, "install", "--constraint", str(lock), str(wheel)], check=True)
    return inside


def run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/tmp")}
    return subprocess.run([python, *arguments], env=environment, cwd="/", capture_output=True, text=True)


@pytest.mark.slow
def test_a_notebook_trains_with_the_base_alone(python: str) -> None:
    done = run(python, "-c", NOTEBOOK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "True", "[]"]


@pytest.mark.slow
def test_what_an_extra_brings_is_asked_for_by_its_name(python: str, tmp_path: Path) -> None:
    done = run(python, "-c", "from gdmix_operators import build_dag")
    assert "gdmix_operators.build_dag needs airflow, which is not installed" in done.stderr
    assert "pip install 'gdmix-airflow[airflow]'" in done.stderr

    gdmix = str(Path(python).with_name("gdmix"))
    sample = run(gdmix, "sample", "generated", "--ratings", "100", "--output", str(tmp_path / "input"))
    assert sample.returncode == 0, sample.stderr
    (tmp_path / "p.yaml").write_text(PIPELINE.format(folder=tmp_path, workers=2, tune=TUNE))
    done = run(gdmix, "run", str(tmp_path / "p.yaml"))
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    assert (
        "fixed_effect.workers: 2 needs tensorflow, which is not installed; pip install 'gdmix-airflow[distributed]'"
        in said
    )
    assert "tune.method: random needs optuna, which is not installed; pip install 'gdmix-airflow[search]'" in said

    (tmp_path / "p.yaml").write_text(PIPELINE.format(folder=tmp_path, workers=1, tune=""))
    done = run(gdmix, "run", str(tmp_path / "p.yaml"), "--set", "engine.data=spark")
    assert done.returncode == 1
    assert "pip install 'gdmix-airflow[spark]'" in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_whole_pipeline_runs_with_the_base_alone(python: str, tmp_path: Path) -> None:
    """Neither Java nor Spark is there."""
    gdmix = str(Path(python).with_name("gdmix"))
    sample = run(gdmix, "sample", "generated", "--ratings", "1000", "--output", str(tmp_path / "input"))
    assert sample.returncode == 0, sample.stderr
    (tmp_path / "p.yaml").write_text(PIPELINE.format(folder=tmp_path, workers=1, tune=""))
    done = run(gdmix, "run", str(tmp_path / "p.yaml"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "export" / "manifest.json").exists()


def test_every_import_is_declared() -> None:
    """By the names of the packages that pip knows, in the base or in some extra."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = [one for name, some in project["optional-dependencies"].items() if name != "dev" for one in some]
    declared = {re.split(r"[\[<>=]", one)[0].lower() for one in (*project["dependencies"], *extras)}
    code = [
        path.read_text() for top in ("gdmix_core", "plugins", "spark_jobs") for path in (REPOSITORY / top).rglob("*.py")
    ]
    imported = {name for text in code for name in re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE)}
    foreign = imported - set(sys.stdlib_module_names) - {"gdmix_core", "gdmix_operators", "spark_jobs"}
    packages = {"yaml": "pyyaml", "airflow": "apache-airflow", "markupsafe": "jinja2", "pydantic_core": "pydantic"}
    assert {packages.get(name, name) for name in foreign} <= declared
