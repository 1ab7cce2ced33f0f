"""New data whose features or columns are not the model's: named where a score is still right, refused where none is."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from run_directory import Rows, make_run, walk

from gdmix_core.data.feature_list import FeatureList, write_feature_list
from gdmix_core.data.ragged import Bag
from gdmix_core.errors import DataError
from gdmix_core.scoring.score_input import score_input

DATA = synthetic.make_rows(60, seed=2)


def trained(folder: Path, **of_coordinates: dict[str, Any]) -> str:
    """The export of a model; of_coordinates: further keys by coordinate."""
    data = synthetic.make_rows(200, seed=1)
    bags = {name: synthetic.dense(data[name], size) for name, size in synthetic.FEATURES.items()}
    rows = Rows(data["response"], data["weight"], data["offset"], ids={"user_id": data["user_id"]}, bags=bags)
    coordinates: dict[str, Any] = {
        "global": {"fixed_effect": {}, "bag": "global"},
        "per_user": {"random_effect": {"entity": "user_id", "shards": 2}, "bag": "per_user"},
    }
    config = {
        "columns": {"label": "response", "weight": "weight", "offset": "offset"},
        "coordinates": {name: {**each, **of_coordinates.get(name, {})} for name, each in coordinates.items()},
    }
    names = {name: [(f"{name}_{i}", "") for i in range(size)] for name, size in synthetic.FEATURES.items()}
    run = make_run(folder, config, rows, feature_names=names)
    walk(run)
    return run.path("export")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return trained(tmp_path_factory.mktemp("model"))


def renamed(source: Path, bag: str, *numbers: int) -> None:
    """The features with these numbers under names that no model knows, with a term."""
    names = [(f"{bag}_{i}", "") for i in range(synthetic.FEATURES[bag])]
    for number in numbers:
        names[number] = (f"new{number}", "beta")
    write_feature_list(str(source / "featureList" / bag), FeatureList(names))


def test_features_that_the_model_does_not_know_are_named_and_count_nothing(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source = synthetic.write_directory(tmp_path / "input", DATA)
    renamed(source, "global", 0, 4)
    with caplog.at_level(logging.WARNING):
        score_input(model, str(source), str(tmp_path / "s.parquet"))
    assert (
        "global: 2 of 6 features of the data are not in the model and count nothing: new0,beta, new4,beta"
        in caplog.text
    )
    assert "per_user:" not in caplog.text
    emptied = synthetic.dense(DATA["global"], 6)
    emptied[:, [0, 4]] = 0
    kept = (emptied != 0)[np.repeat(np.arange(60), np.diff(DATA["global"].offsets)), DATA["global"].indices]
    bag = DATA["global"]
    offsets = np.concatenate([[0], np.cumsum(kept)])[bag.offsets]
    without = {**DATA, "global": type(bag)(offsets, bag.indices[kept], bag.values[kept])}
    plain = synthetic.write_directory(tmp_path / "plain", without)
    score_input(model, str(plain), str(tmp_path / "p.parquet"))
    assert pq.read_table(tmp_path / "s.parquet").equals(pq.read_table(tmp_path / "p.parquet"))


def test_the_command_says_so(model: str, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", DATA)
    renamed(source, "per_user", 1)
    command = [str(Path(sys.executable).with_name("gdmix")), "score", "--model", model, "--input", str(source)]
    done = subprocess.run([*command, "--output", str(tmp_path / "s.parquet")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "per_user: 1 of 4 features of the data are not in the model and count nothing: new1,beta" in done.stderr


@pytest.mark.parametrize("kind", ["native", "avro"])
def test_no_feature_in_common_is_an_error(model: str, tmp_path: Path, kind: Any):
    source = synthetic.write_directory(tmp_path / "input", DATA)
    renamed(source, "global", *range(6))
    with pytest.raises(
        DataError, match=r"featureList/global: coordinate global knows none of these 6 features \(new0,beta, .*, …\); "
    ):
        score_input(model, str(source), str(tmp_path / "s.parquet"), kind=kind)
    assert not (tmp_path / "s.parquet").exists()


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("absent", ["global", "user_id"])
def test_columns_that_the_new_data_do_not_have(model: str, tmp_path: Path, suffix: str, files: int, absent: str):
    """All files lack them, or the last one of two, which has them under another name."""
    source = synthetic.write_directory(tmp_path / "input", DATA, files=2, suffix=suffix)
    other = {f"{name}s" if name == absent else name: column for name, column in DATA.items()}
    for number in range(2 - files, 2):
        rows = synthetic.select_rows(other, np.arange(30 * number, 30 * (number + 1)))
        synthetic.write_file(source / "trainingData" / f"part-00{number}{suffix}", rows)
    expected = "globals_indices" if absent == "global" else "user_id"
    with pytest.raises(DataError, match=expected):
        score_input(model, str(source), str(tmp_path / "s.parquet"))
    assert not (tmp_path / "s.parquet").exists()


def test_bags_that_are_there_and_empty_are_scored(model: str, tmp_path: Path):
    nothing = Bag(np.zeros(2, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    source = synthetic.write_directory(tmp_path / "input", {**synthetic.select_rows(DATA, [0]), "global": nothing})
    assert score_input(model, str(source), str(tmp_path / "s.parquet"))[0] == 1


def test_small_files_are_scored_as_one(model: str, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "one", DATA, suffix=".parquet")
    many = synthetic.write_directory(tmp_path / "many", DATA, suffix=".parquet", files=60)
    score_input(model, str(source), str(tmp_path / "one.parquet"))
    score_input(model, str(many), str(tmp_path / "many.parquet"))
    assert pq.read_table(tmp_path / "one.parquet").equals(pq.read_table(tmp_path / "many.parquet"))


def test_directories_that_are_joined_have_the_same_uids_once(model: str, tmp_path: Path):
    apart = trained(tmp_path / "apart", **{name: {"data": name} for name in ("global", "per_user")})

    def score(**rows: list[int]) -> Any:
        for name in ("global", "per_user"):
            synthetic.write_directory(
                tmp_path / "new" / name, synthetic.select_rows(DATA, rows.get(name, range(60))), suffix=".parquet"
            )
        score_input(apart, str(tmp_path / "new"), str(tmp_path / "apart.parquet"))
        return pq.read_table(tmp_path / "apart.parquet")

    score_input(model, str(synthetic.write_directory(tmp_path / "one", DATA)), str(tmp_path / "one.parquet"))
    assert score().sort_by("uid").equals(pq.read_table(tmp_path / "one.parquet").sort_by("uid"))
    with pytest.raises(DataError, match=r"new/per_user: uid \d+ has 2 records \(1 uids have several\)"):
        score(per_user=[*range(60), 2])
    with pytest.raises(DataError, match=r"new/per_user: uid \d+ is missing \(1 are\)"):
        score(per_user=[*range(59)])
    with pytest.raises(DataError, match=r"new/global: uid \d+ is missing, which .*per_user has \(10 are\)"):
        score(**{"global": [*range(50)]})


def test_no_rows_are_an_error(model: str, tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.select_rows(DATA, []), suffix=".parquet")
    with pytest.raises(DataError, match="no training rows to score"):
        score_input(model, str(source), str(tmp_path / "s.parquet"))
    assert not (tmp_path / "s.parquet").exists()
