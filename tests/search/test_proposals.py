"""What trials try: grids in their order, and Optuna's proposals, the same wherever and whenever they are worked out."""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import round_count, searched, trial_count, trials_of_round, with_values
from gdmix_core.pipeline.loading import parse_config
from gdmix_core.search.proposals import TrialResult, propose
from gdmix_core.search.trials import nearest_trial

L2 = "coordinates.per_user.l2"
BASE: dict[str, Any] = {
    "name": "p",
    "input": "i",
    "output": "o",
    "coordinates": {"global": {"fixed_effect": {}}, "per_user": {"random_effect": {"entity": "user_id"}}},
    "passes": {"max": 2},
}


def config(tune: Mapping[str, Any] | None = None, **l2: Any) -> Config:
    """l2: of each coordinate."""
    coordinates = {name: {**c, **({"l2": l2[name]} if name in l2 else {})} for name, c in BASE["coordinates"].items()}
    return parse_config({**BASE, "coordinates": coordinates, "tune": tune})


def everything(made: Config, score: Callable[[Mapping[str, float]], float | None]) -> list[TrialResult]:
    """All rounds, each proposed after the ones before it were scored."""
    outcomes: list[TrialResult] = []
    for number in range(1, round_count(made) + 1):
        proposals = propose(made, number, outcomes)
        assert list(proposals) == list(trials_of_round(made, number))
        outcomes += [TrialResult(values, score(values)) for values in proposals.values()]
    assert len(outcomes) == trial_count(made)
    return outcomes


values = st.lists(st.floats(0, 1e6).map(float), min_size=1, max_size=4, unique=True)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    first=values,
    second=values,
    passes=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    n=st.integers(1, 50),
)
def test_a_grid_is_every_combination_from_strong_to_weak_penalties(first, second, passes, n):
    made = config({"parameters": {"passes.max": passes}, "parallel": n}, **{"global": first, "per_user": second})
    tried = [tuple(outcome.values.values()) for outcome in everything(made, lambda _: None)]
    expected = [
        (a, b, float(p)) for a in sorted(first)[::-1] for b in sorted(second)[::-1] for p in passes
    ]  # nested loops: the first parameter is the slowest
    assert tried == expected
    assert list(searched(made)) == ["coordinates.global.l2", L2, "passes.max"]


def test_a_list_alone_is_a_grid_one_trial_at_a_time():
    made = config(per_user=[0.1, 10, 1])
    assert [propose(made, number, []) for number in (1, 2, 3)] == [{1: {L2: 10}}, {2: {L2: 1}}, {3: {L2: 0.1}}]
    assert trial_count(config(per_user=1.0)) == round_count(config(per_user=1.0)) == 0


SPACE = {
    L2: {"low": 1e-3, "high": 1e3, "log": True},
    "coordinates.global.l2": {"low": 0.0, "high": 5.0},
    "coordinates.global.alpha": [0.0, 0.5, 1.0],
    "passes.max": {"low": 1, "high": 4, "integer": True},
}


def smooth(values: Mapping[str, float]) -> float:
    """A peak of 0 at l2 = 3 of per_user and 1 of global, alpha 0.5, 3 passes."""
    return -(
        (math.log10(values[L2]) - math.log10(3)) ** 2
        + (values["coordinates.global.l2"] - 1) ** 2 / 4
        + (values["coordinates.global.alpha"] - 0.5) ** 2
        + (values["passes.max"] - 3) ** 2 / 9
    )


@settings(deadline=None, max_examples=15, derandomize=True)
@given(method=st.sampled_from(["random", "bayesian"]), seed=st.integers(0, 2**40), parallel=st.integers(1, 9))
def test_proposals_lie_in_the_space_and_make_configurations(method, seed, parallel):
    made = config({"method": method, "trials": 12, "seed": seed, "parallel": parallel, "parameters": SPACE})
    for outcome in everything(made, smooth):
        assert list(outcome.values) == list(SPACE)
        assert 1e-3 <= outcome.values[L2] <= 1e3
        assert 0 <= outcome.values["coordinates.global.l2"] <= 5
        assert outcome.values["coordinates.global.alpha"] in (0.0, 0.5, 1.0)
        assert outcome.values["passes.max"] in (1, 2, 3, 4)
        trial = with_values(made, outcome.values)
        assert trial.tune is None
        assert trial.passes.max == outcome.values["passes.max"]
        assert trial.coordinates["per_user"].l2 == outcome.values[L2]
        json.dumps(outcome.values)


def test_random_proposals_are_those_of_any_rounds_and_spread():
    tune = {"method": "random", "trials": 60, "parameters": {L2: SPACE[L2]}}
    one = everything(config({**tune, "parallel": 1}), lambda _: None)
    seven = everything(config({**tune, "parallel": 7}), lambda _: 1.0)
    assert [o.values for o in one] == [o.values for o in seven]
    tried = sorted(math.log10(o.values[L2]) for o in one)
    assert len(set(tried)) == 60
    assert sum(value < 0 for value in tried) == pytest.approx(30, abs=12)  # evenly in the logarithm
    other = everything(config({**tune, "seed": 1}), lambda _: None)
    assert not {o.values[L2] for o in one} & {o.values[L2] for o in other}


@pytest.mark.parametrize("parallel", [1, 5])
def test_a_bayesian_search_comes_nearer_than_a_random_one(parallel):
    def best(method: str, seed: int) -> float:
        tune = {"method": method, "trials": 40, "seed": seed, "parallel": parallel, "parameters": SPACE}
        return max(smooth(outcome.values) for outcome in everything(config(tune), smooth))

    seeds = range(5)
    found = {method: statistics.median(best(method, seed) for seed in seeds) for method in ("random", "bayesian")}
    assert found["bayesian"] > found["random"]


def test_a_bayesian_search_minimises_where_lower_is_better():
    def mean_l2(metric: str) -> float:
        tune = {
            "method": "bayesian",
            "trials": 40,
            "parameters": {"coordinates.global.l2": SPACE["coordinates.global.l2"]},
        }
        made = parse_config({**BASE, "metrics": [metric], "tune": tune})
        outcomes = everything(made, lambda values: values["coordinates.global.l2"])
        return statistics.mean(o.values["coordinates.global.l2"] for o in outcomes[20:])

    assert mean_l2("auc") > 3.5
    assert mean_l2("logloss") < 1.5


def test_undefined_results_are_avoided():
    tune = {"method": "bayesian", "trials": 40, "parameters": {"coordinates.global.l2": SPACE["coordinates.global.l2"]}}

    def score(values: Mapping[str, float]) -> float | None:
        return None if values["coordinates.global.l2"] > 2.5 else 0.7

    outcomes = everything(config(tune), score)
    assert sum(outcome.value is None for outcome in outcomes[20:]) < sum(o.value is not None for o in outcomes[20:])


def test_the_same_in_every_process():
    """Each task of a round works its proposals out for itself."""
    code = """
import json, sys
sys.path[:0] = ["tests/search"]
from test_proposals import SPACE, config, everything, smooth
tune = {"method": "bayesian", "trials": 14, "parallel": 3, "seed": 5, "parameters": SPACE}
print(json.dumps([outcome.values for outcome in everything(config(tune), smooth)]))
"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
    made = config({"method": "bayesian", "trials": 14, "parallel": 3, "seed": 5, "parameters": SPACE})
    assert json.loads(found.pop()) == [outcome.values for outcome in everything(made, smooth)]


def test_lists_of_one_value_each_make_one_trial():
    """As when the trigger form gives what was searched a value."""
    assert trial_count(config({"method": "random", "trials": 9, "parameters": {L2: [2.0]}})) == 1
    assert trial_count(config({"method": "random", "trials": 9, "parameters": {L2: [2.0, 3.0, 4.0]}})) == 3
    assert trial_count(config({"method": "bayesian", "trials": 9, "parameters": {L2: {"low": 1, "high": 2}}})) == 9


def result(number: int, **parameters: float) -> dict[str, Any]:
    return {
        "trial": number,
        "pass": number + 1,
        "parameters": {f"coordinates.{k}.l2": v for k, v in parameters.items()},
    }


def test_the_nearest_trial_is_so_in_the_logarithm_of_penalties():
    made = config(**{"global": [0.01, 100.0], "per_user": [0.01, 100.0]})
    results = [
        result(n, **{"global": g, "per_user": u}) for n, (g, u) in enumerate([(100, 100), (1, 1), (0.01, 100)], 1)
    ]
    equally_far = [(10, 10), (0.1, 10)]  # from two: the first of them
    for (g, u), nearest in [((30, 90), 1), ((0.1, 1), 2), ((0.02, 11), 3), *zip(equally_far, (1, 2), strict=True)]:
        values = {"coordinates.global.l2": float(g), L2: float(u)}
        assert nearest_trial(made, values, results) == {"trial": nearest, "pass": nearest + 1}
    assert nearest_trial(made, values, []) is None


def test_zero_penalties_have_a_nearest_trial_too():
    made = config(per_user=[0.0, 0.1, 10.0])
    results = [result(1, per_user=10.0), result(2, per_user=0.1)]
    assert nearest_trial(made, {L2: 0.0}, results) == {"trial": 2, "pass": 3}


def test_a_grid_goes_down_from_each_trial_to_the_next():
    made = config(per_user=[0.1, 1, 10, 100])
    results: list[dict[str, Any]] = []
    for number in range(1, 5):
        values = propose(made, number, [])[number]
        start = nearest_trial(made, values, results)
        assert start == (None if number == 1 else {"trial": number - 1, "pass": number})
        results.append({"trial": number, "pass": number + 1, "parameters": values})
    assert list(itertools.chain(*(r["parameters"].values() for r in results))) == [100, 10, 1, 0.1]
