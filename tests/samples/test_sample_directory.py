"""Where a sample is written: never over what no sample wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdmix_core import storage
from gdmix_core.cli.command import main
from gdmix_core.errors import DataError
from gdmix_core.samples.generated import generate_sample, write_generated

SAMPLE = generate_sample(users=20, movies=20, ratings=100, seed=1)
OTHER = generate_sample(users=20, movies=20, ratings=100, seed=2)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FOREIGN = st.lists(
    st.sampled_from(["notes.txt", "global", "metadata", "trainingData", "truth", "part-00000.csv", "per_user", ".git",
                     ".hidden", "mine", "tensor_metadata.json"]),
    min_size=1, max_size=3,
)  # fmt: skip


@given(FOREIGN, st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_of_others_are_left_alone(tmp_path: Path, names: list[str], beside_a_sample: bool):
    output = tmp_path / str(len(list(tmp_path.iterdir())))
    if beside_a_sample:
        write_generated(str(output), SAMPLE)
    path = output.joinpath(*names)
    if path.exists() or any(above.is_file() for above in path.parents):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    before = files_of(output)
    if names[0].startswith("."):
        write_generated(str(output), OTHER)
        assert path.read_bytes() == b"mine"
    elif not beside_a_sample or "/".join(names) not in OURS_BY_NAME:
        with pytest.raises(DataError, match="which no sample wrote: nothing there is touched"):
            write_generated(str(output), OTHER)
        assert files_of(output) == before


# What has the name of a sample's file beside a sample is taken for one.
OURS_BY_NAME = {"metadata/tensor_metadata.json"} | {
    f"{source}/metadata/tensor_metadata.json" for source in ("global", "per_user", "mine", "truth", "trainingData")
}


@pytest.mark.parametrize("change", ["a part more", "a list more", "another content", "a link to a folder", "a link"])
def test_what_was_changed_in_a_sample_is_not_its_own(tmp_path: Path, change: str):
    """Also where it has the name that a sample's file may have."""
    write_generated(str(tmp_path / "in"), SAMPLE)
    source, elsewhere = tmp_path / "in/global", tmp_path / "elsewhere"
    elsewhere.mkdir()
    match change:
        case "a part more":
            (source / "trainingData/part-00077.tfrecord").write_bytes(b"mine")
        case "a list more":
            (source / "featureList/my_notes").write_text("mine")
        case "another content":
            path = source / "featureList/global"
            path.write_text(path.read_text().upper())
        case "a link to a folder":
            source.rename(elsewhere / "global")
            source.symlink_to(elsewhere / "global")
        case "a link":
            path = source / "featureList/global"
            path.rename(elsewhere / "global")
            path.symlink_to(elsewhere / "global")
    before = files_of(tmp_path)
    with pytest.raises(DataError, match="which no sample wrote: nothing there is touched"):
        write_generated(str(tmp_path / "in"), OTHER)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("place", ["{}", "memory://samples{}"])
@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
def test_a_sample_is_replaced_by_another(tmp_path: Path, place: str, kind):
    root, expected = place.format(tmp_path / "in"), place.format(tmp_path / "fresh")
    write_generated(root, SAMPLE)
    with storage.open_for_write(storage.join(root, "global/trainingData/.part-00007.tfrecord.x1y2z3")) as file:
        file.write(b"as a killed one leaves it")
    storage.write_json(storage.join(root, ".gdmix-sample.json"), {"format": 2})  # without its files: it had not ended
    write_generated(root, OTHER, format=kind)
    write_generated(expected, OTHER, format=kind)
    found = storage.paths_within(root, hidden=True)
    assert found == storage.paths_within(expected, hidden=True)
    for path in found:
        with storage.open_for_read(f"{root}/{path}") as file, storage.open_for_read(f"{expected}/{path}") as other:
            assert file.read() == other.read(), path


@pytest.mark.parametrize("kind", ["generated", "movielens", "nemig"])
def test_every_command_refuses_what_is_not_its_own(tmp_path: Path, kind: str):
    """Also the folder of the published files themselves, and a file."""
    for name in ("ratings.csv", "movies.csv", "news.tsv", "rows.tsv"):
        (tmp_path / name).write_text("userId,movieId,rating,timestamp\n")
    data = [] if kind == "generated" else ["--data", str(tmp_path)]
    before = files_of(tmp_path)
    for output in (tmp_path, tmp_path / "ratings.csv"):
        done = CliRunner().invoke(main, ["sample", kind, *data, "--output", str(output)])
        assert done.exit_code == 1
        assert f"output {output} " in done.output
        assert files_of(tmp_path) == before


def test_more_ratings_than_can_be_drawn_are_as_many_as_can(tmp_path: Path):
    sizes = ["--users", "20", "--movies", "20", "--ratings", "500"]
    done = CliRunner().invoke(main, ["sample", "generated", "--output", str(tmp_path / "in"), *sizes])
    assert done.exit_code == 0, done.output
    assert "500 ratings are more than three in ten of all user-movie pairs: 120 are written" in done.stderr
    assert "120" in done.stdout
