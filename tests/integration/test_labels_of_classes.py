"""Labels of the tasks with several classes, through validate: a number of one class, or a bag of those that apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_input as synthetic

from gdmix_core.data.feature_list import FeatureList, write_feature_list
from gdmix_core.data.frame import Frame
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.metrics.registry import DEFAULT_METRIC
from gdmix_core.pipeline.run import Run

ROWS, CLASSES = 40, 4
DROP = {"on_error": "drop", "max_dropped": 1.0}


def config_of(source: Path, output: Path, task: str, **changes: Any) -> Any:
    coordinates = {"network": {"fixed_effect": {"model": "text", "document": ["title"], "sparse": ["global"]}}}
    return synthetic.make_config(
        source,
        output,
        task=task,
        columns={"label": "response", "weight": "weight"},
        coordinates=coordinates,
        metrics=[DEFAULT_METRIC.get(task, "logloss")],
        passes={"max": 1},
        checks=DROP,
        **changes,
    )


def rows_with(response: Any) -> dict[str, Any]:
    made = {name: c for name, c in synthetic.make_rows(ROWS).items() if name not in ("per_user", "user_id")}
    return {**made, "uid": np.arange(ROWS), "response": response, "title": [f"title {i}" for i in range(ROWS)]}


def broken_of(run: Run) -> dict[str, list[int]]:
    checks = synthetic.report_of(run)["checks"]
    return {name: [f["uid"] for f in check["first"]] for name, check in checks.items() if check["broken"]}


def test_one_class_of_several(spark: None, tmp_path: Path):
    label = (np.arange(ROWS) % CLASSES).astype(np.float32)
    label[[3, 7, 9, 11]] = [-1, 1.5, CLASSES, np.nan]
    source = synthetic.write_directory(tmp_path / "input", rows_with(label))
    config = config_of(source, tmp_path / "run", "multiclass_classification", classes=CLASSES)
    run = synthetic.validate(config)
    assert broken_of(run) == {"response.legal": [3, 7, 9, 11]}
    rule = synthetic.report_of(run)["checks"]["response.legal"]
    assert rule["rule"] == "label is an integer 0 … 3"
    assert "set classes" in rule["advice"]
    frame = Frame(run)
    assert frame.manifest["label_bag"] is None
    kept = np.delete(np.arange(ROWS), [3, 7, 9, 11])
    assert frame.column("training", "label").tolist() == (kept % CLASSES).tolist()


@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_all_classes_that_apply(spark: None, tmp_path: Path, form: str):
    rng = np.random.default_rng(0)
    applies = rng.random((ROWS, CLASSES)) < 0.4
    applies[5] = False
    values = applies.astype(np.float32)
    values[7, 2] = 2.0
    values[9, 0] = -1.0
    bad = [7, 9]
    label: Any = values
    changes: dict[str, Any] = {"shape": [CLASSES]}
    if form == "sparse":
        indices = [np.flatnonzero(row).tolist() for row in values]
        weights = [values[i][indices[i]].tolist() for i in range(ROWS)]
        indices[11], weights[11] = [1, 1], [1.0, 1.0]  # twice the same class
        indices[13], weights[13] = [1, CLASSES], [1.0, 1.0]
        indices[15], weights[15] = [3, 0], [1.0, 1.0]  # in any order
        applies[15] = [True, False, False, True]
        bad += [11]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in indices])]).astype(np.int64)
        label = Bag(offsets, np.concatenate(indices).astype(np.int32), np.concatenate(weights).astype(np.float32))
    rows = rows_with(label)
    metadata = synthetic.describe(rows, response=changes)
    source = synthetic.write_directory(tmp_path / "input", rows, metadata=metadata)
    names = FeatureList([("topic", name) for name in ("news", "sport", "art", "other")])
    write_feature_list(str(source / "featureList" / "response"), names)
    run = synthetic.validate(config_of(source, tmp_path / "run", "multilabel_classification"))
    expected = {"response.legal": bad} | ({"response.index": [13]} if form == "sparse" else {})
    assert broken_of(run) == expected
    frame = Frame(run)
    assert frame.manifest["label_bag"] == "response"
    assert frame.bags_of("network") == {"global": "global"}
    assert frame.feature_list("response").names == names.names
    kept = np.delete(np.arange(ROWS), [uid for uids in expected.values() for uid in uids])
    assert synthetic.dense(frame.bag("training", "response"), CLASSES).tolist() == applies[kept].astype(float).tolist()
    assert frame.column("training", "label").tolist() == applies[kept].sum(axis=1).tolist()


def test_no_label_is_needed_to_score_and_none_may_be_read(tmp_path: Path):
    rows = rows_with(np.zeros(ROWS))
    del rows["response"]
    source = synthetic.write_directory(tmp_path / "input", rows)
    config = config_of(source, tmp_path / "run", "multilabel_classification")
    assert set(open_layout(config, labelled=False).bags) == {"global"}
    with pytest.raises(DataError, match=r"bag response \(columns\.label\) is not described"):
        open_layout(config)
    reads_label = config.model_copy(update={"columns": config.columns.model_copy(update={"label": "global"})})
    with pytest.raises(DataError, match="bag global is the label, so no coordinate may read it"):
        open_layout(reads_label)


def test_a_single_class_is_no_choice(tmp_path: Path):
    rows = rows_with(np.ones((ROWS, 1), np.float32))
    source = synthetic.write_directory(
        tmp_path / "input", rows, metadata=synthetic.describe(rows, response={"shape": [1]})
    )
    write_feature_list(str(source / "featureList" / "response"), FeatureList([("only", "")]))
    with pytest.raises(DataError, match=r"/response: the label has 1 class, .* use task logistic_regression"):
        open_layout(config_of(source, tmp_path / "run", "multilabel_classification"))
