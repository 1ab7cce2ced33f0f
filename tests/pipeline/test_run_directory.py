"""Whose directory a run is made in: what is somebody else's is refused, or stays byte for byte as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_directory import Rows, make_run, walk

from gdmix_core import storage
from gdmix_core.cli.command import main
from gdmix_core.config.model import paths_of
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import Run

COORDINATES: dict[str, Any] = {
    "global": {"fixed_effect": {}, "bag": "f"},
    "per_user": {"random_effect": {"entity": "user", "shards": 2}, "bag": "f"},
}


def configuration(folder: Path | str, output: Path | str, **changes: Any) -> Config:
    content = {"name": "mine", "input": f"{folder}/in", "output": str(output), "coordinates": COORDINATES}
    return parse_config({**content, **changes})


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(seed: int = 0) -> Rows:
    draw = np.random.default_rng(seed)
    return Rows(draw.integers(0, 2, 60), ids={"user": draw.integers(0, 9, 60)}, bags={"f": draw.normal(size=(60, 3))})


def trained(root: Path, seed: int = 0) -> Run:
    run = make_run(root, {"coordinates": COORDINATES}, rows(seed))
    walk(run)
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """in/ with a file, and links to it."""
    (tmp_path / "in" / "trainingData").mkdir(parents=True)
    (tmp_path / "in" / "trainingData" / "part-00000.parquet").write_bytes(b"rows")
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    "output",
    ["{}/in", "{}/in/", "{}/in/out", "{}/in/trainingData", "{}", "{}/below/../in", "{}/link", "{}/link/deep/out",
     "{}/below/up", "{}/below/up/in/out", "file://{}/in", "{}/file", "{}/file/out", "{}/dangling", "/", "//", "/..",
     "file:///", "/tmp", "s3://", "memory:///"],
)  # fmt: skip
def test_places_where_no_run_may_be_made(folder: Path, output: str):
    before = files_of(folder)
    with pytest.raises(ConfigError, match=r"^output \S+ (is|holds|lies in) .*name a|make that first"):
        Run.create(configuration(folder, output.format(folder)))
    assert files_of(folder) == before


@pytest.mark.parametrize("output", ["", " ", "\t\n"])
def test_an_empty_output(folder: Path, output: str):
    with pytest.raises(ConfigError, match="the path is empty"):
        configuration(folder, output)
    unchecked = configuration(folder, folder / "out").model_copy(update={"output": output})
    with pytest.raises(ConfigError, match="output is empty"):
        Run.create(unchecked)


def test_relative_paths_are_of_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder / "in")
    for output in (".", "..", "out", "../in/x"):
        with pytest.raises(ConfigError, match=r"output .* (is|holds|lies in) input"):
            Run.create(configuration("..", output))
    monkeypatch.chdir(folder)
    assert Run.create(configuration(".", "out")).root == "out"


def test_buckets_hold_what_lies_in_them():
    for output in ("s3://b/in", "s3a://b/in/run", "s3://b", "s3://b/", "s3://b//in/", "s3://b/x/../in"):
        with pytest.raises(ConfigError, match=r"output .* (is|holds|lies in) input"):
            run_directory.check(configuration("s3://b", output))
    for other, output in (
        ("gs://b", "s3://b/in"),
        ("s3://b", "s3://c/in"),
        ("s3://b", "s3://b/inside"),
        ("s3:/b", "/b"),
    ):
        assert not run_directory.lies_in(output, f"{other}/in")


@pytest.mark.parametrize("root", ["{}", "memory://runs{}"])
def test_whatever_the_run_reads_is_apart_from_it(tmp_path: Path, root: str):
    place = root.format(tmp_path)
    out = f"{place}/out"
    external = {"fixed_effect": {"model": "external", "scores": [f"{place}/s.csv", f"{out}/scores/s.csv"]}}
    with pytest.raises(ConfigError, match=rf"output {out} holds coordinates.x.fixed_effect.scores"):
        Run.create(configuration(place, out, coordinates={"x": external, **COORDINATES}))
    with pytest.raises(ConfigError, match=rf"output {out} holds initial_model.coordinates.global"):
        Run.create(configuration(place, out, initial_model={"coordinates": {"global": f"{out}/models"}}))
    with pytest.raises(ConfigError, match=rf"output {out} is initial_model.path"):
        Run.create(configuration(place, out, initial_model=out))
    with pytest.raises(ConfigError, match=rf"output {out} holds initial_model.path"):
        Run.create(configuration(place, out, initial_model=f"{out}/export"))
    Run.create(configuration(place, f"{place}/first"))
    with pytest.raises(ConfigError, match=rf"output {place}/first/more lies in initial_model.path"):
        Run.create(configuration(place, f"{place}/first/more", initial_model=f"{place}/first"))
    # The folder of all runs may be named: only a run has nothing else in it.
    Run.create(configuration(place, f"{place}/runs/2", initial_model={"path": f"{place}/runs", "required": False}))


def test_all_paths_of_a_configuration_are_known_by_their_type():
    text = {
        "model": "text", "document": ["title"], "vocabulary": {"file": "words.txt"},
        "encoder": {"type": "transformer", "path": "bert"},
    }  # fmt: skip
    made = configuration("d", "o", coordinates={"t": {"fixed_effect": text}, **COORDINATES}, initial_model="m")
    keys = {"t.fixed_effect.vocabulary.file": "words.txt", "t.fixed_effect.encoder.path": "bert"}
    expected = {"input": "d/in", "output": "o", "initial_model.path": "m"}
    assert dict(paths_of(made)) == expected | {f"coordinates.{key}": path for key, path in keys.items()}


@pytest.mark.parametrize("root", ["{}/out", "memory://marks{}/out"])
def test_the_mark_says_whose_run_it_is(tmp_path: Path, root: str):
    out = root.format(tmp_path)
    run = Run.create(configuration(tmp_path, f"{out}/"))
    assert storage.read_json(f"{out}/gdmix-run.json") == {"format": 1, "pipeline": "mine"}
    assert Run.create(configuration(tmp_path, out)).root == run.root == out
    recorded = storage.open_for_read(f"{out}/config.yaml")
    with recorded as file:
        before = file.read()
    with pytest.raises(ConfigError, match=rf"{out} is the run of pipeline mine, and this one is other"):
        Run.create(configuration(tmp_path, out, name="other"))
    for inside in ("export", "passes/01/x", "trials/001"):
        with pytest.raises(ConfigError, match=rf"lies in the directory of another run, {out}"):
            Run.create(configuration(tmp_path, f"{out}/{inside}"))
    with pytest.raises(ConfigError, match="is not a run of gdmix, and holds out"):
        Run.create(configuration("/elsewhere", out.removesuffix("/out")))
    with storage.open_for_read(f"{out}/config.yaml") as file:
        assert file.read() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pipeline": 3}', '{"pipeline": "mine", "format": 2}'])
def test_a_mark_that_says_something_else(tmp_path: Path, content: str):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gdmix-run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"gdmix-run\.json"):
        Run.create(configuration(tmp_path, tmp_path / "out"))
    assert files_of(tmp_path / "out") == {"gdmix-run.json": content.encode()}


def test_runs_of_earlier_versions_are_taken(tmp_path: Path):
    run = Run.create(configuration(tmp_path, tmp_path / "out"))
    os.unlink(run.path("gdmix-run.json"))
    with pytest.raises(ConfigError, match="is the run of pipeline mine"):
        Run.create(configuration(tmp_path, run.root, name="other"))
    assert not storage.exists(run.path("gdmix-run.json"))
    Run.create(configuration(tmp_path, run.root))
    assert storage.read_json(run.path("gdmix-run.json"))["pipeline"] == "mine"


@pytest.mark.parametrize(
    "content",
    [{"config": {"name": "mine"}}, {"name": "mine", "versions": {}}, ["config"], {"config": [], "versions": {}}],
)
def test_a_config_yaml_of_somebody_elses(tmp_path: Path, content: Any):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text(yaml.safe_dump(content))
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match=r"is not a run of gdmix, and holds config\.yaml"):
        Run.create(configuration(tmp_path, tmp_path / "out"))
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[]", "a: [", "name: mine", "config: mine", "\udcff"])
@pytest.mark.parametrize("command", ["show", "report"])
def test_looking_at_what_is_not_a_run(tmp_path: Path, command: str, content: str):
    (tmp_path / "config.yaml").write_bytes(content.encode(errors="surrogateescape"))
    done = CliRunner().invoke(main, [command, str(tmp_path)])
    assert done.exit_code == 1
    assert f"{tmp_path}/config.yaml: not what a run writes there" in done.output
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_hidden_files_alone_are_no_content(tmp_path: Path):
    (tmp_path / "out" / ".git").mkdir(parents=True)
    (tmp_path / "out" / ".git" / "HEAD").write_text("main")
    Run.create(configuration(tmp_path, tmp_path / "out"))
    assert (tmp_path / "out" / ".git" / "HEAD").read_text() == "main"


NAMES = st.sampled_from(
    ["config.yaml", "best.json", "notes.txt", "export", "frame", "shards", "passes", "initial", "global", "thesis.txt",
     "part.csv", "watched.json", "validate", ".hidden", "a b", "métier"]
)  # fmt: skip
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=20), min_size=1, max_size=6
)


def grow(folder: Path, tree: dict[tuple[str, ...], bytes]) -> dict[str, bytes]:
    """The files that were made: a name is a file or a folder, whichever came first; none that is there already."""
    made = {}
    for names, content in tree.items():
        path = folder.joinpath(*names)
        if any(above.is_file() for above in path.parents) or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        made[path.relative_to(folder).as_posix()] = content
    return made


@given(TREES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_of_others_is_left_alone(tmp_path: Path, tree: dict[tuple[str, ...], bytes]):
    out = tmp_path / str(len(list(tmp_path.iterdir())))
    out.mkdir()
    made = grow(out, tree)
    visible = any(not name.startswith(".") for name in (path.split("/")[0] for path in made))
    if visible:
        with pytest.raises(ConfigError, match="is not a run of gdmix"):
            Run.create(configuration(tmp_path / "else", out))
        assert files_of(out) == made
    else:
        Run.create(configuration(tmp_path / "else", out))
        assert files_of(out).items() >= made.items()


@pytest.mark.slow
def test_files_beside_a_runs_own_outlive_it(tmp_path: Path):
    """Notes in all folders of a finished run, which is then made anew, whole."""
    run = trained(tmp_path)
    own = files_of(Path(run.root))
    folders = sorted({path.rpartition("/")[0] for path in own if path.split("/")[0] in ("frame", "shards", "export")})
    notes = {f"{folder}/{name}": name.encode() for folder in folders for name in ("notes.txt", "my model.csv")}
    notes |= {"notes.txt": b"n", "export/mine/thesis.txt": b"t", "figures/roc.png": b"p"}
    notes = {path: content for path, content in notes.items() if "/features/" not in path}
    for path, content in notes.items():
        Path(run.path(path)).parent.mkdir(exist_ok=True)
        Path(run.path(path)).write_bytes(content)
    described = json.loads(Path(run.path("export/manifest.json")).read_bytes()).get("contents", {})
    assert not set(described) & {path.removeprefix("export/") for path in notes}
    run_directory.clear(run.path("frame"))
    run_directory.clear(run.path("shards"))
    left = files_of(Path(run.root))
    assert {p for p in left if p.startswith(("frame/", "shards/"))} == {
        p for p in notes if p.startswith(("frame/", "shards/"))
    }
    again = trained(tmp_path, seed=1)
    after = files_of(Path(again.root))
    assert {path: after[path] for path in notes} == notes
    assert set(after) == set(own) | set(notes)
    assert after["export/global/shard-00000.parquet"] != own["export/global/shard-00000.parquet"]
    described = json.loads(after["export/manifest.json"]).get("contents", {})
    assert not set(described) & {path.removeprefix("export/") for path in notes}


@pytest.mark.parametrize("command", ["run", "validate"])
def test_the_command_changes_nothing_of_a_run_that_cannot_start(tmp_path: Path, command: str):
    """Neither somebody else's run, nor our own whose input is gone."""
    Run.create(configuration(tmp_path, tmp_path / "out"))
    before = files_of(tmp_path)
    pipeline = tmp_path / "p.yaml"
    for name, said in (("other", "is the run of pipeline mine"), ("mine", "the run cannot start: input: ")):
        places = {"input": f"{tmp_path}/in", "output": f"{tmp_path}/out/../out"}
        content = {"name": name, "task": "linear_regression", "coordinates": COORDINATES, **places}
        pipeline.write_text(yaml.safe_dump(content))
        done = CliRunner().invoke(main, [command, str(pipeline)])
        assert done.exit_code == 1
        assert said in done.output
        assert files_of(tmp_path / "out") == {
            path.removeprefix("out/"): content for path, content in before.items() if path.startswith("out/")
        }


@pytest.mark.parametrize(
    ("path", "message"), [("a\0b", "null character"), ("file://host/x", "names a host"), ("file://x", "names a host")]
)
def test_what_no_path_is(folder: Path, path: str, message: str):
    with pytest.raises(ConfigError, match=message):
        configuration(folder, path)


def test_a_url_with_one_slash_is_no_folder(folder: Path):
    with pytest.raises(ConfigError, match=r"'s3:/bucket/out' is neither a URL, which has two slashes \(s3://…\)"):
        configuration(folder, "s3:/bucket/out")
    assert configuration(folder, "./s3:/bucket/out").output.endswith("s3:/bucket/out")
