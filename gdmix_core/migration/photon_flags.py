"""Options of Photon ML's GAME training: what they are called here, and why some have no counterpart."""

from __future__ import annotations

from collections.abc import Mapping

TASKS: Mapping[str, str] = {
    "LOGISTIC_REGRESSION": "logistic_regression",
    "LINEAR_REGRESSION": "linear_regression",
    "POISSON_REGRESSION": "poisson_regression",
    "SMOOTHED_HINGE_LOSS_LINEAR_SVM": "smoothed_hinge",
}

NORMALIZATION: Mapping[str, str] = {
    "NONE": "none",
    "SCALE_WITH_STANDARD_DEVIATION": "standard_deviation",
    "SCALE_WITH_MAX_MAGNITUDE": "max_magnitude",
    "STANDARDIZATION": "standardization",
}

REPEATED = frozenset({"feature-shard-configurations", "coordinate-configurations"})

TRANSLATED = REPEATED | frozenset(
    {
        "input-data-directories", "root-output-directory", "coordinate-update-sequence", "training-task",
        "coordinate-descent-iterations", "normalization", "variance-computation-type", "model-sparsity-threshold",
        "validation-evaluators", "input-column-names", "hyper-parameter-tuning", "hyper-parameter-tuning-iterations",
        "model-input-directory", "partial-retrain-locked-coordinates", "incremental-training",
    }
)  # fmt: skip

_DATES = "put a template such as {{ ds }} into input; Airflow runs a pipeline for each date"
_INDEX = "features are numbered by their feature list, a file of each bag"
_SPARK = "Spark only prepares the data here; spark.conf takes its settings"

IGNORED: Mapping[str, str] = {
    "input-data-date-range": _DATES,
    "input-data-days-range": _DATES,
    "validation-data-directories": "validation data lie in validationData beside trainingData",
    "validation-data-date-range": _DATES,
    "validation-data-days-range": _DATES,
    "minimum-validation-partitions": _SPARK,
    "off-heap-index-map-directory": _INDEX,
    "off-heap-index-map-partitions": _INDEX,
    "feature-bags-directory": _INDEX,
    "override-output-directory": "a run in a directory that has one goes on with it, and does again what has changed",
    "output-files-limit": "a random effect's models have a file for each shard",
    "data-summary-directory": "validate writes a report of the data into the run",
    "data-validation": "validate always checks every record; checks.on_error says what becomes of bad ones",
    "tree-aggregate-depth": _SPARK,
    "hyper-parameter-tuner": "tune has its own methods: grid, random, bayesian",
    "ignore-threshold-for-new-models": "samples.min holds for all entities; earlier models of smaller ones are kept",
    "output-mode": "the best model is exported; those of every pass stay in the run",
    "save-per-group-evaluation-result": "there are no files of metrics for each group",
    "logging-level": "`gdmix --verbose run` says what every step does",
    "application-name": "the pipeline's name",
    "time-zone": "dates come from Airflow",
}
