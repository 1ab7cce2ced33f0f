"""What lies in a folder of input is read, left out by the rule of names, or named in one error: never passed over."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_input as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.input_files import INPUT_SUFFIXES, flat_files, input_files
from gdmix_core.data.ingest.records import Records, read_records
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.errors import DataError

NAMES = st.one_of(
    st.from_regex(r"[._]?[A-Za-z0-9=~-]{1,6}(\.[A-Za-z0-9]{1,9}){0,3}", fullmatch=True),
    st.builds(
        "{}{}".format,
        st.sampled_from(["part-00000", "_part", ".part", "part-r-00001", "x=1", "_x=1", ".x=1", "x=", "=1", "teil ü"]),
        st.sampled_from(
            ["", ".parquet", ".PARQUET", ".parq", ".tfrecord", ".tfrecord.gz", ".TFRecord", ".tfrecords", ".snappy",
             ".tfrecord.snappy", ".tfrecord.deflate", ".gz", ".parquet.gz", ".gz.tmp", ".parquet.tmp", ".crc", ".csv"]
        ),
    ),
)  # fmt: skip
KINDS = st.sampled_from(
    ["file", "empty", "folder", "folder with a part", "link", "loop", "link to a file", "link to a folder"]
)


def put(where: Path, kind: str, elsewhere: Path) -> None:
    match kind:
        case "file" | "empty":
            where.write_bytes(b"x" if kind == "file" else b"")
        case "folder" | "folder with a part":
            where.mkdir()
            if kind != "folder":
                (where / "inner.parquet").write_bytes(b"x")
        case "link":
            where.symlink_to("/not/fetched/yet")
        case "loop":
            where.symlink_to(where.name)
        case "link to a file":
            where.symlink_to(elsewhere / "target.bin")
        case _:
            where.symlink_to(elsewhere / "folder")


@settings(max_examples=300)
@given(found=st.dictionaries(NAMES, KINDS, max_size=4))
def test_nothing_is_passed_over(tmp_path_factory: pytest.TempPathFactory, found: dict[str, str]):
    folder = tmp_path_factory.mktemp("input")
    elsewhere = folder / "elsewhere"
    (elsewhere / "folder").mkdir(parents=True)
    (elsewhere / "target.bin").write_bytes(b"x")
    (elsewhere / "folder" / "linked.tfrecord").write_bytes(b"x")
    data = folder / "trainingData"
    data.mkdir()
    (data / "always.parquet").write_bytes(b"x")
    read, refused = {"always.parquet"}, set()
    for name, kind in found.items():
        if name == "always.parquet":
            continue
        put(data / name, kind, elsewhere)
        is_folder = kind.startswith("folder") or kind == "link to a folder"
        partition = is_folder and re.fullmatch(r"[^.=][^=]*=.+", name)
        if name[0] in "._" and not partition:
            continue
        inner = {"folder": [], "folder with a part": ["inner.parquet"]}.get(kind, ["linked.tfrecord"])
        if partition:
            read |= {f"{name}/{file}" for file in inner}
        elif is_folder or kind in ("link", "loop") or not name.endswith(INPUT_SUFFIXES):
            refused.add(name)
        else:
            read.add(name)
    if refused:
        beside = f"{len(refused)} of the names there would not be read beside {len(read)}"
        with pytest.raises(DataError, match=beside) as error:
            input_files(str(data))
        assert all(f"{name} (" in str(error.value) for name in refused)
    else:
        assert [file.path for file in input_files(str(data))] == sorted(f"{data}/{name}" for name in read)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("part-1.tfrecords", r"rename to \*\.tfrecord\)"),
        ("part-1.tfrecords.gz", r"rename to \*\.tfrecord\.gz\)"),
        ("part-1.tfrecord.snappy", r"decompress it, so that it ends in \.tfrecord\)"),
        ("part-1.snappy", "decompress it, and give it the suffix of what it holds"),
        ("part-r-00000", r"not \*\.tfrecord or .*: rename it to what it holds"),
        ("part-1.parq", r"rename to \*\.parquet\)"),
        ("part-1.tfrecord.gz.tmp", "may not have finished"),
        ("part-1.PARQUET", r"lower case: rename to \*\.parquet\)"),
        ("part-1.TFRECORD", r"lower case: rename to \*\.tfrecord\)"),
        ("2026-11-02", "a folder: move its files up, or, .* name it key=value"),
    ],
)  # fmt: skip
def test_how_it_would_be_read(tmp_path: Path, name: str, advice: str):
    (tmp_path / "part-0.parquet").write_bytes(b"x")
    put(tmp_path / name, "folder" if name.startswith("2026") else "file", tmp_path)
    with pytest.raises(DataError, match=advice):
        input_files(str(tmp_path))


def test_the_first_few_are_named_and_the_rest_counted(tmp_path: Path):
    for number in range(9):
        (tmp_path / f"part-r-0000{number}").touch()
    with pytest.raises(DataError, match=r"9 of the names there would not be read: part-r-00000 .*; and 4 more\. Names"):
        input_files(str(tmp_path))


def test_a_link_to_a_folder_above_ends(tmp_path: Path):
    (tmp_path / "part-0.parquet").touch()
    (tmp_path / "k=1").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"k=1/k=1 \(a partition folder of k within another one"):
        input_files(str(tmp_path))


def test_an_object_store(tmp_path: Path):
    root = f"memory://input-files/{tmp_path.name}"
    for name in ("a.parquet", "_SUCCESS", "dt=2026-11-02/b.tfrecord", "dt=2026-11-03/hour=1/c.parquet"):
        with storage.open_for_write(f"{root}/{name}") as file:
            file.write(b"12")
    files = input_files(root)
    assert [file.path.removeprefix(root) for file in files] == [
        "/a.parquet", "/dt=2026-11-02/b.tfrecord", "/dt=2026-11-03/hour=1/c.parquet",
    ]  # fmt: skip
    assert [dict(file.partition) for file in files] == [{}, {"dt": "2026-11-02"}, {"dt": "2026-11-03", "hour": "1"}]
    with storage.open_for_write(f"{root}/more/d.parquet") as file:
        file.write(b"12")
    with pytest.raises(DataError, match=r"more \(a folder"):
        input_files(root)


def test_files_of_one_folder(tmp_path: Path):
    for name in ("part-0.avro", "id-info", "_SUCCESS"):
        (tmp_path / name).touch()
    assert [os.path.basename(f[0]) for f in flat_files(str(tmp_path), (".avro",), harmless=["id-info"])] == [
        "part-0.avro"
    ]
    (tmp_path / "part-1.avro").symlink_to("/nowhere")
    with pytest.raises(DataError, match=r"part-1\.avro \(a link to something that is not there"):
        flat_files(str(tmp_path), (".avro",), harmless=["id-info"])


def partitioned(tmp_path: Path, suffix: str, **metadata: Any) -> Any:
    """Rows whose entity, day, is in the folders' names alone, in part; and a config over them."""
    rows = synthetic.make_rows(40)
    source = synthetic.write_directory(
        tmp_path / "input", rows, metadata=synthetic.describe({**rows, "day": rows["uid"]}, day=metadata)
    )
    data = source / "trainingData"
    (data / "part-000.tfrecord").unlink()
    for day in ("3", "11"):
        (data / f"day={day}").mkdir()
        synthetic.write_file(
            data / f"day={day}" / f"part{suffix}", synthetic.select_rows(rows, np.arange(40)[int(day) :: 20])
        )
    coordinates = {"daily": {"random_effect": {"entity": "day"}, "bag": "per_user"}}
    return synthetic.make_config(source, tmp_path / "run", coordinates=coordinates, metrics=["auc"])


def read_all(config: Config) -> list[Records]:
    layout = open_layout(config)
    return [found for piece in layout.pieces for found in read_records(piece, layout.sources[0], config)]


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
@pytest.mark.parametrize(("dtype", "days"), [("long", [3, 11]), ("string", ["3", "11"])])
def test_the_columns_that_folders_give(tmp_path: Path, suffix: str, dtype: str, days: list[Any]):
    config = partitioned(tmp_path, suffix, dtype=dtype)
    found = {}
    for records in read_all(config):
        assert not records.violations.any()
        found |= dict(zip(records.uid.to_pylist(), records.ids["day"].to_pylist(), strict=True))
    uids = synthetic.make_rows(40)["uid"].tolist()
    assert found == {uids[int(day) + i]: day for day in days for i in range(0, 40 - int(day), 20)}
    assert open_layout(config).ignored == ()


@pytest.mark.parametrize("suffix", [".parquet", ".tfrecord"])
def test_a_column_of_folders_that_is_no_number_or_is_in_the_file_too(tmp_path: Path, suffix: str):
    config = partitioned(tmp_path, suffix, dtype="long")
    data = tmp_path / "input" / "trainingData"
    for odd in ("1_000", "٣", " 7", str(2**64 - 1)):
        (data / "day=11").rename(data / f"day={odd}")
        with pytest.raises(DataError, match=rf"day={odd}: .* describes day as long, and '{odd}' is not one"):
            open_layout(config)
        (data / f"day={odd}").rename(data / "day=11")
    (data / "day=11").rename(data / "day=2026-11-02")
    with pytest.raises(DataError, match=r"day=2026-11-02: .* describes day as long, and '2026-11-02' is not one"):
        open_layout(config)
    rows = synthetic.make_rows(5, first_uid=900)
    synthetic.write_file(data / "day=3" / f"part{suffix}", {**rows, "day": rows["uid"]})
    shutil.rmtree(data / "day=2026-11-02")
    with pytest.raises(DataError, match=r"column day is in the file and in the name of a folder \(day=…\)"):
        read_all(config)


def test_a_folder_of_no_value_and_one_whose_name_is_escaped(tmp_path: Path):
    config = partitioned(tmp_path, ".parquet", dtype="string")
    data = tmp_path / "input" / "trainingData"
    (data / "day=3").rename(data / "day=__HIVE_DEFAULT_PARTITION__")
    (data / "day=11").rename(data / "day=a%2Fb%3D1")
    read = [
        (day, bits > 0)
        for r in read_all(config)
        for day, bits in zip(r.ids["day"].to_pylist(), r.violations, strict=True)
    ]
    found = set(read)
    assert found == {(None, True), ("a/b=1", False)}  # every record of the first breaks day.present


def test_keys_of_folders_that_nothing_reads_are_told(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(20), suffix=".parquet")
    (source / "trainingData" / "dt=2026-11-02").mkdir()
    more = synthetic.make_rows(10, first_uid=9000)
    synthetic.write_file(source / "trainingData" / "dt=2026-11-02" / "part.parquet", more)
    layout = open_layout(synthetic.make_config(source, tmp_path / "run"))
    assert (len(layout.files), layout.ignored) == (2, ("dt",))


def test_an_empty_file(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(20))
    config = synthetic.make_config(source, tmp_path / "run")
    (source / "trainingData" / "none.tfrecord").touch()
    assert (
        sum(len(records.uid) for records in read_all(config)) == 20
    )  # an empty TFRecord file holds no record, and says so
    (source / "trainingData" / "none.parquet").touch()
    with pytest.raises(DataError, match=r"none\.parquet: 0 bytes, which is not a Parquet file"):
        open_layout(config)


def test_other_files_beside_feature_lists_and_metadata_do_no_harm(tmp_path: Path):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(20))
    for name in ("featureList/unused", "metadata/notes.txt", "README"):
        (source / name).write_text("nothing")
    assert open_layout(synthetic.make_config(source, tmp_path / "run")).files


@pytest.mark.parametrize(("kind", "words"), [("link", "a link to something"), ("file", "not a folder")])
@pytest.mark.parametrize("name", ["trainingData", "validationData"])
def test_the_folders_themselves(tmp_path: Path, name: str, kind: str, words: str):
    source = synthetic.write_directory(tmp_path / "input", synthetic.make_rows(20))
    if name == "trainingData":
        (source / name).rename(tmp_path / "away")
    put(source / name, kind, tmp_path)
    with pytest.raises(DataError, match=f"{name}: {words}"):
        open_layout(synthetic.make_config(source, tmp_path / "run"))


@pytest.mark.parametrize("name", ["trainingData", "validationData"])
def test_folders_that_are_links_are_read(tmp_path: Path, name: str):
    rows, more = synthetic.make_rows(20), synthetic.make_rows(20, first_uid=8000)
    source = synthetic.write_directory(tmp_path / "input", rows, more)
    (source / name).rename(tmp_path / "elsewhere")
    (source / name).symlink_to(tmp_path / "elsewhere")
    assert len(open_layout(synthetic.make_config(source, tmp_path / "run")).files) == 2
