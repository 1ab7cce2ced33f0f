"""Feature names and terms with commas, quotes, line breaks or nothing in them: list, export, Avro, and back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from run_directory import Rows, make_run

from gdmix_core.data.feature_list import Feature
from gdmix_core.execution import dispatch
from gdmix_core.models.initial.written import read_initial
from gdmix_core.models.native import read_model
from gdmix_core.pipeline.run import Run

NAMES: list[Feature] = [
    ("a,b", ""),
    ("a", "b,"),
    ("a", ",b"),
    ("", ""),
    ("", "term alone"),
    ('say "x"', 'y"'),
    ('"', "'"),
    (" padded ", "\ttab"),
    ("line\nbreak", "carriage\rreturn"),
    ("é☃", "\ufeffmark"),
    ("(INTERCEPT)", "of a kind"),
    ("a", "b"),
]


def trained(root: Path, names: list[Feature], initial: Any = None) -> Run:
    rng = np.random.default_rng(0)
    rows = Rows((rng.random(80) < 0.5).astype(float), ids={"user": rng.integers(0, 4, 80)},
                bags={"bag": rng.normal(size=(80, len(names)))})  # fmt: skip
    coordinates = {"global": {"fixed_effect": {}, "bag": "bag"}}
    coordinates["per_user"] = {"random_effect": {"entity": "user", "shards": 1}, "bag": "bag"}
    config = {"coordinates": coordinates}
    run = make_run(root, {**config, "initial_model": initial}, rows, feature_names={"bag": names})
    for step in run.plan.steps[2:] if initial is None else [run.plan["initialize"]]:
        dispatch.execute(run, step)
    return run


@pytest.mark.parametrize("formats", ["native", "avro"])
@pytest.mark.parametrize("name", ["global", "per_user"])
def test_names_come_through(tmp_path: Path, formats: str, name: str) -> None:
    old = trained(tmp_path / "old", NAMES)
    folder = Path(old.path("export", name))
    with open(folder / "features.csv", newline="", encoding="utf-8") as file:
        assert [tuple(fields) for fields in csv.reader(file)] == NAMES
    table = read_model(old.model(1, name, 0))
    expected = {}
    for e, entity in enumerate(table.entities.to_pylist()):
        span = slice(table.offsets[e], table.offsets[e + 1])
        names = [NAMES[i] if i >= 0 else ("(INTERCEPT)", "") for i in table.features[span].tolist()]
        expected[str(entity)] = dict(zip(names, table.means[span].tolist(), strict=True))
    with open(folder / "part-00000.avro", "rb") as file:
        found = {r["modelId"]: {(e["name"], e["term"]): e["value"] for e in r["means"]} for r in fastavro.reader(file)}
    assert list(found.values()) == list(expected.values())

    initial = old.path("export") if formats == "native" else {"coordinates": {name: str(folder / "part-00000.avro")}}
    new = trained(tmp_path / "new", NAMES[::-1], initial)
    again = read_initial(new, name, 0)
    assert again is not None
    for e, entity in enumerate(again.entities.to_pylist()):
        span = slice(again.offsets[e], again.offsets[e + 1])
        names = [NAMES[::-1][i] if i >= 0 else ("(INTERCEPT)", "") for i in again.features[span].tolist()]
        assert dict(zip(names, again.means[span].tolist(), strict=True)) == expected[str(entity)]
