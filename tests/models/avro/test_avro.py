"""Model files as we write them: exact records, and round trips."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
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
from gdmix_core.models.avro.files import read_avro, write_avro
from gdmix_core.models.table import INTERCEPT_INDEX, CoefficientTable
from tests.models.model_files import (
    FEATURES,
    NAN,
    TWO_USERS,
    Model,
    assert_same,
    entry,
    read_records,
    record,
    table_of,
)


def test_records_are_as_both_predecessors_expect_them(tmp_path: Path) -> None:
    path = str(tmp_path / "part-00000.avro")
    write_avro(path, table_of(TWO_USERS), FEATURES, "logistic_regression", fixed=False)
    assert read_records(path) == [
        record(
            "u1",
            [entry("(INTERCEPT)", 0.5), entry("age", -2.0), entry("a,b", 1e-5, 'say "x"')],
            [entry("(INTERCEPT)", 0.1), entry("age", 1e-9), entry("a,b", 3.0, 'say "x"')],
        ),
        record("u2", [entry("(INTERCEPT)", 0.0), entry("genre", 0.25, "Film-Noir")], [entry("(INTERCEPT)", 0.2)]),
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


@settings(deadline=None)
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


@settings(deadline=None)
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


@settings(deadline=None)
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
        found.append((entity, {names[table.features[i]]: repr((table.means[i], variances[i])) for i in entries}))
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
    with pytest.raises(DataError, match="a coefficient of entity 'u3' is inf"):
        write_avro(path, diverged, FEATURES, "logistic_regression", fixed=False)
    for entities, message in ((["u1", "u1"], "entity 'u1' has 2 models"), (["u1", None], "1 entities are null")):
        with pytest.raises(DataError, match=message):
            write_avro(path, replace(table, entities=pa.array(entities)), FEATURES, "logistic_regression", fixed=False)
    assert list(tmp_path.iterdir()) == []
