"""Score files of GDMix and Photon ML: as they write them, as we write them, and what is no score file."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdmix_core.errors import ConfigError, DataError
from gdmix_core.scoring.score_files import ScoreColumns, open_scores, read_scores, write_scores

# The schemas as their sources spell them, older GDMix with an integer label.
GDMIX = {
    "name": "validation_result",
    "type": "record",
    "fields": [
        {"name": "uid", "type": "long"},
        {"name": "predictionScore", "type": "float"},
        {"name": "response", "type": ["null", "int"], "default": None},
        {"name": "weight", "type": "float"},
        {"name": "predictionScorePerCoordinate", "type": "float"},
    ],
}
PHOTON = {
    "name": "ScoringResultAvro",
    "namespace": "com.linkedin.photon.avro.generated",
    "type": "record",
    "fields": [
        {"name": "uid", "type": ["null", "string"], "default": None},
        {"name": "label", "type": ["null", "double"], "default": None},
        {"name": "modelId", "type": "string"},
        {"name": "predictionScore", "type": "double"},
        {"name": "weight", "type": ["null", "double"], "default": None},
        {"name": "metadataMap", "type": ["null", {"type": "map", "values": "string"}], "default": None},
    ],
}
RESPONSE = ScoreColumns(label="response")


def write(path: Path, schema: Any, records: list[dict[str, Any]]) -> str:
    with open(path, "wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), records)
    return str(path)


def records(path: str) -> list[Any]:
    with open(path, "rb") as file:
        return list(fastavro.reader(file))


def test_a_file_by_gdmix(tmp_path: Path) -> None:
    rows = [(7, 0.5, 1, 0.25, -1.5), (3, -2.0, None, 1.0, 0.0)]
    names = [field["name"] for field in GDMIX["fields"]]  # type: ignore[index]
    path = write(tmp_path / "part-00000.avro", GDMIX, [dict(zip(names, row, strict=True)) for row in rows])
    assert read_scores(path, RESPONSE).to_pydict() == {
        "uid": [7, 3],
        "score": [0.5, -2.0],
        "score_per_coordinate": [-1.5, 0.0],
        "label": [1.0, None],
        "weight": [0.25, 1.0],
    }


def test_files_by_photon(tmp_path: Path) -> None:
    first = {"uid": "a", "label": 1.0, "modelId": "m", "predictionScore": 0.1, "weight": 2.0, "metadataMap": {"u": "5"}}
    second = {"uid": None, "label": None, "modelId": "m", "predictionScore": 0.2, "weight": None, "metadataMap": None}
    paths = [write(tmp_path / f"part-{n}.avro", PHOTON, [row]) for n, row in enumerate((first, second))]
    assert read_scores(paths).to_pydict() == {
        "uid": ["a", None],
        "score": [0.1, 0.2],
        "score_per_coordinate": [None, None],
        "label": [1.0, None],
        "weight": [2.0, None],
    }


def test_weights_are_not_cut_to_integers(tmp_path: Path) -> None:
    """As GDMix's fixed effect does."""
    path = str(tmp_path / "scores.avro")
    table = pa.table({"uid": [1, 2], "score": [0.5, 1.5], "label": [0.0, 1.0], "weight": [0.5, 1.25]})
    write_scores(path, table, "gdmix", RESPONSE)
    assert records(path) == [
        {"uid": 1, "predictionScore": 0.5, "response": 0.0, "weight": 0.5},
        {"uid": 2, "predictionScore": 1.5, "response": 1.0, "weight": 1.25},
    ]
    with open(path, "rb") as file:
        schema: Any = fastavro.reader(file).writer_schema
    assert schema["name"] == "validation_result"
    types = {field["name"]: field["type"] for field in schema["fields"]}
    assert types == {"uid": "long", "predictionScore": "float", "response": ["null", "float"], "weight": "float"}


def test_photons_records(tmp_path: Path) -> None:
    path = str(tmp_path / "scores.avro")
    table = pa.table({"uid": [1, None], "score": [0.1, 0.2], "weight": [0.5, None]})
    write_scores(path, table, "photon", model_id="best")
    nothing = {"label": None, "metadataMap": None, "modelId": "best"}
    assert records(path) == [
        {"uid": "1", "predictionScore": 0.1, "weight": 0.5, **nothing},
        {"uid": None, "predictionScore": 0.2, "weight": None, **nothing},
    ]
    with open(path, "rb") as file:
        schema: Any = fastavro.reader(file).writer_schema
    assert schema["name"] == "com.linkedin.photon.avro.generated.ScoringResultAvro"
    assert [(f["name"], f["type"]) for f in schema["fields"]] == [(f["name"], f["type"]) for f in PHOTON["fields"]]  # type: ignore[index]


numbers = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
longs = st.integers(-(2**63), 2**63 - 1)


def same(found: pa.Table, expected: list[tuple[Any, ...]]) -> None:
    rows = list(zip(*found.to_pydict().values(), strict=True))
    assert rows == expected
    # Equal floats may still differ in the sign of zero.
    assert [struct.pack("d", r[1]) for r in rows] == [struct.pack("d", r[1]) for r in expected]


@given(
    st.lists(st.tuples(st.none() | st.text(), numbers, st.none(), st.none() | numbers, st.none() | numbers)),
    st.integers(1, 3),
)
def test_photon_round_trip(rows: list[tuple[Any, ...]], batch: int) -> None:
    round_trip(rows, batch, "photon", pa.string())


@given(
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(longs, singles, singles, st.none() | singles, singles)),
    st.integers(1, 3),
)
def test_gdmix_round_trip(per_coordinate: bool, weighted: bool, rows: list[tuple[Any, ...]], batch: int) -> None:
    rows = [(u, s, p if per_coordinate else None, label, w if weighted else None) for u, s, p, label, w in rows]
    round_trip(rows, batch, "gdmix", pa.int64())


def round_trip(rows: list[tuple[Any, ...]], batch: int, kind: Any, uid: pa.DataType) -> None:
    schema = pa.schema(
        [("uid", uid), *((n, pa.float64()) for n in ("score", "score_per_coordinate", "label", "weight"))]
    )
    table = pa.table([pa.array([row[k] for row in rows], f.type) for k, f in enumerate(schema)], schema)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/scores.avro"
        with open_scores(path, kind) as writer:
            for first in range(0, len(rows), batch):
                writer.write(table.slice(first, batch))
        found = read_scores(path)
    assert found.schema == schema
    same(found, rows)


def test_integer_uids_of_photon(tmp_path: Path) -> None:
    table = pa.table({"uid": ["5", None], "score": [0.1, 0.2]})
    path = str(tmp_path / "scores.avro")
    write_scores(path, table, "photon")
    assert read_scores(path, integer_uids=True)["uid"].to_pylist() == [5, None]
    write_scores(path, pa.table({"uid": ["x"], "score": [0.1]}), "photon")
    with pytest.raises(DataError, match=r"scores.avro: a uid is no integer"):
        read_scores(path, integer_uids=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"uid": ["a"], "score": [0.5]}, "integer uids only"),
        ({"uid": [None, 2], "score": [0.5, 0.5]}, "integer uids only"),
        ({"uid": [1, 2], "score": [0.5, 0.5], "weight": [1.0, None]}, "1 of 2 rows have a weight"),
        ({"uid": [1, 2], "score": [0.5, None]}, "1 rows have no score"),
    ],
)
def test_what_gdmixs_files_cannot_hold(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_scores(str(tmp_path / "scores.avro"), pa.table(columns), "gdmix")
    assert not (tmp_path / "scores.avro").exists()


def test_a_weight_that_comes_later(tmp_path: Path) -> None:
    with open_scores(str(tmp_path / "scores.avro"), "gdmix") as writer:
        writer.write(pa.table({"uid": [1], "score": [0.5]}))
        with pytest.raises(DataError, match="1 of 1 rows have a weight"):
            writer.write(pa.table({"uid": [2], "score": [0.5], "weight": [1.0]}))


def test_columns_under_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro", GDMIX, [])
    with pytest.raises(DataError, match=r"a.avro: what is response\? Name the columns"):
        read_scores(path)
    with pytest.raises(
        DataError, match="no score file with columns uid and logit; its fields are uid, predictionScore"
    ):
        read_scores(path, ScoreColumns(score="logit"))


def test_no_score_files(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("uid,score\n")
    with pytest.raises(DataError, match="text: damaged, or no Avro file"):
        read_scores(str(tmp_path / "text"))
    path = write(tmp_path / "a.avro", GDMIX, [dict.fromkeys(("uid", "weight", "predictionScore",
                 "predictionScorePerCoordinate"), 1)] * 50)  # fmt: skip
    Path(path).write_bytes(Path(path).read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged"):
        read_scores(path, RESPONSE)
    with pytest.raises(DataError, match="no such file"):
        read_scores(str(tmp_path / "absent"))


def test_files_with_uids_of_either_kind(tmp_path: Path) -> None:
    """As gdmix score writes them where one split alone has a uid above 2⁶³ − 1."""
    paths = [str(tmp_path / name) for name in ("a.avro", "b.avro")]
    for path, uid in zip(paths, (5, 2**63), strict=True):
        write_scores(path, pa.table({"uid": pa.array([uid], pa.uint64()), "score": [0.5]}), "gdmix")
    with pytest.raises(DataError, match="uids are strings in some files and integers in others"):
        read_scores(paths)
    assert read_scores(paths, integer_uids=True)["uid"].to_pylist() == [5, 2**63]
    with pytest.raises(DataError, match="no score files are given"):
        read_scores([])


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"uid": [b"a"], "score": [0.5]}, "photon", "uids must be integers or strings, not binary"),
        ({"uid": [1.0], "score": [0.5]}, "photon", "uids must be integers or strings, not double"),
        ({"uid": [1], "score": [float("nan")]}, "photon", "1 scores are not finite"),
        ({"uid": [1], "score": [1e300]}, "gdmix", "1 scores are not finite numbers of the format"),
    ],
)
def test_what_no_score_file_holds(tmp_path: Path, columns: Any, kind: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_scores(str(tmp_path / "s.avro"), pa.table(columns), kind)
    assert not (tmp_path / "s.avro").exists()
    with pytest.raises(ConfigError, match="kind must be one of gdmix, photon, not 'foo'"):
        write_scores(str(tmp_path / "s.avro"), pa.table({"uid": [1], "score": [0.5]}), "foo")  # type: ignore[arg-type]
