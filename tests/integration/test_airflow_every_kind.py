"""A DAG in Airflow with every kind of coordinate: external scores, a trainer of one's own, a text network, readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from airflow_standalone import ROOT, airflow, airflow_environment

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.data.ragged import Bag
from gdmix_core.pipeline.run import Run
from gdmix_core.samples.layout import describe, write_source
from gdmix_core.scoring.score_input import score_input

pytestmark = [pytest.mark.airflow, pytest.mark.tensorflow, pytest.mark.slow]

ROWS, VALIDATION = 400, 100
TRAINER = """import numpy

def train(given):
    # The log-odds of all rows, less what the others have said by now.
    wanted = numpy.log(given.labels("training").mean() / (1 - given.labels("training").mean()))
    shift = wanted - given.offsets["training"].mean()
    return {split: numpy.full(len(given.offsets[split]), shift) for split in given.splits}
"""
CONFIG = """
name: every_kind
input: {folder}/input
output: {folder}/run
columns: {{label: clicked}}
coordinates:
  elsewhere:
    fixed_effect: {{model: external, scores: {folder}/scores.csv}}
  own:
    fixed_effect: {{model: python, function: "trainer_of_this_test:train", bags: [wide]}}
  text:
    fixed_effect:
      {{model: text, document: [title], dense: [wide], embedding: 4, units: 4, hidden: [4], dropout: 0, batch: 50,
       epochs: 6, encoder: {{type: cnn, windows: [1], filters: 4}}, optimizer: {{learning_rate: 0.05}}}}
  reader:
    random_effect: {{entity: reader}}
    bag: wide
passes: {{max: 1}}
metrics: [auc, "ndcg@3:reader"]
"""


def columns(first: int, rows: int) -> dict[str, Any]:
    """Readers' tastes, a word of the title, two features and somebody else's score all have a say."""
    random = np.random.default_rng(first)
    good, reader, x = random.integers(0, 2, rows), random.integers(0, 20, rows), random.normal(size=(rows, 2))
    elsewhere = random.normal(size=rows)
    both = np.tile(np.array([0, 1], np.int32), rows)
    margin = 2.0 * (2 * good - 1) + np.sin(reader) + x[:, 0] + elsewhere
    return {
        "uid": np.arange(first, first + rows),
        "clicked": (random.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int32),
        "reader": reader,
        "title": pa.array(np.where(good, "a good story", "some bad story")),
        "wide": Bag(np.arange(0, 2 * rows + 1, 2), both, x.ravel().astype(np.float32)),
        "elsewhere": elsewhere,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    training, validation = columns(0, ROWS), columns(ROWS, VALIDATION)
    uid, score = (np.concatenate([part[name] for part in (training, validation)]) for name in ("uid", "elsewhere"))
    pyarrow.csv.write_csv(pa.table({"uid": uid, "score": score}), tmp_path / "scores.csv")
    del training["elsewhere"], validation["elsewhere"]
    bags = {"wide": FeatureList([("x", "0"), ("x", "1")])}
    metadata = describe(training, bags, ("clicked",))
    write_source(str(tmp_path / "input"), bags=bags, metadata=metadata, training=training, validation=validation)
    for name in ("dags", "trainers"):
        (tmp_path / name).mkdir()
    (tmp_path / "trainers" / "trainer_of_this_test.py").write_text(TRAINER)
    (tmp_path / "dags" / "every_kind.yaml").write_text(CONFIG.format(folder=tmp_path))
    dag = (ROOT / "dags" / "movielens.py").read_text().replace("movielens", "every_kind")
    (tmp_path / "dags" / "every_kind.py").write_text(dag)
    return tmp_path


def test_every_kind_of_coordinate(folder: Path, airflow_home: Callable[[Path], Path]) -> None:
    environment = airflow_environment(airflow_home(folder / "home"), folder / "dags")
    environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}:{folder / 'trainers'}"
    output = airflow(environment, "dags", "test", "every_kind")
    assert "Training the text network, coordinate text, pass 1 of 1" in output
    run = Run.open(str(folder / "run"))
    assert run.result("pass_01.reader.evaluate")["metrics"]["validation"]["auc"] > 0.8
    assert (folder / "run" / "report.html").exists()
    # What is exported scores the validation rows as the run did.
    scored = str(folder / "scored.parquet")
    given = {"elsewhere": [str(folder / "scores.csv")], "own": [str(folder / "own.parquet")]}
    best = run.result("select")["pass"]
    means = np.load(run.scores(best, "own", "validation"))
    pq.write_table(pa.table({"uid": np.arange(ROWS, ROWS + VALIDATION), "score": means}), given["own"][0])
    score_input(str(folder / "run"), str(folder / "input"), scored, split="validation", external=given)
    table = pq.read_table(scored).sort_by("uid")
    for name in ("elsewhere", "own", "text", "reader"):
        expected = np.load(run.scores(1 if name == "elsewhere" else best, name, "validation"))
        np.testing.assert_allclose(table[name].to_numpy(), expected, rtol=1e-5, atol=1e-5)
    assert json.loads((folder / "run" / "export" / "manifest.json").read_text())["pass"] == best
