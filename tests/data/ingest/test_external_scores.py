"""Score files in every format, their columns by name, types of uids, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core import storage
from gdmix_core.data.ingest.external_scores import open_score_files, read_part
from gdmix_core.errors import DataError
from gdmix_core.scoring.score_files import ScoreColumns, write_scores


def config_of(*scores: Path | str, **changes: Any) -> Any:
    coordinates = {
        "trained_elsewhere": {"fixed_effect": {"model": "external", "scores": list(map(str, scores)), **changes}},
        "per_user": {"random_effect": {"entity": "user_id"}, "bag": "per_user"},
    }
    return synthetic.make_config("input", "run", coordinates=coordinates)


def read(*scores: Path | str, uid_type: Any = "integer", **changes: Any) -> dict[Any, float]:
    (files,) = open_score_files(config_of(*scores, **changes))
    found: dict[Any, float] = {}
    for part in files.parts:
        for uid, score in read_part(part, uid_type):
            assert uid.type == (pa.string() if uid_type == "text" else pa.int64())
            found |= dict(zip(uid.to_pylist(), score.to_pylist(), strict=True))
    return found


def write(path: Path, uids: list[Any], scores: list[Any], names: tuple[str, str] = ("uid", "score")) -> Path:
    table = pa.table([pa.array(uids), pa.array(scores, pa.float64())], list(names))
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=3)
    elif path.suffix == ".avro":
        kind = "long" if isinstance(uids[0], int) else "string"
        fields = [{"name": names[0], "type": ["null", kind]}, {"name": names[1], "type": ["null", "double"]}]
        schema = fastavro.parse_schema({"type": "record", "name": "any", "fields": fields})
        with path.open("wb") as file:
            fastavro.writer(file, schema, table.to_pylist())
    else:
        wider = table.add_column(0, "note", pa.array([f"a, note {i}" for i in range(len(uids))]))
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(wider, sink)
        content = sink.getvalue().to_pybytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".avro"])
@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, width=64), min_size=1),
    st.booleans(),
)
def test_every_format_gives_back_what_was_written(tmp_path_factory, suffix, scores, text):
    path = tmp_path_factory.mktemp("scores") / f"part{suffix}"
    uids = [f"id {uid}" for uid in scores] if text else list(scores)
    write(path, uids, list(scores.values()))
    found = read(path, uid_type="text" if text else "integer")
    assert found == dict(zip(uids, scores.values(), strict=True))


def test_files_of_gdmix_and_photon_ml(tmp_path: Path):
    table = pa.table({"uid": [7, 8], "score": [1.5, -2.0], "score_per_coordinate": [1.0, -1.0], "label": [1.0, 0.0]})
    write_scores(str(tmp_path / "gdmix.avro"), table, "gdmix")
    write_scores(str(tmp_path / "photon.avro"), table, "photon")
    # The score of the coordinate alone, where there is one: the data's offset is added to it.
    assert read(tmp_path / "gdmix.avro") == {7: 1.0, 8: -1.0}
    assert read(tmp_path / "gdmix.avro", score="predictionScore") == {7: 1.5, 8: -2.0}
    assert read(tmp_path / "photon.avro") == {7: 1.5, 8: -2.0}
    assert read(tmp_path / "photon.avro", uid_type="text") == {"7": 1.5, "8": -2.0}
    renamed = ScoreColumns(uid="id", score="margin", score_per_coordinate="own")
    write_scores(str(tmp_path / "renamed.avro"), table, "gdmix", renamed)
    assert read(tmp_path / "renamed.avro", uid="id", score="own") == {7: 1.0, 8: -1.0}


def test_folders_several_files_and_spark_folders_named_as_files(tmp_path: Path):
    folder = tmp_path / "scores.parquet"
    folder.mkdir()
    write(folder / "part-0.parquet", [1, 2], [0.1, 0.2])
    write(folder / "part-1.csv", [3], [0.3])
    (folder / "_SUCCESS").touch()
    alone = write(tmp_path / "more.avro", [4], [0.4])
    assert read(folder, alone) == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    with pytest.raises(DataError, match=r"part-1\.csv is named twice"):
        read(folder, folder / "part-1.csv")
    (folder / "notes.txt").write_text("no scores")
    with pytest.raises(DataError, match=r"scores\.parquet: 1 of the names .* beside 2 .*: notes\.txt \("):
        read(folder)


def test_the_folders_of_gdmix_are_read(tmp_path: Path):
    for number in (0, 1):
        (tmp_path / "validation_scores" / f"partitionId={number}").mkdir(parents=True)
        write(tmp_path / "validation_scores" / f"partitionId={number}" / "part-00000.avro", [number], [number / 4])
    assert read(tmp_path / "validation_scores") == {0: 0.0, 1: 0.25}


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz", ".avro"])
def test_files_of_an_object_store(tmp_path: Path, suffix: str):
    url = f"memory://scores-elsewhere/{tmp_path.name}"
    for number in (0, 1):
        path = write(tmp_path / f"part-{number}{suffix}", [number], [number / 4])
        with storage.open_for_write(f"{url}/part-{number}{suffix}") as file:
            file.write(path.read_bytes())
    assert read(url) == {0: 0.0, 1: 0.25}
    assert read(f"{url}/part-1{suffix}") == {1: 0.25}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".avro"])
def test_uids_of_the_other_type(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a{suffix}", ["12", "7"], [1.0, 2.0])
    assert read(path) == {12: 1.0, 7: 2.0}
    path = write(tmp_path / f"b{suffix}", [12, 7], [1.0, 2.0])
    assert read(path, uid_type="text") == {"12": 1.0, "7": 2.0}
    path = write(tmp_path / f"c{suffix}", ["12", "x7"], [1.0, 2.0])
    with pytest.raises(DataError, match=r"c\..*column uid .*the data's uids are integers.*x7"):
        read(path)


def test_uids_of_csv_keep_their_zeros_and_floats_are_integers_where_they_can_be(tmp_path: Path):
    (tmp_path / "zeros.csv").write_text("uid,score\n007,1\nNA,2\n,3\n")
    assert read(tmp_path / "zeros.csv", uid_type="text") == {"007": 1.0, "NA": 2.0, None: 3.0}
    pq.write_table(pa.table({"uid": [1.0, None, 3.0], "score": [1.0, 2.0, 3.0]}), tmp_path / "floats.parquet")
    assert read(tmp_path / "floats.parquet") == {1: 1.0, None: 2.0, 3: 3.0}
    pq.write_table(pa.table({"uid": [1.5], "score": [1.0]}), tmp_path / "half.parquet")
    with pytest.raises(DataError, match="the data's uids are integers"):
        read(tmp_path / "half.parquet")
    words = pa.table({"uid": pa.array(["a", "b", "a"]).dictionary_encode(), "score": pa.array([1, 2, 3], pa.int32())})
    pq.write_table(words, tmp_path / "words.parquet")
    assert read(tmp_path / "words.parquet", uid_type="text") == {"a": 3.0, "b": 2.0}


def test_what_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"scores of coordinate trained_elsewhere: nothing is at .*absent\.csv"):
        read(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"nothing is at .*; expected a file \*\.parquet"):
        read(tmp_path)
    path = write(tmp_path / "names.parquet", [1], [1.0], ("key", "value"))
    with pytest.raises(
        DataError, match=r"no column uid; its columns are key, value\. Name the column so, or set fixed_effect\.uid"
    ):
        read(path)
    with pytest.raises(DataError, match="no column score or predictionScorePerCoordinate or predictionScore"):
        read(path, uid="key")
    with pytest.raises(DataError, match="no column margin"):
        read(path, uid="key", score="margin")
    pq.write_table(pa.table({"uid": [1], "score": ["high"]}), tmp_path / "words.parquet")
    with pytest.raises(DataError, match=r"column score \(string\) holds no numbers"):
        read(tmp_path / "words.parquet")
    (tmp_path / "words.csv").write_text("uid,score\n1,high\n")
    with pytest.raises(DataError, match=r"words\.csv: no readable score file .*high"):
        read(tmp_path / "words.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz", ".avro"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a{suffix}", list(range(400)), [float(i) / 7 for i in range(400)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"a{suffix}"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"a{suffix}: no readable score file"):
        read(path)
