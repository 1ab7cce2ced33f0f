"""Files appear whole or not at all; listings show what is there now."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdmix_core import storage
from gdmix_core.errors import DataError, GdmixError


def fail_half_way(path: str, error: BaseException) -> None:
    with storage.open_for_write(path) as file:
        file.write(b"half")
        file.flush()
        raise error


def test_a_write_that_fails_leaves_nothing(tmp_path: Path):
    target = tmp_path / "new" / "file"
    with pytest.raises(RuntimeError):
        fail_half_way(str(target), RuntimeError())
    assert list(target.parent.iterdir()) == []


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        fail_half_way(str(target), KeyboardInterrupt())
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nobody_sees_a_file_before_it_is_whole(tmp_path: Path):
    with storage.open_for_write(str(tmp_path / "file")) as file:
        file.write(b"x" * 100_000)
        file.flush()
        assert not (tmp_path / "file").exists()
        assert storage.list_files(str(tmp_path)) == []
    assert (tmp_path / "file").stat().st_size == 100_000


def test_permissions_follow_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        storage.write_json(str(tmp_path / "file"), {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("base", ["{tmp}", "file://{tmp}", "memory://{tmp}"])
def test_one_interface_for_paths_and_urls(tmp_path: Path, base: str):
    root = base.format(tmp=tmp_path)
    path = storage.join(root, "a", "array.npy")
    assert not storage.exists(path)
    assert storage.list_files(storage.join(root, "a")) == []
    storage.write_array(path, np.arange(5))
    storage.write_json(storage.join(root, "a", "_hidden.json"), {})
    storage.write_json(storage.join(root, "a", "x.json"), {"b": [1]})
    assert storage.exists(path)
    assert storage.read_array(path).tolist() == [0, 1, 2, 3, 4]
    assert storage.read_array(path, memory_map=True)[1:3].tolist() == [1, 2]
    assert storage.read_json(storage.join(root, "a", "x.json")) == {"b": [1]}
    assert [p.rsplit("/", 1)[-1] for p, _, _ in storage.list_files(storage.join(root, "a"))] == ["array.npy", "x.json"]
    storage.remove(path)
    assert not storage.exists(path)
    storage.remove(path)
    storage.remove(root)
    assert not storage.exists(root)
    with pytest.raises(DataError, match=r"array\.npy: no such file"):
        storage.read_array(path)
    with pytest.raises(DataError, match="no such file"):
        storage.read_array(path, memory_map=True)


def test_a_failed_remote_write_leaves_nothing():
    with pytest.raises(RuntimeError):
        fail_half_way("memory://fails/file", RuntimeError())
    assert not storage.exists("memory://fails/file")


def test_json_that_is_none_names_the_file(tmp_path: Path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match=r"x\.json: not valid JSON"):
        storage.read_json(str(tmp_path / "x.json"))


def test_json_deeper_than_the_parser_goes(tmp_path: Path):
    (tmp_path / "x.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"x\.json: not valid JSON"):
        storage.read_json(str(tmp_path / "x.json"))


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(DataError, match=r"x\.json: a pipe or a device, not a file"):
        storage.read_json(str(tmp_path / "x.json"))


@pytest.mark.parametrize("url", ["dbfs://x/y", "http://[/y", "reference://x", "dir://x", "sftp://h/x"])
@pytest.mark.parametrize(
    "call",
    [
        storage.exists,
        storage.list_entries,
        storage.read_json,
        storage.remove,
        storage.paths_within,
        lambda url: storage.write_json(url, {}),
    ],
)
def test_a_url_that_its_driver_cannot_take_is_one_sentence(url: str, call: Callable[[str], Any]):
    with pytest.raises(GdmixError, match=f"{url.partition(':')[0]}:") as error:
        call(url)
    assert "\n" not in str(error.value)


def test_join():
    assert storage.join("s3://bucket/", "a", "b") == "s3://bucket/a/b"
    assert storage.join("/x", "y") == "/x/y"
    assert storage.join("/x") == "/x"


def test_grandparent():
    for path in ("/runs/a/trials/001", "/runs/a/trials/001/", "/runs/a/./trials/001"):
        assert storage.grandparent(path) == "/runs/a"
    assert storage.grandparent("trials/001") == "."
    assert storage.grandparent(".") == "../.."
    assert storage.grandparent("s3://bucket/a/trials/001/") == "s3://bucket/a"
