"""Columns of texts and ids on their way through validate: absent, empty, twice in use, in both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from pydantic import ValidationError

from gdmix_core.data.frame import Frame
from gdmix_core.data.ingest.record_checks import checks_of
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.errors import DataError

ROWS = 60


def config_of(source: Path, output: Path, *columns: str, **changes: Any) -> Any:
    coordinates = {
        "network": {"fixed_effect": {"model": "python", "function": "some.module:train", "columns": list(columns)}},
        "per_user": {"random_effect": {"entity": "user_id", "shards": 2}, "bag": "per_user"},
    }
    return synthetic.make_config(source, output, **({"coordinates": coordinates} | changes))


def texts(rows: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["", "a", "Zürich", "naïve\tTab", "日本語", "twenty words of it"]
    return [" ".join(rng.choice(words, rng.integers(0, 4))) for _ in range(rows)]


def rows_with_texts(rows: int = ROWS, first_uid: int = 1000, **changes: Any) -> dict[str, Any]:
    made = {n: column for n, column in synthetic.make_rows(rows, first_uid=first_uid).items() if n != "global"}
    return {**made, "title": texts(rows), "category": np.arange(rows) % 5, **changes}


@pytest.mark.parametrize("suffix", [".tfrecord", ".parquet"])
def test_texts_and_ids_lie_in_the_frame(spark: None, tmp_path: Path, suffix: str):
    rows = rows_with_texts()
    source = synthetic.write_directory(tmp_path / "input", rows, rows_with_texts(20, 9000), suffix=suffix, files=2)
    run = synthetic.validate(
        config_of(source, tmp_path / "run", "title", "category", "user_id", frame={"rows_per_block": 25})
    )
    frame = Frame(run)
    assert frame.manifest["ids"] == {"user_id": "integer", "title": "text", "category": "integer"}
    order = np.argsort(rows["uid"])
    assert frame.ids("training", "title").to_pylist() == [rows["title"][i] for i in order]
    assert frame.ids("training", "user_id").to_pylist() == rows["user_id"][order].tolist()
    assert frame.ids("training", "category").to_pylist() == rows["category"][order].tolist()
    assert frame.ids("validation", "title").type == pa.string()
    assert len(frame.ids("validation", "title")) == 20


def test_an_absent_text_is_empty_but_an_absent_integer_or_entity_breaks_a_rule(spark: None, tmp_path: Path):
    rows = as_text_entities(rows_with_texts())
    source = synthetic.write_directory(tmp_path / "input", rows, suffix=".parquet")
    (path,) = (source / "trainingData").iterdir()
    table = pq.read_table(path).sort_by("uid")
    whole = table
    lacking = {"title": [0, 1, 2], "category": [10, 11], "user_id": [20]}
    for name, positions in lacking.items():
        values = table[name].to_pylist()
        for position in positions:
            values[position] = None
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, table[name].type))
    pq.write_table(table, path)
    # Records that do not have the column at all; of a Parquet file, its schema would say so, which is an error.
    more = {name: column for name, column in rows.items() if name != "title"} | {"uid": np.arange(5000, 5000 + ROWS)}
    synthetic.write_file(source / "trainingData" / "more.tfrecord", more)
    drop = {"on_error": "drop", "max_dropped": 1.0}
    run = synthetic.validate(config_of(source, tmp_path / "run", "title", "category", "user_id", checks=drop))
    report = synthetic.report_of(run)
    broken = {name: check["broken"] for name, check in report["checks"].items() if check["broken"]}
    assert broken == {"category.present": 2, "user_id.present": 1}
    assert "title.present" not in report["checks"]
    titles = Frame(run).ids("training", "title").to_pylist()
    assert titles[:3] == ["", "", ""]
    assert titles[3:10] == whole["title"].to_pylist()[3:10]
    assert titles[-ROWS:] == [""] * ROWS
    assert len(titles) == 2 * ROWS - 3


def as_text_entities(rows: dict[str, Any]) -> dict[str, Any]:
    return synthetic.as_text(rows, "user_id")


def test_a_field_is_taken_from_its_coordinates_directory(spark: None, tmp_path: Path):
    rows = rows_with_texts()
    synthetic.write_directory(tmp_path / "input" / "a", {k: v for k, v in rows.items() if k != "title"})
    synthetic.write_directory(tmp_path / "input" / "b", {k: rows[k] for k in ("uid", "title")})
    coordinates = {
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user", "data": "a"},
        "network": {"fixed_effect": {"model": "python", "function": "m:f", "columns": ["title"]}, "data": "b"},
    }
    run = synthetic.validate(config_of(tmp_path / "input", tmp_path / "run", coordinates=coordinates))
    order = np.argsort(rows["uid"])
    assert Frame(run).ids("training", "title").to_pylist() == [rows["title"][i] for i in order]


def test_a_column_that_is_not_described_or_no_scalar_names_the_coordinate(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", rows_with_texts(5, label=np.arange(5)))
    for column, message in (
        ("headline", r"column headline \(a field of coordinate network\) is not described\. Described are: uid, "),
        ("per_user", r"column per_user \(a field of coordinate network\) must be an integer or string scalar"),
        ("label", r"column label \(a field of coordinate network\) has a name that the frame keeps"),
    ):
        with pytest.raises(DataError, match=message):
            open_layout(config_of(source, tmp_path / "run", column))
    with pytest.raises(ValidationError, match=r"reads weight, which is columns\.weight"):
        config_of(source, tmp_path / "run", "weight")


def test_the_group_of_a_ranking_loss_is_strict_and_not_needed_to_score(tmp_path: Path):
    rows = rows_with_texts(5, search=[f"s{i}" for i in range(5)])
    source = synthetic.write_directory(tmp_path / "input", rows)
    network = {"model": "text", "document": ["title"], "loss": "pairwise", "group": "search"}
    coordinates = {
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user"},
        "network": {"fixed_effect": network},
    }
    config = config_of(source, tmp_path / "run", coordinates=coordinates, passes={"max": 1}, metrics=["auc"])
    (directory,) = open_layout(config).sources
    assert (directory.ids, directory.texts) == (("user_id", "search", "title"), ("title",))
    names = [check.name for check in checks_of(directory, config)]
    assert "search.present" in names
    assert "title.present" not in names
    (directory,) = open_layout(config, labelled=False).sources
    assert directory.ids == ("user_id", "title")
