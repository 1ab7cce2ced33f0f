"""The files we write, read by Avro's own Java library with the schema that Photon ML reads models with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.models.avro.files import write_avro
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable

NAME_TERM_VALUE = {
    "name": "NameTermValueAvro",
    "namespace": "com.linkedin.photon.avro.generated",
    "type": "record",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "term", "type": "string"},
        {"name": "value", "type": "double"},
    ],
}
PHOTON_SCHEMA = {
    "name": "BayesianLinearModelAvro",
    "namespace": "com.linkedin.photon.avro.generated",
    "type": "record",
    "fields": [
        {"name": "modelId", "type": "string"},
        {"name": "modelClass", "type": ["null", "string"], "default": None},
        {"name": "means", "type": {"type": "array", "items": NAME_TERM_VALUE}},
        {
            "name": "variances",
            "type": ["null", {"type": "array", "items": "NameTermValueAvro"}],
            "default": None,
        },
        {"name": "lossFunction", "type": ["null", "string"], "default": None},
    ],
}


@pytest.fixture(scope="module")
def jvm() -> Iterator[Any]:
    from pyspark.java_gateway import launch_gateway

    gateway = launch_gateway()
    yield gateway.jvm
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


@pytest.mark.spark
def test_java_reads_what_we_write(jvm: Any, tmp_path: Path) -> None:
    table = CoefficientTable(
        pa.array([-3, 14]),
        np.array([0, 3, 4]),
        np.array([INTERCEPT_INDEX, 0, 1, INTERCEPT_INDEX], dtype=np.int32),
        np.array([0.5, -1.25e-7, 3.0, 0.1]),
        np.array([0.25, 1e-12, np.nan, 1e12]),
    )
    path = tmp_path / "part-00000.avro"
    write_avro(str(path), table, FeatureList([("é, ☃", ""), ("g", "t")]), "poisson_regression", fixed=False)

    avro = jvm.org.apache.avro
    schema = avro.Schema.Parser().parse(json.dumps(PHOTON_SCHEMA))
    reader = avro.file.DataFileReader(jvm.java.io.File(str(path)), avro.generic.GenericDatumReader(schema))
    records = []
    while reader.hasNext():
        records.append(json.loads(reader.next().toString()))
    reader.close()

    model_class = "com.linkedin.photon.ml.supervised.regression.PoissonRegressionModel"
    intercept = {"name": "(INTERCEPT)", "term": ""}
    snow, other = {"name": "é, ☃", "term": ""}, {"name": "g", "term": "t"}
    assert records == [
        {
            "modelId": "-3",
            "modelClass": model_class,
            "means": [intercept | {"value": 0.5}, snow | {"value": -1.25e-7}, other | {"value": 3.0}],
            "variances": [intercept | {"value": 0.25}, snow | {"value": 1e-12}],
            "lossFunction": "",
        },
        {
            "modelId": "14",
            "modelClass": model_class,
            "means": [intercept | {"value": 0.1}],
            "variances": [intercept | {"value": 1e12}],
            "lossFunction": "",
        },
    ]
