"""A whole run over ids above 2⁶³, as uids, entities and groups, against the same run over small ids: shards, models in
both formats, scores in every format, initial models and external scores keep every id and every number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from run_directory import Rows, make_run, walk

from gdmix_core.config.external import ExternalModel
from gdmix_core.data.ingest.external_scores import open_scores_of, read_part
from gdmix_core.data.shards import read_entities
from gdmix_core.errors import DataError
from gdmix_core.models.avro.files import read_avro
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run
from gdmix_core.scoring.score_files import ScoreColumns, open_scores, read_scores, write_scores
from gdmix_core.scoring.score_input import score_input

BASE = 2**64 - 2000
DATA = synthetic.make_rows(200, seed=1, first_uid=0)
DATA["user_id"] = (DATA["user_id"] + 3) // 7  # from 0
COORDINATES: dict[str, Any] = {
    "global": {"fixed_effect": {}, "bag": "global"},
    "per_user": {"random_effect": {"entity": "user_id", "shards": 1}, "bag": "per_user"},
}
NAMES = {name: [(f"{name}_{i}", "") for i in range(size)] for name, size in synthetic.FEATURES.items()}


def ids(values: np.ndarray, *, large: bool) -> pa.Array:
    return pa.array(values.astype(np.uint64) + np.uint64(BASE)) if large else pa.array(values, pa.int64())


def run_over(root: Path, *, large: bool, **changes: Any) -> Run:
    order = np.argsort(DATA["uid"])
    bags = {name: synthetic.dense(DATA[name], size)[order] for name, size in synthetic.FEATURES.items()}
    rows = Rows(
        DATA["response"][order],
        uid=ids(DATA["uid"][order], large=large),
        ids={"user_id": ids(DATA["user_id"][order], large=large)},
        bags=bags,
    )
    config = {
        "columns": {"label": "response"},
        "coordinates": COORDINATES,
        "metrics": ["auc", "auc@user_id"],
        "export": {"formats": ["native", "avro"]},
        **changes,
    }
    run = make_run(root, config, rows, rows, feature_names=NAMES)
    walk(run)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Run]:
    return {large: run_over(tmp_path_factory.mktemp(f"large_{large}"), large=large) for large in (False, True)}


def source_of(root: Path, *, large: bool) -> str:
    """The rows in Parquet, to be scored."""
    synthetic.write_directory(root, {name: DATA[name] for name in synthetic.COLUMNS}, suffix=".parquet")
    for path in (root / "trainingData").glob("*.parquet"):
        table = pq.read_table(path)
        for name in ("uid", "user_id"):
            column = ids(table[name].to_numpy(), large=large)
            table = table.set_column(table.column_names.index(name), name, column)
        pq.write_table(table, path)
    return str(root)


def large(values: list[int]) -> list[int]:
    return [value + BASE for value in values]


def test_models_and_metrics_are_those_of_small_ids(runs: dict[bool, Run]) -> None:
    small, big = (read_model(runs[k].path("export", "per_user", "shard-00000.parquet")) for k in (False, True))
    assert big.entities.type == pa.uint64()
    assert big.entities.to_pylist() == large(small.entities.to_pylist())
    np.testing.assert_array_equal(big.means, small.means)
    assert runs[True].result("select")["metrics"] == runs[False].result("select")["metrics"]
    (table,) = read_entities(runs[True], "per_user", "training", 0, 10**6)
    assert table["entity"].type == pa.uint64()
    by_avro = read_avro(runs[True].path("export", "per_user", "part-00000.avro"), unsigned_entities=True).table
    assert by_avro.entities.equals(big.entities)
    with open(runs[True].path("export", "per_user", "part-00000.avro"), "rb") as file:
        assert [r["modelId"] for r in fastavro.reader(file)] == [str(e) for e in big.entities.to_pylist()]
    with pytest.raises(DataError, match=r"modelId '1844.*' is no plain 64-bit integer"):
        read_avro(runs[True].path("export", "per_user", "part-00000.avro"), integer_entities=True)


@pytest.mark.parametrize("kind", ["native", "avro"])
def test_scores_in_every_format(runs: dict[bool, Run], tmp_path: Path, kind: Any) -> None:
    sources = {k: source_of(tmp_path / f"in_{k}", large=k) for k in (False, True)}
    small, big = str(tmp_path / "small.parquet"), str(tmp_path / "big.parquet")
    assert score_input(runs[False].path("export"), sources[False], small, kind=kind) == (200, {"per_user": 0})
    assert score_input(runs[True].path("export"), sources[True], big, kind=kind) == (200, {"per_user": 0})
    expected, found = pq.read_table(small), pq.read_table(big)
    assert found["uid"].type == pa.uint64()
    assert found["uid"].to_pylist() == large(expected["uid"].to_pylist())
    assert found["score"].equals(expected["score"])
    for scores, uid in (("gdmix", "string"), ("photon", "string")):
        path = str(tmp_path / f"{scores}.avro")
        score_input(runs[True].path("export"), sources[True], path, kind=kind, scores=scores)  # type: ignore[arg-type]
        columns = ScoreColumns(label="response")
        assert read_scores(path, columns)["uid"].type == uid
        table = read_scores(path, columns, integer_uids=True)
        assert table["uid"].to_pylist() == found["uid"].to_pylist()
        assert table["score"].cast(pa.float32()).equals(found["score"])


def test_models_of_small_ids_and_data_of_large_ones_and_the_other_way_round(
    runs: dict[bool, Run], tmp_path: Path
) -> None:
    """Ids are compared by value: none of the others' is known, and an unsigned 5 is the signed 5."""
    for k in (False, True):
        source = source_of(tmp_path / f"in_{k}", large=not k)
        rows, unknown = score_input(runs[k].path("export"), source, str(tmp_path / "s.parquet"))
        assert (rows, unknown) == (200, {"per_user": 200})
    source = source_of(tmp_path / "same", large=False)
    for path in (tmp_path / "same" / "trainingData").glob("*.parquet"):
        table = pq.read_table(path)
        at = table.column_names.index("user_id")
        pq.write_table(table.set_column(at, "user_id", table["user_id"].cast(pa.uint64())), path)
    assert score_input(runs[False].path("export"), source, str(tmp_path / "s.parquet"))[1] == {"per_user": 0}


def test_long_uids_stay_long_where_they_fit(tmp_path: Path) -> None:
    table = pa.table({"uid": pa.array([0, 2**63 - 1], pa.uint64()), "score": [1.0, 2.0]})
    write_scores(str(tmp_path / "s.avro"), table, "gdmix")
    assert read_scores(str(tmp_path / "s.avro"))["uid"].to_pylist() == [0, 2**63 - 1]
    assert read_scores(str(tmp_path / "s.avro"))["uid"].type == pa.int64()
    beyond = table.set_column(0, "uid", pa.array([0, 2**63], pa.uint64()))
    write_scores(str(tmp_path / "t.avro"), beyond, "gdmix")
    assert read_scores(str(tmp_path / "t.avro"))["uid"].to_pylist() == ["0", str(2**63)]
    with (
        pytest.raises(DataError, match=r"uid 9223372036854775808 is above what the long .* text_uids"),
        open_scores(str(tmp_path / "u.avro"), "gdmix") as writer,
    ):
        writer.write(beyond)
    assert not (tmp_path / "u.avro").exists()


@pytest.mark.parametrize("kind", ["native", "avro"])
def test_a_run_starts_from_models_of_large_ids(runs: dict[bool, Run], tmp_path: Path, kind: str) -> None:
    found = {}
    for k in (False, True):
        export = Path(runs[k].path("export"))
        named = {"coordinates": {name: str(export / name / "part-00000.avro") for name in COORDINATES}}
        again = run_over(tmp_path / str(k), large=k, initial_model={"path": str(export)} if kind == "native" else named)
        assert again.result("initialize")["coordinates"]["per_user"]["models"] == len(set(DATA["user_id"].tolist()))
        found[k] = read_model(again.path("export", "per_user", "shard-00000.parquet"))
    assert found[True].entities.to_pylist() == large(found[False].entities.to_pylist())
    np.testing.assert_array_equal(found[True].means, found[False].means)
    before = read_model(runs[True].path("export", "per_user", "shard-00000.parquet"))
    assert not np.array_equal(found[True].means, before.means)


def test_models_of_large_ids_do_not_fit_a_column_of_small_ones(runs: dict[bool, Run], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="entities do not fit the entity column, which is int64 here"):
        run_over(tmp_path, large=False, initial_model={"path": runs[True].path("export")})


@pytest.mark.parametrize("form", ["parquet", "csv", "avro", "text"])
def test_external_scores_are_joined_by_the_exact_uid(tmp_path: Path, form: str) -> None:
    uids = [2**64 - 1, 2**64 - 2, 2**53 + 1]
    path = tmp_path / f"s.{'parquet' if form == 'text' else form}"
    table = pa.table({"uid": pa.array(uids, pa.uint64()), "score": [1.0, 2.0, 3.0]})
    if form == "parquet":
        pq.write_table(table, path)
    elif form == "text":
        pq.write_table(table.set_column(0, "uid", table["uid"].cast(pa.string()).dictionary_encode()), path)
    elif form == "csv":
        mark = b"\xef\xbb\xbf"
        path.write_bytes(mark + b"uid,score\n" + b"".join(b"%d,%d\n" % (u, k + 1) for k, u in enumerate(uids)))
    else:
        write_scores(str(path), table, "gdmix")
    assert read_external(path) == dict(zip(uids, [1.0, 2.0, 3.0], strict=True))


def read_external(path: Path) -> dict[int, float]:
    from gdmix_core.pipeline.loading import parse_config

    coordinate = {"fixed_effect": {"model": "external", "scores": [str(path)]}}
    config = parse_config(
        {"name": "x", "input": "in", "output": "out", "coordinates": {**COORDINATES, "e": coordinate}}
    )
    model = config.coordinates["e"].fixed_effect
    assert isinstance(model, ExternalModel)
    found: dict[int, float] = {}
    for part in open_scores_of("e", model, config).parts:
        for uid, score in read_part(part, "unsigned"):
            assert uid.type == pa.uint64()
            found |= dict(zip(uid.to_pylist(), score.to_pylist(), strict=True))
    return found


def test_uids_that_became_doubles_are_refused_where_they_are_not_exact(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    for largest, fine in ((2.0**53 - 1, True), (2.0**53, False)):
        pq.write_table(pa.table({"uid": pa.array([1.0, largest, None]), "score": [1.0, 2.0, 3.0]}), path)
        if fine:
            assert read_external(path) == {1: 1.0, 2**53 - 1: 2.0, None: 3.0}
        else:
            with pytest.raises(
                DataError, match=r"uid .double. holds 9007199254740992, .*several uids may have become one"
            ):
                read_external(path)
