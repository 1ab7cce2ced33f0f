"""Every benchmark runs: in small, so that one which the code has left behind is noticed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {
    "fixed_effect.py": "--rows 2000 --features 500",
    "fixed_effect_solvers.py": "--rows 2000",
    "random_effect.py": "--entities 200 --rows 3000",
    "ingest.py": "--rows 2000",
    "large.py": "--rows 2000",
    "phases.py": "--rows 2000",
    "pipeline.py": "--rows 2000",
    "text_training.py": "--rows 1000 --words 300 --seconds 0.5",
}
# The runner's own parts; what needs data that is not here, or minutes even in small.
OTHERS = {
    "__main__.py", "comparisons.py", "fitting.py", "ours.py", "peers.py", "machine.py", "fixed_effect_problem.py",
    "text_ablation.py", "scaling.py", "airflow_tasks.py",
}  # fmt: skip
MARKS = {
    "ingest.py": [pytest.mark.spark, pytest.mark.tensorflow],
    "pipeline.py": [pytest.mark.spark],
    "text_training.py": [pytest.mark.tensorflow],
}

pytestmark = pytest.mark.slow


def test_every_script_is_run_here() -> None:
    assert {path.name for path in BENCHMARKS.glob("*.py")} - OTHERS == set(SMALL)


@pytest.mark.parametrize("script", [pytest.param(script, marks=MARKS.get(script, [])) for script in SMALL])
def test_scripts_run(script: str) -> None:
    assert _run(str(BENCHMARKS / script), *SMALL[script].split()).strip()


TABLES = {
    "sparse": {"scikit_learn_lbfgs", "scikit_learn_newton_cg", "spark_mllib"},
    "Poisson": {"scikit_learn_poisson", "statsmodels_poisson"},
    "random effect": {"scikit_learn_per_entity", "scipy_per_entity"},
}


@pytest.mark.parametrize(
    "comparison", [pytest.param(name, marks=pytest.mark.spark if name == "sparse" else []) for name in TABLES]
)
def test_a_table(tmp_path: Path, comparison: str) -> None:
    """Peers that are not installed are left out; those that are have no lower objective, whatever the time."""
    arguments = ("--size", "tiny", "--only", comparison, "--runs", "1", "--json", str(tmp_path / "json"))
    shown = _run(str(BENCHMARKS), *arguments)
    report = json.loads((tmp_path / "json").read_text())
    assert {f"peers.{peer}" for peer in TABLES[comparison]} | {"ours"} <= {
        row["who"] if row["who"].startswith("peers") else "ours" for row in report["rows"]
    }
    for row in report["rows"]:
        assert row["seconds"] > 0
        assert row["peak_memory"] > 10**7
        assert row.get("reached", True), row
    assert len(shown.splitlines()) == 4 + len(report["rows"])
    assert f"{report['machine']['cores']} cores" in shown


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
