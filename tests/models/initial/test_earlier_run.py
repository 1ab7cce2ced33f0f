"""Which earlier run `initial_model` with `required: false` takes: the newest finished one before the one it names."""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from run_directory import Rows, make_run
from test_initialize import COORDINATES, NEW, earlier_run, exported, initial, make_rows, without

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.execution import dispatch
from gdmix_core.models.initial import newest_run as choices
from gdmix_core.models.initial.locate import find_initial
from gdmix_core.models.initial.newest_run import Choice, choose
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.pipeline.run import Run

FIRST = datetime.date(2026, 10, 28)


def night(root: Path, name: str, *, finished: bool, pipeline: str = "nightly") -> None:
    """What a run leaves that was begun, and what one leaves that ended."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"config": {"name": pipeline}}))
    if finished:
        (folder / "export").mkdir()
        (folder / "export" / "manifest.json").write_text("{}")


def config(root: Path, named: str, output: str, **initial: Any) -> Config:
    return parse_config(
        {
            "name": "nightly", "input": "data", "output": f"{root}/{output}",
            "coordinates": {"global": {"fixed_effect": {}}},
            "initial_model": {"path": f"{root}/{named}", "required": False, **initial},
        }
    )  # fmt: skip


def taken(root: Path, named: str, output: str = "2026-11-05") -> str | None:
    choice = choose(config(root, named, output))
    assert choice is not None
    return choice.taken and choice.taken.removeprefix(f"{root}/")


@given(
    nights=st.lists(st.sampled_from(["finished", "failed", "missing"]), min_size=1, max_size=12),
    today=st.integers(0, 11),
    back=st.integers(1, 3),
    form=st.sampled_from(["%Y-%m-%d", "%Y%m%d", "day=%Y-%m-%d", "%Y_%m_%dT03", "v2-%Y-%m-%d/whole"]),
)
def test_never_a_later_day(
    tmp_path_factory: pytest.TempPathFactory, nights: list[str], today: int, back: int, form: str
) -> None:
    """Whatever of the days before and after is finished, failed or missing: as counted back by the calendar."""
    root = tmp_path_factory.mktemp("nights")
    paths = [(FIRST + datetime.timedelta(days=day)).strftime(form) for day in range(-3, 12)]
    for path, state in zip(paths[3:], nights, strict=False):
        if state != "missing":
            night(root, path, finished=state == "finished")
    earlier = [paths[3 + day] for day in range(min(today - back + 1, len(nights))) if nights[day] == "finished"]
    named = paths[3 + today - back]
    assert taken(root, named, paths[3 + today]) == (earlier[-1] if earlier else None)


def test_a_failed_night_a_missing_day_and_two_failed_nights(tmp_path: Path) -> None:
    assert taken(tmp_path, "2026-11-04") is None
    night(tmp_path, "2026-11-04", finished=False)
    assert taken(tmp_path, "2026-11-04") is None
    night(tmp_path, "2026-11-02", finished=True)
    assert taken(tmp_path, "2026-11-04") == "2026-11-02"
    night(tmp_path, "2026-11-03", finished=False)
    choice = choose(config(tmp_path, "2026-11-04", "2026-11-05"))
    assert choice == Choice(
        f"{tmp_path}/2026-11-04",
        f"{tmp_path}/2026-11-02",
        (f"{tmp_path}/2026-11-04", f"{tmp_path}/2026-11-03"),
    )
    assert str(choice) == (
        f"{tmp_path}/2026-11-04 never finished, {tmp_path}/2026-11-03 never finished: starts from "
        f"{tmp_path}/2026-11-02, the newest finished run before (required: false)"
    )


def test_days_side_by_side_and_an_old_day_again(tmp_path: Path) -> None:
    """All ten days of a backfill have begun; an old day, run again, has later ones beside it that are finished."""
    for day in range(1, 11):
        night(tmp_path, f"2026-11-{day:02d}", finished=day in (2, 7, 8, 9, 10))
    for day, expected in ((1, None), (2, None), (3, 2), (4, 2), (6, 2), (8, 7)):
        named = f"2026-{'11' if day > 1 else '10'}-{day - 1 if day > 1 else 31:02d}"
        assert taken(tmp_path, named, f"2026-11-{day:02d}") == (expected and f"2026-11-{expected:02d}")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("2026-11-03", "2026-11-03"),
        ("20261103", None),  # of another form
        ("x2026-11-03", None),
        ("2026-11-03-again", None),
        ("2026-11-31", None),  # not a date
        ("_2026-11-03", None),
    ],
)
def test_what_the_template_could_have_named(tmp_path: Path, found: str, expected: str | None) -> None:
    night(tmp_path, found, finished=True)
    assert taken(tmp_path, "2026-11-04") == expected


def test_hours_and_runs_of_other_pipelines(tmp_path: Path) -> None:
    for hour, finished in ((1, True), (2, True), (3, False), (5, True)):
        night(tmp_path, f"2026-11-04T{hour:02d}", finished=finished)
    assert taken(tmp_path, "2026-11-04T03", "2026-11-04T04") == "2026-11-04T02"
    assert taken(tmp_path, "2026-11-04T09", "2026-11-04T04") == "2026-11-04T02"  # never its own future
    night(tmp_path / "mixed", "2026-11-02", finished=True)
    night(tmp_path / "mixed", "2026-11-03", finished=True, pipeline="another")
    assert taken(tmp_path, "mixed/2026-11-04") == "mixed/2026-11-02"
    night(tmp_path / "mixed", "2026-11-04", finished=False, pipeline="another")
    assert taken(tmp_path, "mixed/2026-11-04") == "mixed/2026-11-03"


def test_paths_of_exports_and_paths_without_a_date(tmp_path: Path) -> None:
    night(tmp_path, "2026-11-02", finished=True)
    night(tmp_path, "2026-11-03", finished=False)
    assert taken(tmp_path, "2026-11-03/export") == "2026-11-02/export"
    night(tmp_path, "runs/previous", finished=False)
    night(tmp_path, "runs/older", finished=True)
    assert taken(tmp_path, "runs/previous") is None
    assert taken(tmp_path, "runs/older") == "runs/older"
    (tmp_path / "2026-11-04").mkdir()
    (tmp_path / "2026-11-04" / "gdmix-run.json").touch()
    assert taken(tmp_path, "2026-11-04") == "2026-11-02"


def test_what_is_no_run_is_taken_as_it_is(tmp_path: Path) -> None:
    """Photon ML's folders have no files at their top: they were taken for nothing."""
    night(tmp_path, "2026-11-02", finished=True)
    (tmp_path / "2026-11-03" / "fixed-effect" / "global").mkdir(parents=True)
    assert taken(tmp_path, "2026-11-03") == "2026-11-03"
    with pytest.raises(DataError, match="neither a run, nor an export"):
        find_initial(config(tmp_path, "2026-11-03", "2026-11-05"))


def test_what_is_required_is_what_is_named(tmp_path: Path) -> None:
    night(tmp_path, "2026-11-03", finished=True)
    night(tmp_path, "2026-11-04", finished=False)
    required = config(tmp_path, "2026-11-04", "2026-11-05", required=True)
    with pytest.raises(DataError, match=r"begun and not finished.*say required: false, which takes the newest"):
        find_initial(required)
    own = config(tmp_path, "2026-11-05", "2026-11-05")
    assert choose(own) == Choice(f"{tmp_path}/2026-11-05", f"{tmp_path}/2026-11-05")


def test_in_an_object_store() -> None:
    for day, finished in ((1, True), (2, True), (3, False)):
        root = f"memory://bucket/earlier/2026-11-{day:02d}"
        make_run(
            root,
            {
                "name": "nightly",
                "input": "memory://data",
                "output": root,
                "coordinates": {"global": {"fixed_effect": {}, "bag": "g"}},
            },
            Rows([0.0, 1.0], bags={"g": [[1.0], [2.0]]}),
        )
        if finished:
            storage.write_json(f"{root}/export/manifest.json", {})
    content = {
        "name": "nightly", "input": "i", "output": "memory://bucket/earlier/2026-11-04",
        "coordinates": {"global": {"fixed_effect": {}}},
        "initial_model": {"path": "memory://bucket/earlier/2026-11-03", "required": False},
    }  # fmt: skip
    choice = choose(parse_config(content))
    assert choice is not None
    assert choice.taken == "memory://bucket/earlier/2026-11-02"


def test_the_run_keeps_its_choice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A neighbour that finishes between validate and initialize changes nothing; the manifest and the log say which."""
    others = {**COORDINATES, "global": {**COORDINATES["global"], "l2": 50.0}}
    old = earlier_run(tmp_path / "a", name="nightly", output=f"{tmp_path}/2026-11-02")
    newer = earlier_run(tmp_path / "b", name="nightly", output=f"{tmp_path}/2026-11-03", coordinates=others)
    manifest = Path(newer.path("export", "manifest.json"))
    whole = manifest.read_bytes()
    manifest.unlink()
    path = {"path": f"{tmp_path}/2026-11-03", "required": False}
    content = {"name": "nightly", "output": f"{tmp_path}/2026-11-04", "initial_model": path}
    run = make_run(tmp_path / "c", {**content, "coordinates": COORDINATES}, make_rows(NEW, seed=1), feature_names=NEW)
    with caplog.at_level(logging.WARNING):
        choices.record(run)
    assert f"{newer.root} never finished: starts from {old.root}, the newest finished run" in caplog.text
    manifest.write_bytes(whole)
    again = Run.open(run.root)
    dispatch.execute(again, again.plan["initialize"])
    made = json.loads(Path(run.path("initial/manifest.json")).read_text())
    assert made["initial_model"] == {"named": newer.root, "taken": old.root, "passed_over": [newer.root]}
    expected = without(exported(old, "global"), ("gone", ""))
    assert {k: {f: m for f, (m, _) in v.items()} for k, v in initial(again, "global").items()} == {
        k: {f: m for f, (m, _) in v.items()} for k, v in expected.items()
    }
    choices.record(again)  # as it starts anew
    assert choices.recorded(again) == Choice(newer.root, newer.root)


def test_no_run_starts_from_itself(tmp_path: Path) -> None:
    night(tmp_path, "2026-11-05", finished=False)
    with pytest.raises(ConfigError, match=r"initial_model\.path"):
        run_directory.check(config(tmp_path, "2026-11-05", "2026-11-05"))


@pytest.mark.parametrize("damage", ["", "config: [", "\x00"])
def test_a_damaged_night_is_passed_over(tmp_path: Path, damage: str) -> None:
    night(tmp_path, "2026-11-02", finished=True)
    night(tmp_path, "2026-11-03", finished=True)
    (tmp_path / "2026-11-03" / "config.yaml").write_text(damage)
    assert taken(tmp_path, "2026-11-04") == "2026-11-02"
