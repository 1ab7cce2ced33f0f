"""Model files: exact records out, round trips, and files as GDMix and Photon ML write them in."""

from __future__ import annotations

import copy
import math
import tempfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.data.feature_list import INTERCEPT, FeatureList
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.models.avro import read_avro, write_avro
from gdmix_core.models.avro_schema import BAYESIAN_LINEAR_MODEL, MODEL_CLASS_OF_TASK
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable

LOGISTIC = "com.linkedin.photon.ml.supervised.classification.LogisticRegressionModel"
NAN = math.nan

Model = dict[int, tuple[float, float]]
"""Feature index -> mean and variance."""


def table_of(models: dict[Any, Model], variances: bool = True) -> CoefficientTable:
    entities = sorted(models, key=lambda entity: entity.encode() if isinstance(entity, str) else entity)
    entries = [(index, *models[entity][index]) for entity in entities for index in sorted(models[entity])]
    integers = bool(entities) and isinstance(entities[0], int)
    return CoefficientTable(
        pa.array(entities, pa.int64() if integers else pa.string()),
        np.cumsum([0] + [len(models[entity]) for entity in entities]),
        np.array([index for index, _, _ in entries], dtype=np.int32),
        np.array([mean for _, mean, _ in entries], dtype=np.float64),
        np.array([variance for _, _, variance in entries], dtype=np.float64) if variances else None,
    )


def assert_same(found: CoefficientTable, expected: CoefficientTable) -> None:
    assert found.entities.equals(expected.entities)
    for name in ("offsets", "features", "means", "variances"):
        left, right = getattr(found, name), getattr(expected, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)


def entry(name: str, value: float, term: str | None = "") -> dict[str, Any]:
    return {"name": name, "term": term, "value": value}


def record(
    model_id: str, means: list, variances: list | None = None, model_class: str | None = LOGISTIC
) -> dict:
    return {
        "modelId": model_id,
        "modelClass": model_class,
        "means": means,
        "variances": variances,
        "lossFunction": "",
    }


def write_records(path: Path | str, records: list[Any], schema: Any = BAYESIAN_LINEAR_MODEL) -> str:
    with open(path, "wb") as file:
        fastavro.writer(file, schema, records)
    return str(path)


def read_records(path: Path | str) -> list[Any]:
    with open(path, "rb") as file:
        return list(fastavro.reader(file))


FEATURES = FeatureList([("age", ""), ("genre", "Film-Noir"), ("a,b", 'say "x"')])
TWO_USERS = {
    "u1": {INTERCEPT_INDEX: (0.5, 0.1), 0: (-2.0, 1e-9), 2: (1e-5, 3.0)},
    "u2": {INTERCEPT_INDEX: (0.0, 0.2), 1: (0.25, NAN)},
}


def test_records_are_as_both_predecessors_expect_them(tmp_path: Path) -> None:
    path = str(tmp_path / "part-00000.avro")
    write_avro(path, table_of(TWO_USERS), FEATURES, "logistic_regression", fixed=False)
    assert read_records(path) == [
        record(
            "u1",
            [entry("(INTERCEPT)", 0.5), entry("age", -2.0), entry("a,b", 1e-5, 'say "x"')],
            [entry("(INTERCEPT)", 0.1), entry("age", 1e-9), entry("a,b", 3.0, 'say "x"')],
        ),
        record(
            "u2", [entry("(INTERCEPT)", 0.0), entry("genre", 0.25, "Film-Noir")], [entry("(INTERCEPT)", 0.2)]
        ),
    ]
    with open(path, "rb") as file:
        assert fastavro.reader(file).codec == "deflate"


def test_variances_are_null_where_a_table_has_none(tmp_path: Path) -> None:
    path = str(tmp_path / "part-00000.avro")
    write_avro(path, table_of(TWO_USERS, variances=False), FEATURES, "logistic_regression", fixed=False)
    assert [record["variances"] for record in read_records(path)] == [None, None]


@pytest.mark.parametrize(
    ("task", "model_class"),
    [
        ("logistic_regression", "classification.LogisticRegressionModel"),
        ("linear_regression", "regression.LinearRegressionModel"),
        ("poisson_regression", "regression.PoissonRegressionModel"),
        ("smoothed_hinge", "classification.SmoothedHingeLossLinearSVMModel"),
    ],
)
def test_a_fixed_effect_of_each_task(tmp_path: Path, task: str, model_class: str) -> None:
    path = str(tmp_path / "part-00000.avro")
    table = table_of({"global": {INTERCEPT_INDEX: (0.5, 1.0), 1: (2.0, 3.0)}})
    write_avro(path, table, FEATURES, task, fixed=True)
    (written,) = read_records(path)
    assert written["modelId"] == "global model"
    assert written["modelClass"] == f"com.linkedin.photon.ml.supervised.{model_class}"
    model = read_avro(path, FEATURES, fixed=True)
    assert_same(model.table, table)
    assert model.task == task


def test_the_threshold_spares_intercepts_and_takes_variances_along(tmp_path: Path) -> None:
    path = str(tmp_path / "part-00000.avro")
    models: dict[str, Model] = {
        "u1": {INTERCEPT_INDEX: (0.0, 0.1), 0: (1e-4, 5.0), 1: (-1.1e-4, 1e-7), 2: (0.0, 1.0)},
        "u2": {0: (-1e-4, 1.0)},
        "u3": {2: (7.0, 1.0)},
    }
    write_avro(path, table_of(models), FEATURES, "logistic_regression", fixed=False, sparsity_threshold=1e-4)
    for entity, dropped in (("u1", (0, 2)), ("u2", (0,))):
        for index in dropped:
            del models[entity][index]
    assert_same(read_avro(path, FEATURES).table, table_of(models))


feature_lists = st.lists(
    st.tuples(st.text(max_size=6), st.text(max_size=4)).filter(lambda feature: feature != INTERCEPT),
    unique=True,
    max_size=6,
).map(FeatureList)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def models_of(draw: st.DrawFn, entities: st.SearchStrategy) -> tuple[FeatureList, CoefficientTable]:
    features = draw(feature_lists)
    indices = st.sets(st.integers(INTERCEPT_INDEX, len(features) - 1))
    models = {
        entity: {
            index: (draw(finite), draw(st.just(NAN) | st.floats(min_value=0, allow_nan=False)))
            for index in draw(indices)
        }
        for entity in draw(st.sets(entities, max_size=6))
    }
    has_entities = bool(models)
    return features, table_of(models, variances=has_entities and draw(st.booleans()))


@given(models_of(st.text(max_size=5)))
def test_round_trip_of_string_entities(model: tuple[FeatureList, CoefficientTable]) -> None:
    features, table = model
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/part.avro"
        write_avro(path, table, features, "linear_regression", fixed=False)
        found = read_avro(path, features)
        assert_same(found.table, table)
        assert found.features == features
        assert (found.dropped_coefficients, found.dropped_features) == (0, [])
        assert found.task == ("linear_regression" if len(table) else None)


@given(models_of(st.integers(-(2**63), 2**63 - 1)))
def test_round_trip_of_integer_entities(model: tuple[FeatureList, CoefficientTable]) -> None:
    features, table = model
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/part.avro"
        write_avro(path, table, features, "logistic_regression", fixed=False)
        found = read_avro(path, features, integer_entities=True).table
        if len(table):
            assert_same(found, table)
        assert found.entities.type == pa.int64()


@given(models_of(st.text(max_size=5)), st.randoms(use_true_random=False))
def test_without_a_list_the_features_of_the_files_are_the_list(
    model: tuple[FeatureList, CoefficientTable], random: Any
) -> None:
    features, table = model
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/part.avro"
        write_avro(path, table, features, "logistic_regression", fixed=False)
        found = read_avro(path)
        used = {features.names[index] for index in table.features if index != INTERCEPT_INDEX}
        assert found.features.names == sorted(used)
        # Any other order of the list only renumbers: read with it, and compare by names.
        shuffled = FeatureList(random.sample(features.names, len(features)))
        assert by_name(read_avro(path, shuffled).table, shuffled) == by_name(found.table, found.features)
        assert by_name(found.table, found.features) == by_name(table, features)


def by_name(table: CoefficientTable, features: FeatureList) -> list[tuple[str, dict]]:
    names = [*features.names, INTERCEPT]
    variances = np.full(len(table.means), NAN) if table.variances is None else table.variances
    found = []
    for row, entity in enumerate(table.entities.to_pylist()):
        entries = range(table.offsets[row], table.offsets[row + 1])
        assert list(table.features[list(entries)]) == sorted(table.features[list(entries)])
        found.append(
            (entity, {names[table.features[i]]: repr((table.means[i], variances[i])) for i in entries})
        )
    return found


def test_several_files_are_one_table_in_any_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / "part-00000.avro"), str(tmp_path / "part-00001.avro")]
    write_avro(paths[0], table_of({"u2": TWO_USERS["u2"]}), FEATURES, "logistic_regression", fixed=False)
    write_avro(paths[1], table_of({"u1": TWO_USERS["u1"]}), FEATURES, "logistic_regression", fixed=False)
    for order in (paths, paths[::-1]):
        assert_same(read_avro(order, FEATURES).table, table_of(TWO_USERS))


def test_more_entities_than_one_block(tmp_path: Path) -> None:
    models: dict[Any, Model] = {user: {user % 3: (float(user + 1), 1.0)} for user in range(3456)}
    path = str(tmp_path / "part.avro")
    write_avro(path, table_of(models), FEATURES, "logistic_regression", fixed=False)
    assert_same(read_avro(path, FEATURES, integer_entities=True).table, table_of(models))


def test_remote_files() -> None:
    path = "memory://models/part.avro"
    write_avro(path, table_of(TWO_USERS), FEATURES, "logistic_regression", fixed=False)
    assert_same(read_avro(path, FEATURES).table, table_of(TWO_USERS))


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
    expected = table_of(
        {"global": {INTERCEPT_INDEX: (0.5, 0.2), 0: (2.0, 0.1), 1: (0.0, 0.9), 2: (-3.0, NAN)}}
    )
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
    records = [
        record("u", [entry("age", 1.5, None), entry("(INTERCEPT)", 0.25, None)], None, model_class=None)
    ]
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


@pytest.mark.parametrize(
    "model_id", ["007", "+7", "7.0", "", " 7", "1_0", "٧", "-0", str(2**63), "9" * 30, "u7"]
)
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
        write_records(tmp_path / "part-00002.avro", [record("b", []), record("u", [])]),
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


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_give_a_model_or_a_data_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "part.avro"
        write_records(
            path, [record("u", [entry("age", 1.0), entry("(INTERCEPT)", 2.0)], [entry("age", 1.0)])]
        )
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


def test_what_cannot_be_written_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    path = str(tmp_path / "part.avro")
    table = table_of(TWO_USERS)
    with pytest.raises(ConfigError, match="task 'ranking' has no model class; known: logistic_regression"):
        write_avro(path, table, FEATURES, "ranking", fixed=False)
    with pytest.raises(DataError, match="a fixed effect is one model, but the table has 2 rows"):
        write_avro(path, table, FEATURES, "logistic_regression", fixed=True)
    with pytest.raises(DataError, match="feature index 2, but the feature list has 2 features"):
        write_avro(path, table, FeatureList(FEATURES.names[:2]), "logistic_regression", fixed=False)
    twice = FeatureList([("a", ""), ("b", ""), ("a", "")])
    with pytest.raises(DataError, match=r"first \('a', ''\) at indices \[0, 2\]"):
        write_avro(path, table, twice, "logistic_regression", fixed=False)
    diverged = table_of({"u1": {0: (1.0, 1.0)}, "u2": {}, "u3": {0: (1.0, 1.0), 1: (math.inf, 1.0)}})
    with pytest.raises(DataError, match="coefficient of feature index 1 of entity 'u3' is inf"):
        write_avro(path, diverged, FEATURES, "logistic_regression", fixed=False)
    assert list(tmp_path.iterdir()) == []
