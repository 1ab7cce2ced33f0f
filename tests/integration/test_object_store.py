"""Input and run directory on an object store: S3's protocol, served by moto in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import synthetic_input as synthetic
from free_ports import free_ports
from waiting import wait_for

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.input_files import input_files
from gdmix_core.errors import ConfigError, DataError, StepError
from gdmix_core.execution import local_run
from gdmix_core.pipeline import run_lock
from gdmix_core.pipeline.run import Run
from gdmix_core.scoring.score_input import score_input
from tests.pipeline.test_run_lock import holder, is_free

pytestmark = pytest.mark.slow
SECRET = "not-to-be-found-anywhere"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket's URL; the credentials come from the environment alone, as they would in a cluster."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def answers() -> bool | None:
        assert server.poll() is None, "the object store has ended"
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            return None
        return True

    try:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            wait_for("the object store", answers, every=0.1)
            fsspec.filesystem("s3").mkdir("models")
            yield "s3://models"
    finally:
        server.kill()
        server.wait()


def upload(source: Path, url: str) -> None:
    fsspec.filesystem("s3").put(str(source), url.removeprefix("s3://"), recursive=True)


def test_a_listing_shows_what_another_process_wrote(bucket: str):
    folder = f"{bucket}/listing"
    storage.write_json(f"{folder}/a.json", {})
    assert len(storage.list_files(folder)) == 1
    code = f"from gdmix_core import storage; storage.write_json('{folder}/b.json', {{}})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert [path.rsplit("/", 1)[-1] for path, _, _ in storage.list_files(folder)] == ["a.json", "b.json"]
    assert storage.exists(f"{folder}/b.json")


def test_partition_folders_are_read_and_other_folders_named(bucket: str):
    folder = f"{bucket}/partitioned"
    for name in ("a.parquet", "dt=2026-11-02/b.parquet", "dt=2026-11-03/hour=01/c.parquet", "_SUCCESS"):
        storage.write_json(f"{folder}/{name}", {})
    fsspec.filesystem("s3").pipe(f"{folder}/dt=2026-11-03/".removeprefix("s3://"), b"")  # as consoles make folders
    files = input_files(folder)
    assert [file.path.removeprefix(f"{folder}/") for file in files] == [
        "a.parquet", "dt=2026-11-02/b.parquet", "dt=2026-11-03/hour=01/c.parquet",
    ]  # fmt: skip
    assert dict(files[2].partition) == {"dt": "2026-11-03", "hour": "01"}
    storage.write_json(f"{folder}/more/d.parquet", {})
    storage.write_json(f"{folder}/e.parq", {})
    with pytest.raises(DataError, match=r"2 of the names .* beside 3 .*: e\.parq \(rename .*; more \(a folder"):
        input_files(folder)


@pytest.fixture(scope="module")
def here(bucket: str, spark: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on this machine, whose input lies in the bucket too."""
    folder = tmp_path_factory.mktemp("here")
    rows, validation = synthetic.make_rows(200), synthetic.make_rows(60, seed=2, first_uid=5000)
    for suffix in (".tfrecord", ".parquet"):
        source = synthetic.write_directory(folder / f"input{suffix}", rows, validation, files=2, suffix=suffix)
        upload(source, f"{bucket}/input{suffix}")
    return synthetic.whole_run(synthetic.make_config(folder / "input.tfrecord", folder / "local"))


@pytest.mark.parametrize("engine", ["spark", "embedded"])
def test_a_whole_run(bucket: str, here: Run, tmp_path: Path, engine: str):
    config = synthetic.make_config(f"{bucket}/input.tfrecord", f"{bucket}/run-{engine}", spark={"master": "local[2]"})
    config = Config.model_validate({**config.model_dump(), "engine": {"data": engine, "local": {"processes": 2}}})
    from rich.console import Console

    with open(tmp_path / "shown", "w") as shown:
        run = local_run.run_pipeline(config, Console(file=shown))
    assert run.result("select")["metrics"] == here.result("select")["metrics"]

    score_input(run.root, f"{bucket}/input.parquet", f"{bucket}/scores.parquet", split="validation")
    with storage.open_for_read(f"{bucket}/scores.parquet") as file:
        assert pq.read_table(file).num_rows == 60
    assert Run.open(run.root).is_done(run.plan["export"])

    filesystem = fsspec.filesystem("s3")
    files = filesystem.find(f"models/run-{engine}")
    assert len(files) > 20
    for path in files:
        assert SECRET.encode() not in filesystem.cat(path), path
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert not [path for path in files if "/.locks/" in path]


def test_a_run_in_the_store_has_one_owner_and_nothing_of_others(bucket: str):
    storage.write_json(f"{bucket}/others/notes.json", {})
    for output in (f"{bucket}/others", bucket):
        with pytest.raises(ConfigError, match=r"is not a run of gdmix, and holds "):
            Run.create(synthetic.make_config("s3://elsewhere/in", output))
    run = Run.create(synthetic.make_config("s3://elsewhere/in", f"{bucket}/owned"))
    with pytest.raises(ConfigError, match="is the run of pipeline synthetic"):
        Run.create(synthetic.make_config("s3://elsewhere/in", run.root, name="another"))
    with holder(run.root) as owner:
        with pytest.raises(StepError, match=rf"is being worked on by process {owner.pid} on"):
            run_lock.whole_run(run.root).__enter__()
        owner.kill()
        owner.wait()
        assert is_free(run.root)
    assert sorted(storage.names_in(run.root)) == ["config.yaml", "gdmix-run.json"]
