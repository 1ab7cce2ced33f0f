"""Labels from which nothing can be learned, or by which nothing can be chosen, fail validate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_input as synthetic
from validated_here import validate_here

from gdmix_core.config.pipeline import Config
from gdmix_core.errors import DataError
from gdmix_core.pipeline.run import Run
from gdmix_core.report.page import write_report


def config_of(tmp_path: Path, label: Any, validation_label: Any = None, **changes: Any) -> Config:
    rows = synthetic.make_rows(60)
    if label is not None:
        rows = {**rows, "response": np.full(60, label)}
    validation = None
    if validation_label is not None:
        validation = {**synthetic.make_rows(20, seed=3, first_uid=5000), "response": np.full(20, validation_label)}
    synthetic.write_directory(tmp_path / "input", rows, validation, suffix=".parquet")
    return synthetic.make_config(tmp_path / "input", tmp_path / "run", **changes)


def test_training_labels_of_one_class(tmp_path: Path):
    with pytest.raises(DataError, match=r"one class: response is 1 in all 60 rows, .*checks.uninformative: allow"):
        validate_here(config_of(tmp_path, 1))


def test_a_linear_label_that_never_changes(tmp_path: Path):
    changes = {"task": "linear_regression", "metrics": ["rmse"]}
    with pytest.raises(DataError, match="one value: response is 0 in all 60 rows"):
        validate_here(config_of(tmp_path, 0, **changes))


def test_validation_labels_of_which_the_first_metric_has_no_value(tmp_path: Path):
    with pytest.raises(DataError, match=r"auc, which chooses among the passes, is undefined: response is 1 in all 20"):
        validate_here(config_of(tmp_path, None, 1, metrics=["auc", "logloss"]))


def test_a_metric_with_a_value_may_choose_by_them(tmp_path: Path):
    validate_here(config_of(tmp_path, None, 1, metrics=["logloss", "auc"]))


def test_it_may_be_meant(tmp_path: Path):
    validate_here(config_of(tmp_path, 1, 1, checks={"uninformative": "allow"}))


def test_the_report_of_a_run_whose_input_was_refused_shows_what_is_wrong(tmp_path: Path):
    config = config_of(tmp_path, 7)
    with pytest.raises(DataError, match=r"response.legal: 60 records"):
        validate_here(config)
    page = Path(write_report(Run.open(config.output))).read_text()
    assert "The input was refused by validate: it breaks 1 rules: response.legal (60). Nothing was trained." in page
    assert "label is 0 or 1" in page
    assert "part-" in page
