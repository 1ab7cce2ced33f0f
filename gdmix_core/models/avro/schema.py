"""The Avro schema of GDMix's and Photon ML's model files, and how a task is named in them.

The names of records, fields and classes are Photon ML's: its reader makes an object of the class that
`modelClass` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import fastavro

_NAME_TERM_VALUE = {
    "type": "record",
    "name": "NameTermValueAvro",
    "namespace": "com.linkedin.photon.avro.generated",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "term", "type": "string"},
        {"name": "value", "type": "double"},
    ],
}
BAYESIAN_LINEAR_MODEL = fastavro.parse_schema(
    {
        "type": "record",
        "name": "BayesianLinearModelAvro",
        "namespace": "com.linkedin.photon.avro.generated",
        "fields": [
            {"name": "modelId", "type": "string"},
            {"name": "modelClass", "type": ["null", "string"], "default": None},
            {"name": "means", "type": {"type": "array", "items": _NAME_TERM_VALUE}},
            {
                "name": "variances",
                "type": ["null", {"type": "array", "items": "NameTermValueAvro"}],
                "default": None,
            },
            {"name": "lossFunction", "type": ["null", "string"], "default": None},
        ],
    }
)

MODEL_CLASS_OF_TASK: Mapping[str, str] = {
    "logistic_regression": "com.linkedin.photon.ml.supervised.classification.LogisticRegressionModel",
    "linear_regression": "com.linkedin.photon.ml.supervised.regression.LinearRegressionModel",
    "poisson_regression": "com.linkedin.photon.ml.supervised.regression.PoissonRegressionModel",
    "smoothed_hinge": "com.linkedin.photon.ml.supervised.classification.SmoothedHingeLossLinearSVMModel",
}
TASK_OF_MODEL_CLASS: Mapping[str, str] = {model_class: task for task, model_class in MODEL_CLASS_OF_TASK.items()}

# The bytes between two blocks of a file. Any 16 that are unlikely in data will do; always the same ones, so that
# equal models are equal files.
SYNC_MARKER = hashlib.sha256(b"gdmix-airflow: between two blocks of Avro").digest()[:16]
