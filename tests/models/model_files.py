"""Coefficient tables from plain dictionaries, and model files record by record, for tests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.models.avro.schema import BAYESIAN_LINEAR_MODEL
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable

LOGISTIC = "com.linkedin.photon.ml.supervised.classification.LogisticRegressionModel"
NAN = math.nan

Model = dict[int, tuple[float, float]]
"""Feature index -> mean and variance."""


def table_of(models: dict[Any, Model], variances: bool = True) -> CoefficientTable:
    entities = sorted(models, key=lambda entity: entity.encode() if isinstance(entity, str) else entity)
    entries = [(index, *models[entity][index]) for entity in entities for index in sorted(models[entity])]
    integers = bool(entities) and isinstance(entities[0], int)
    return CoefficientTable(
        pa.array(entities, pa.int64() if integers else pa.string()),
        np.cumsum([0] + [len(models[entity]) for entity in entities]),
        np.array([index for index, _, _ in entries], dtype=np.int32),
        np.array([mean for _, mean, _ in entries], dtype=np.float64),
        np.array([variance for _, _, variance in entries], dtype=np.float64) if variances else None,
    )


def assert_same(found: CoefficientTable, expected: CoefficientTable) -> None:
    assert found.entities.equals(expected.entities)
    for name in ("offsets", "features", "means", "variances"):
        left, right = getattr(found, name), getattr(expected, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)


def entry(name: str, value: float, term: str | None = "") -> dict[str, Any]:
    return {"name": name, "term": term, "value": value}


def record(model_id: str, means: list, variances: list | None = None, model_class: str | None = LOGISTIC) -> dict:
    return {
        "modelId": model_id,
        "modelClass": model_class,
        "means": means,
        "variances": variances,
        "lossFunction": "",
    }


def write_records(path: Path | str, records: list[Any], schema: Any = BAYESIAN_LINEAR_MODEL) -> str:
    with open(path, "wb") as file:
        fastavro.writer(file, schema, records)
    return str(path)


def read_records(path: Path | str) -> list[Any]:
    with open(path, "rb") as file:
        return list(fastavro.reader(file))


FEATURES = FeatureList([("age", ""), ("genre", "Film-Noir"), ("a,b", 'say "x"')])
TWO_USERS = {
    "u1": {INTERCEPT_INDEX: (0.5, 0.1), 0: (-2.0, 1e-9), 2: (1e-5, 3.0)},
    "u2": {INTERCEPT_INDEX: (0.0, 0.2), 1: (0.25, NAN)},
}
