"""Model files as others write them: GDMix, Photon ML, damaged, contradictory, of another kind."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.feature_list import FeatureList
from gdmix_core.errors import DataError
from gdmix_core.models.avro.files import read_avro, write_avro
from gdmix_core.models.avro.schema import BAYESIAN_LINEAR_MODEL, MODEL_CLASS_OF_TASK
from gdmix_core.models.table import INTERCEPT_INDEX
from tests.models.model_files import (
    FEATURES,
    NAN,
    TWO_USERS,
    Model,
    assert_same,
    entry,
    record,
    table_of,
    write_records,
)


def test_files_by_gdmix(tmp_path: Path) -> None:
    """Intercept first, then index order; a random effect whose ids are integers; variances null."""
    path = write_records(
        tmp_path / "part-00000.avro",
        [
            record("10", [entry("(INTERCEPT)", 0.0), entry("age", 1.5)]),
            record("9", [entry("(INTERCEPT)", -1.0)]),
        ],
    )
    expected: dict[Any, Model] = {
        9: {INTERCEPT_INDEX: (-1.0, NAN)},
        10: {INTERCEPT_INDEX: (0.0, NAN), 0: (1.5, NAN)},
    }
    assert_same(read_avro(path, FEATURES, integer_entities=True).table, table_of(expected, variances=False))
    assert read_avro(path, FEATURES).table.entities.to_pylist() == ["10", "9"]


def test_files_by_photon(tmp_path: Path) -> None:
    """Sorted by absolute value; small means and small variances left out, each on its own; "fixed-effect"."""
    path = write_records(
        tmp_path / "part-00000.avro",
        [
            record(
                "fixed-effect",
                [entry("a,b", -3.0, 'say "x"'), entry("age", 2.0), entry("(INTERCEPT)", 0.5)],
                [entry("genre", 0.9, "Film-Noir"), entry("(INTERCEPT)", 0.2), entry("age", 0.1)],
            )
        ],
    )
    expected = table_of({"global": {INTERCEPT_INDEX: (0.5, 0.2), 0: (2.0, 0.1), 1: (0.0, 0.9), 2: (-3.0, NAN)}})
    assert_same(read_avro(path, FEATURES, fixed=True).table, expected)


def test_records_with_and_without_variances(tmp_path: Path) -> None:
    path = write_records(
        tmp_path / "part.avro",
        [record("b", [entry("age", 1.0)], [entry("age", 4.0)]), record("a", [entry("age", 2.0)], None)],
    )
    expected = table_of({"a": {0: (2.0, NAN)}, "b": {0: (1.0, 4.0)}})
    assert_same(read_avro(path, FEATURES).table, expected)


def test_null_terms_classes_and_float_values_of_other_writers(tmp_path: Path) -> None:
    schema = copy.deepcopy(dict(BAYESIAN_LINEAR_MODEL))
    schema.pop("__fastavro_parsed__", None)
    schema.pop("__named_schemas", None)
    _, term, value = schema["fields"][2]["type"]["items"]["fields"]
    term["type"], value["type"] = ["null", "string"], "float"
    records = [record("u", [entry("age", 1.5, None), entry("(INTERCEPT)", 0.25, None)], None, model_class=None)]
    path = write_records(tmp_path / "part.avro", records, fastavro.parse_schema(schema))
    model = read_avro(path, FEATURES)
    assert model.task is None
    expected = table_of({"u": {INTERCEPT_INDEX: (0.25, NAN), 0: (1.5, NAN)}}, variances=False)
    assert_same(model.table, expected)


def test_unknown_features_are_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "part.avro")
    models = TWO_USERS | {"u3": {0: (1.0, 1.0), 1: (2.0, 2.0)}}
    write_avro(path, table_of(models), FEATURES, "logistic_regression", fixed=False)
    known = FeatureList([("genre", "Film-Noir"), ("new", "")])
    model = read_avro(path, known)
    assert model.dropped_coefficients == 3
    assert model.dropped_features == [("a,b", 'say "x"'), ("age", "")]
    expected: dict[str, Model] = {
        "u1": {INTERCEPT_INDEX: (0.5, 0.1)},
        "u2": {INTERCEPT_INDEX: (0.0, 0.2), 0: (0.25, NAN)},
        "u3": {0: (2.0, 2.0)},
    }
    assert_same(model.table, table_of(expected))
    nothing_known = read_avro(path, FeatureList([]))
    assert nothing_known.dropped_coefficients == 5
    assert len(nothing_known.table) == 3


@pytest.mark.parametrize("model_id", ["007", "+7", "7.0", "", " 7", "1_0", "٧", "-0", str(2**63), "9" * 30, "u7"])
def test_ids_that_are_no_plain_integers_are_refused(tmp_path: Path, model_id: str) -> None:
    path = write_records(tmp_path / "part.avro", [record("1", []), record(model_id, [])])
    with pytest.raises(DataError, match=r"part\.avro: modelId .* is no plain 64-bit integer"):
        read_avro(path, integer_entities=True)


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([record("u", []), record("u", [])], {}, r"entity 'u' has two models, in .*part\.avro"),
        (
            [record("u", [entry("age", 1.0), entry("age", 2.0)])],
            {},
            r"part\.avro: feature \('age', ''\) of entity 'u': the mean occurs twice",
        ),
        (
            [record("u", [], [entry("(INTERCEPT)", 1.0), entry("(INTERCEPT)", 2.0)])],
            {},
            r"part\.avro: feature \('\(INTERCEPT\)', ''\) of entity 'u': the variance occurs twice",
        ),
        (
            [record("u", [entry("age", NAN)])],
            {},
            r"part\.avro: feature \('age', ''\) of entity 'u': the mean is nan",
        ),
        ([record("u", []), record("v", [])], {"fixed": True}, r"a fixed effect is one model, found 2"),
        ([], {"fixed": True}, r"a fixed effect is one model, found 0"),
        (
            [record("u", []), record("v", [], model_class=MODEL_CLASS_OF_TASK["linear_regression"])],
            {},
            r"LogisticRegressionModel in .*part\.avro, .*LinearRegressionModel in .*part\.avro",
        ),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, records: list, options: dict, message: str) -> None:
    path = write_records(tmp_path / "part.avro", records)
    with pytest.raises(DataError, match=message):
        read_avro(path, **options)


def test_an_entity_in_two_files_names_both(tmp_path: Path) -> None:
    paths = [
        write_records(tmp_path / "part-00000.avro", [record("a", []), record("u", [])]),
        write_records(tmp_path / "part-00001.avro", []),
        write_records(tmp_path / "part-00002.avro", [record("u", []), record("b", [])]),
    ]
    with pytest.raises(DataError, match=r"part-0000[02]\.avro and in .*part-0000[02]\.avro") as error:
        read_avro(paths)
    assert "part-00000" in str(error.value)
    assert "part-00002" in str(error.value)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    schema = {"type": "record", "name": "score", "fields": [{"name": "uid", "type": "long"}]}
    path = write_records(tmp_path / "scores.avro", [{"uid": 1}], fastavro.parse_schema(schema))
    with pytest.raises(DataError, match=r"scores\.avro: not a model file; its records have the fields uid"):
        read_avro(path)
    longs = write_records(tmp_path / "longs.avro", [1, 2], "long")
    with pytest.raises(DataError, match=r"longs\.avro, record 0 \(from 0\): damaged, or not a model file"):
        read_avro(longs)
    (tmp_path / "text.avro").write_text("name,term\n")
    with pytest.raises(DataError, match=r"text\.avro, record 0 \(from 0\): damaged, or not a model file"):
        read_avro(str(tmp_path / "text.avro"))
    with pytest.raises(DataError, match=r"absent\.avro: no such file"):
        read_avro(str(tmp_path / "absent.avro"))


def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path) -> None:
    path = tmp_path / "part.avro"
    write_avro(str(path), table_of(TWO_USERS), FEATURES, "logistic_regression", fixed=False)
    content = path.read_bytes()
    with path.open("rb") as file:
        header = next(iter(fastavro.block_reader(file))).offset
    for length in set(range(len(content))) - {header}:  # a header alone is a file without models
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"part\.avro, record"):
            read_avro(str(path))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_give_a_model_or_a_data_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "part.avro"
        write_records(path, [record("u", [entry("age", 1.0), entry("(INTERCEPT)", 2.0)], [entry("age", 1.0)])])
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            model = read_avro(str(path))
        except DataError as error:
            message = str(error)
        else:
            message = "part.avro" if np.isfinite(model.table.means).all() else "a mean is not finite"
        assert "part.avro" in message
