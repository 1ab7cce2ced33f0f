"""tensor_metadata.json: what is read of it and what every malformed entry is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic_input as synthetic

from gdmix_core.data.ingest.metadata import Tensor, read_metadata
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.errors import DataError


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("dtype", ["int", "long", "float", "double", "string", "bytes", "byte"])
def test_types(tmp_path: Path, dtype):
    path = write(tmp_path / "m.json", {"features": [{"name": "x", "dtype": dtype}], "extra": 1})
    kind = {"int": "integer", "long": "integer", "float": "real", "double": "real"}.get(dtype, "text")
    assert read_metadata(path) == {"x": Tensor("x", dtype, None, False)}
    assert read_metadata(path)["x"].type == kind


def test_features_and_labels_together(tmp_path: Path):
    sparse = {"name": "bag", "dtype": "float", "shape": [7], "isSparse": True, "unknown": {}}
    label = {"name": "y", "dtype": "int", "shape": [], "isSparse": False}
    found = read_metadata(write(tmp_path / "m.json", {"features": [sparse], "labels": [label]}))
    assert found == {"bag": Tensor("bag", "float", 7, True), "y": Tensor("y", "int", None, False)}


ENTRY = {"name": "x", "dtype": "float", "shape": [3], "isSparse": True}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ([], "expected an object"),
        ({"features": {}}, "features must be a list"),
        ({"labels": 3}, "labels must be a list"),
        ({"features": [ENTRY, 3]}, r"features\[1\]: must be an object"),
        ({"features": [{"dtype": "int"}]}, r"features\[0\]: name must be a string"),
        ({"features": [{**ENTRY, "name": ""}]}, "name must be a string"),
        ({"features": [{**ENTRY, "dtype": "float32"}]}, r"\(x\): dtype 'float32' is not known; use one of int, long"),
        ({"features": [{**ENTRY, "dtype": ["int"]}]}, "dtype .* is not known"),
        ({"features": [{**ENTRY, "dtype": None}]}, "dtype None is not known"),
        ({"features": [{**ENTRY, "shape": 3}]}, "shape must be a list of positive integers"),
        ({"features": [{**ENTRY, "shape": [0]}]}, "shape must be a list of positive integers"),
        ({"features": [{**ENTRY, "shape": [True]}]}, "shape must be a list of positive integers"),
        ({"features": [{**ENTRY, "shape": [2, 3]}]}, "2 dimensions; only scalars and vectors"),
        ({"features": [{**ENTRY, "isSparse": "yes"}]}, "isSparse must be true or false"),
        ({"features": [{**ENTRY, "shape": []}]}, "a sparse column needs a shape"),
        ({"features": [ENTRY], "labels": [ENTRY]}, r"labels\[0\]: column x is described twice"),
    ],
)
def test_malformed(tmp_path: Path, content, words):
    path = write(tmp_path / "m.json", content)
    with pytest.raises(DataError, match=words) as error:
        read_metadata(path)
    assert path in str(error.value)


def test_absent(tmp_path: Path):
    with pytest.raises(DataError, match=r"m\.json: no such file"):
        read_metadata(str(tmp_path / "m.json"))


# What the pipeline needs of the metadata, the feature lists and the files

ROWS = synthetic.make_rows(10)


def change(name: str, **keys: Any) -> dict[str, Any]:
    return synthetic.describe(ROWS, **{name: keys})


def without(name: str) -> dict[str, Any]:
    content = synthetic.describe(ROWS)
    return {part: [e for e in entries if e["name"] != name] for part, entries in content.items()}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (without("uid"), r"column uid \(columns\.uid\) is not described; did you mean user_id\? Described are: "),
        (change("uid", dtype="float"), "uid column uid must be an integer or string scalar"),
        (change("uid", shape=[2]), "uid column uid must be an integer or string scalar"),
        (without("response"), r"column response \(columns\.label\) is not described\. Described are: uid, "),
        (change("response", dtype="string"), "label column response must be a number"),
        (without("weight"), r"column weight \(columns\.weight\) is not described"),
        (change("weight", shape=[2]), "weight column weight must be a number"),
        (without("offset"), r"column offset \(columns\.offset\) is not described"),
        (without("user_id"), r"column user_id \(the entity of coordinate per_user\) is not described"),
        (change("user_id", dtype="double"), r"column user_id .* must be an integer or string scalar"),
        (without("global"), r"bag global \(read by coordinate global\) is not described"),
        (change("global", dtype="string"), "bag global must be a vector of numbers"),
        (change("global", shape=[], isSparse=False), "bag global must be a vector of numbers"),
        (change("global", shape=[7]), r"featureList/global: 6 features, .* shape \[7\]"),
    ],
)
def test_columns_that_do_not_fit_the_configuration(tmp_path: Path, metadata, words):
    source = synthetic.write_directory(tmp_path / "input", ROWS, metadata=metadata)
    with pytest.raises(DataError, match=words):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def test_everything_that_is_not_described_is_named_with_what_it_may_have_been(tmp_path: Path):
    renamed = {"response": "responses", "user_id": "userid", "per_user": "per_users"}
    content = synthetic.describe(ROWS)
    for entry in (entry for entries in content.values() for entry in entries):
        entry["name"] = renamed.get(entry["name"], entry["name"])
    source = synthetic.write_directory(tmp_path / "input", ROWS, metadata=content)
    with pytest.raises(DataError) as error:
        open_layout(synthetic.make_config(source, tmp_path / "run", metrics=["auc", "auc@session"]))
    metadata = str(source / "metadata" / "tensor_metadata.json")
    assert [line.partition(" Described are: uid, ")[0] for line in str(error.value).splitlines()] == [
        f"{metadata}: column response (columns.label) is not described; did you mean responses?",
        f"{metadata}: column user_id (the entity of coordinate per_user) is not described; did you mean userid?",
        f"{metadata}: column session (the group of metric auc@session) is not described.",
        f"{metadata}: bag per_user (read by coordinate per_user) is not described; did you mean per_users?",
    ]


def test_features_listed_twice(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "featureList" / "global").write_text("a,b\na,c\na,b\nd,\ne,\nf,\n")
    with pytest.raises(DataError, match="featureList/global: features listed twice"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def test_no_feature_list(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "featureList" / "global").unlink()
    with pytest.raises(DataError, match="featureList/global: no such file"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def test_no_training_files(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "trainingData" / "part-000.tfrecord").unlink()
    with pytest.raises(DataError, match=r"trainingData: no training files; expected \*\.tfrecord"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def test_a_parquet_file_that_is_none(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    (source / "trainingData" / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet: not a readable Parquet file"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


def two_directories(tmp_path: Path, second: dict[str, Any], **changes: Any) -> Any:
    first = {k: v for k, v in ROWS.items() if k != "per_user"}
    synthetic.write_directory(tmp_path / "input" / "a", first, changes.pop("validation", None))
    synthetic.write_directory(tmp_path / "input" / "b", second)
    coordinates = {
        "global": {"fixed_effect": {}, "bag": "global", "data": "a"},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user", "data": "b"},
    }
    return synthetic.make_config(tmp_path / "input", tmp_path / "run", coordinates=coordinates)


def test_uids_of_two_types(tmp_path: Path):
    second = synthetic.as_text({k: ROWS[k] for k in ("uid", "user_id", "per_user")}, "uid")
    with pytest.raises(DataError, match="uid column uid is string, but long in"):
        open_layout(two_directories(tmp_path, second))


def test_validation_in_one_directory_only(tmp_path: Path):
    config = two_directories(tmp_path, {k: ROWS[k] for k in ("uid", "user_id", "per_user")}, validation=ROWS)
    with pytest.raises(DataError, match=r"/b: has no validation files, but other coordinates have"):
        open_layout(config)


def test_the_fingerprint_follows_the_files(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", ROWS)
    config = synthetic.make_config(source, tmp_path / "run")
    first = open_layout(config).fingerprint
    assert open_layout(config).fingerprint == first
    (source / "featureList" / "global").write_text("".join(f"renamed{i},\n" for i in range(6)))
    renamed = open_layout(config).fingerprint
    synthetic.write_file(source / "trainingData" / "more.tfrecord", ROWS)
    assert len({first, renamed, open_layout(config).fingerprint}) == 3
