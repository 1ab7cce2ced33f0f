"""`gdmix score` into the score files of GDMix and Photon ML, from a model and data on disk."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from click.testing import CliRunner
from run_directory import Rows, make_run, walk

from gdmix_core.cli.command import main
from gdmix_core.data.ingest.external_scores import ScorePart, read_part
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.scoring.score_files import ScoreColumns, read_scores
from gdmix_core.scoring.score_input import score_input

COLUMNS = ScoreColumns(label="response")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An export of a fixed effect and a random one, over the features of synthetic_input."""
    data = synthetic.make_rows(200, seed=1)
    bags = {name: synthetic.dense(data[name], size) for name, size in synthetic.FEATURES.items()}
    rows = Rows(data["response"], data["weight"], data["offset"], ids={"user_id": data["user_id"]}, bags=bags)
    config = {
        "columns": {"label": "response", "weight": "weight", "offset": "offset"},
        "coordinates": {
            "global": {"fixed_effect": {}, "bag": "global"},
            "per_user": {"random_effect": {"entity": "user_id", "shards": 2}, "bag": "per_user"},
        },
    }
    names = {name: [(f"{name}_{i}", "") for i in range(size)] for name, size in synthetic.FEATURES.items()}
    run = make_run(tmp_path_factory.mktemp("model"), config, rows, feature_names=names)
    walk(run)
    return run.path("export")


DATA = synthetic.make_rows(90, seed=2)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(synthetic.write_directory(tmp_path / "input", DATA))


def by_uid(table: Any) -> dict[Any, dict[str, Any]]:
    return {row["uid"]: row for row in table.to_pylist()}


@pytest.mark.parametrize("scores", ["gdmix", "photon"])
def test_the_scores_of_parquet_with_labels_weights_and_offsets(model: str, source: str, tmp_path: Path, scores):
    plain, avro = str(tmp_path / "s.parquet"), str(tmp_path / "s.avro")
    score_input(model, source, plain)
    output = CliRunner().invoke(
        main, ["score", "--model", model, "--input", source, "--output", avro, "--scores", scores]
    )
    assert output.exit_code == 0, output.output
    assert output.output.startswith("90 rows scored")
    expected, found = by_uid(pq.read_table(plain)), by_uid(read_scores(avro, COLUMNS, integer_uids=True))
    assert found.keys() == expected.keys()
    for row, uid in enumerate(DATA["uid"].tolist()):
        assert found[uid]["score"] == expected[uid]["score"]
        assert found[uid]["label"] == DATA["response"][row]
        assert found[uid]["weight"] == DATA["weight"][row]
        own = expected[uid]["global"] + expected[uid]["per_user"]
        if scores == "gdmix":
            assert found[uid]["score_per_coordinate"] == pytest.approx(own, abs=1e-5)


def test_data_without_labels_have_none(model: str, tmp_path: Path):
    data = {name: column for name, column in DATA.items() if name not in ("response", "weight")}
    source = synthetic.write_directory(tmp_path / "input", data)
    score_input(model, str(source), str(tmp_path / "s.avro"), scores="gdmix")
    found = read_scores(str(tmp_path / "s.avro"), COLUMNS)
    assert found["label"].null_count == found["weight"].null_count == 90


def test_labels_that_are_described_and_absent_or_illegal_are_no_error(model: str, tmp_path: Path):
    labels = DATA["response"].astype(np.float32).copy()
    labels[0] = 5
    data = {**DATA, "response": labels}
    metadata = synthetic.describe({**DATA, "response": labels})
    source = synthetic.write_directory(tmp_path / "input", data, metadata=metadata)
    score_input(model, str(source), str(tmp_path / "s.avro"), scores="photon")
    assert sorted(read_scores(str(tmp_path / "s.avro"))["label"].to_pylist())[-1] == 5
    del data["response"]
    source = synthetic.write_directory(tmp_path / "other", data, metadata=metadata)
    score_input(model, str(source), str(tmp_path / "t.avro"), scores="photon")
    assert read_scores(str(tmp_path / "t.avro"))["label"].null_count == 90


def test_uids_of_strings_do_not_fit_gdmixs_files(model: str, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.as_text(DATA, "uid"))
    with pytest.raises(DataError, match="integer uids only; write photon or parquet"):
        score_input(model, str(source), str(tmp_path / "s.avro"), scores="gdmix")
    assert not (tmp_path / "s.avro").exists()
    score_input(model, str(source), str(tmp_path / "s.avro"), scores="photon")
    assert set(read_scores(str(tmp_path / "s.avro"))["uid"].to_pylist()) == {f"uid-{u + 100:08d}" for u in DATA["uid"]}


def files_of(*folders: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("text", [False, True])
def test_csv_reads_back_exactly(model: str, tmp_path: Path, text: bool):
    uids = [f"{k}" for k in range(len(DATA["uid"]))]
    uids[:6] = ["a,b", 'say "so"', "0017", "", "zwölf", "a;b\tc"]
    uids[3] = " "
    data = {**DATA, "uid": uids} if text else DATA
    source = str(synthetic.write_directory(tmp_path / "input", data))
    plain, written = str(tmp_path / "s.parquet"), tmp_path / "s.csv"
    score_input(model, source, plain)
    score_input(model, source, str(written))
    expected = pq.read_table(plain)
    with written.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == expected.column_names == ["uid", "score", "global", "per_user"]
    assert [line[0] for line in lines] == [str(uid) for uid in expected["uid"].to_pylist()]
    for column, name in enumerate(header[1:], 1):
        found = np.array([np.float32(line[column]) for line in lines])
        assert found.tobytes() == expected[name].to_numpy().tobytes()
    # And as scores of an external model.
    part = ScorePart(str(written), "uid", "score")
    read = list(read_part(part, "text" if text else "integer"))
    assert [uid for batch, _ in read for uid in batch.to_pylist()] == expected["uid"].to_pylist()
    scores = np.concatenate([batch.to_numpy() for _, batch in read]).astype(np.float32)
    assert scores.tobytes() == expected["score"].to_numpy().tobytes()


def test_the_name_says_the_format(model: str, source: str, tmp_path: Path):
    for name, begins in (("s.parquet", b"PAR1"), ("s", b"PAR1"), ("s.csv", b'"uid","score"')):
        score_input(model, source, str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(begins)
    for name, scores, said in (
        ("t.avro", None, "say whose .avro file it is to be: scores gdmix or photon"),
        ("t.csv.gz", None, "no scores are written as .gz"),
        ("t.json", None, r"no scores are written as \.json; name it \*\.parquet, \*\.csv or \*\.avro"),
        ("t.avro", "parquet", "scores parquet do not go into .avro files"),
        ("t.csv", "gdmix", "scores gdmix do not go into .csv files"),
        ("t.parquet", "csv", "scores csv do not go into .parquet files"),
    ):
        with pytest.raises(DataError, match=said):
            score_input(model, source, str(tmp_path / name), scores=scores)  # type: ignore[arg-type]
        assert not (tmp_path / name).exists()


def test_outputs_that_would_overwrite_what_is_read(model: str, source: str, tmp_path: Path):
    run = str(Path(model).parent)
    copied, link, other = tmp_path / "copied", tmp_path / "link", tmp_path / "other"
    shutil.copytree(model, copied)
    link.symlink_to(source)
    (tmp_path / "linked.parquet").symlink_to(next(Path(source).rglob("part-*")))
    other.mkdir()
    external = tmp_path / "global.parquet"
    score_input(model, source, str(external))
    before = files_of(run, source, str(tmp_path))
    parts = [str(path) for path in Path(source).rglob("part-*")]
    for by in (run, model, str(copied)):
        for output in (
            *parts, f"{source}/trainingData/s.parquet", f"{source}/s.csv", f"{link}/s.parquet", f"{other}/../input/s",
            str(tmp_path / "linked.parquet"), f"{run}/s.parquet", f"{run}/export/manifest.json.parquet",
            f"{model}/global/shard-00000.parquet", f"{run}/frame/training/block-00000.parquet", f"{by}/s.csv",
            str(external), f"file://{source}/s.csv",
        ):  # fmt: skip
            with pytest.raises(DataError, match=r"^output .*( lies in,? .*name a file elsewhere|: no scores are)"):
                score_input(by, source, output, external={"global": [str(external)]})
        for output in (source, str(other), f"{other}/", str(tmp_path)):
            with pytest.raises(DataError, match="is a folder; name a file in it"):
                score_input(by, source, output, scores="parquet")
    for output in ("", " "):
        with pytest.raises(ConfigError, match="the path is empty"):
            score_input(model, source, output)
    assert files_of(run, source, str(tmp_path)) == before


@pytest.mark.parametrize("suffix", ["parquet", "csv", "avro"])
def test_only_scores_are_replaced(model: str, source: str, tmp_path: Path, suffix: str):
    output = tmp_path / f"s.{suffix}"
    kind: Any = "photon" if suffix == "avro" else None
    score_input(model, source, str(output), scores=kind)
    first = output.read_bytes()
    score_input(model, source, str(output), scores=kind)
    assert len(output.read_bytes()) == len(first)
    for content in (b"uid,score\n1,2\n", b"PAR1 not", b"Obj\x01 not", b'"uid","label"\n', b"\x00", next(
        Path(source).rglob("part-*")
    ).read_bytes()):  # fmt: skip
        output.write_bytes(content)
        with pytest.raises(DataError, match="is there already and holds no scores"):
            score_input(model, source, str(output), scores=kind)
        assert output.read_bytes() == content
    # A user's own table, which begins as scores do.
    if suffix != "avro":
        table = pa.table({"uid": [1], "score": [0.5], "precious": [7]})
        (pq.write_table if suffix == "parquet" else pyarrow.csv.write_csv)(table, output)
        with pytest.raises(DataError, match="is there already and holds no scores"):
            score_input(model, source, str(output), scores=kind)
    output.write_bytes(b"")  # as mktemp leaves it
    score_input(model, source, str(output), scores=kind)
    assert len(output.read_bytes()) == len(first)


def test_paths_of_the_command_are_as_in_the_configuration(model: str, source: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = ["score", "--model", model, "--input", "~/input", "--output", "~/home.csv"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "home.csv").exists()
    assert not (tmp_path / "~").exists()
    for arguments in (
        [*command[:-1], "$HOME/s.csv"], [*command[:-1], "${X}/s.csv"], ["score", "--model", "$RUN", *command[3:]],
        ["score", "--model", model, "--input", "$IN", *command[5:]], [*command, "--external", "global=$X/s.csv"],
        ["show", "$RUN"], ["report", "${RUN}"], ["sample", "generated", "--output", "$OUT"],
        ["sample", "movielens", "--data", "$D", "--output", "x"], ["sample", "nemig", "--data", "x", "--output", "$D"],
        ["show", "~nobody-of-this-name/run"], ["show", " "],
    ):  # fmt: skip
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code != 0
        assert any(said in done.output for said in ("environment variables are not read", "no home folder", "is empty"))
    assert sorted(os.listdir(tmp_path)) == ["home.csv", "input"]


def test_a_file_that_is_there_twice_is_not_scored_twice(model: str, source: str, tmp_path: Path):
    again = tmp_path / "again"
    shutil.copytree(source, again)
    (part,) = (again / "trainingData").iterdir()
    shutil.copy(part, part.with_name(f"part-00009{part.suffix}"))
    with pytest.raises(DataError, match=r"part-00009.* are the same file; remove one of them"):
        score_input(model, str(again), str(tmp_path / "s.parquet"))


@pytest.mark.parametrize(("option", "value"), [("split", "test"), ("scores", "foo")])
def test_options_that_are_none(model: str, source: str, tmp_path: Path, option: str, value: Any):
    with pytest.raises(DataError, match=f"{option}.*'{value}'"):
        score_input(model, source, str(tmp_path / "s"), **{option: value})


def test_a_name_that_is_a_suffix_alone(model: str, source: str, tmp_path: Path):
    score_input(model, source, str(tmp_path / ".csv"))
    assert (tmp_path / ".csv").read_text().startswith('"uid","score"')
