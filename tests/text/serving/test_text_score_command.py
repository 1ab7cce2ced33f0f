"""New data scored with an exported text network beside a random effect, whatever order their features have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gdmix_core.data.feature_list import Feature, FeatureList, write_feature_list
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.scoring.score_input import score_input
from gdmix_core.text.serving.saved_model import write_saved_model
from tests.text.text_model import batch_of, raw_rows, text_model, text_network

ROWS = 40
# What the network was trained on, and the new data's list of it: other features, another order.
KNOWN = {bag: [(bag, str(i)) for i in range(size)] for bag, size in {"context": 3, "tags": 7}.items()}
OF_DATA: dict[str, list[Feature]] = {
    "context": [("context", "2"), ("new", ""), ("context", "0")],
    "tags": [("tags", str(i)) for i in (6, 4, 2, 0, 1, 3, 5)],
}


def lists(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.list_(kind))


def write_data(folder: Path, raw: dict[str, Any]) -> None:
    for bag, names in OF_DATA.items():
        write_feature_list(str(folder / "featureList" / bag), FeatureList(names))
    scalar = {"shape": [], "isSparse": False}
    entries = [{"name": "uid", "dtype": "long", **scalar}]
    entries += [{"name": name, "dtype": "string", **scalar} for name in ("title", "query", "user")]
    entries += [
        {"name": "context", "dtype": "float", "shape": [3], "isSparse": False},
        {"name": "tags", "dtype": "float", "shape": [7], "isSparse": True},
    ]
    (folder / "metadata").mkdir()
    (folder / "metadata" / "tensor_metadata.json").write_text(json.dumps({"features": entries, "labels": []}))
    position = {index: OF_DATA["tags"].index(("tags", str(index))) for index in range(7)}
    there = [row >= 0 for row in raw["tags_indices"]]
    tags = [[position[i] for i in row[kept]] for row, kept in zip(raw["tags_indices"], there, strict=True)]
    values = [row[kept] for row, kept in zip(raw["tags_values"], there, strict=True)]
    context = np.stack([raw["context"][:, 2], np.full(ROWS, 9.0), raw["context"][:, 0]], axis=1)
    table = {
        "uid": pa.array(range(ROWS)),
        "title": pa.array([text or None for text in raw["title"]]),  # absent and empty are the same
        **{name: pa.array(raw[name]) for name in ("query", "user")},
        "context": lists(list(context), pa.float32()),
        "tags_indices": lists(tags, pa.int64()),
        "tags_values": lists(values, pa.float32()),
    }
    (folder / "trainingData").mkdir()
    pq.write_table(pa.table(table), folder / "trainingData" / "a.parquet", row_group_size=15)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3])
def test_scores_of_an_exported_network(tmp_path: Path, classes: int) -> None:
    network = text_network(outputs=classes)
    raw = raw_rows(ROWS)
    folder = tmp_path / "export"
    write_saved_model(network, str(folder / "network" / "saved_model"))
    for bag, names in KNOWN.items():
        write_feature_list(str(folder / "network" / "features" / f"{bag}.csv"), FeatureList(names))
    content = {
        "name": "a",
        "input": "b",
        "output": "c",
        "coordinates": {"network": {"fixed_effect": text_model().model_dump(mode="json", exclude_none=True)}},
        **({"task": "multiclass_classification", "classes": 3} if classes > 1 else {}),
    }
    described = {"kind": "text", "entity": None, "entity_type": None, "bag": None, "data": ".", "models": 1}
    config = parse_config(content).model_dump(mode="json", exclude_none=True)
    manifest = {"config": config, "formats": ["native"], "coordinates": {"network": described}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "input").mkdir()
    write_data(tmp_path / "input", raw)
    score_input(str(folder), str(tmp_path / "input"), str(tmp_path / "scores.parquet"))

    seen = {**raw, "context": raw["context"] * [1.0, 0.0, 1.0]}  # its second feature is none of the new data's
    seen["context"] = seen["context"].astype(np.float32)
    expected = network(batch_of(network, seen), training=False).numpy()
    found = pq.read_table(tmp_path / "scores.parquet")
    assert found["uid"].to_pylist() == list(range(ROWS))
    np.testing.assert_allclose(np.array(found["score"].to_pylist()), expected, atol=1e-5)
    assert found.column_names == ["uid", "score", *(["network"] if classes == 1 else [])]
    assert np.std(expected) > 0.05
