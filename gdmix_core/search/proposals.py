"""The values that each trial tries: a grid's combinations, or what Optuna proposes.

A round's proposals follow from the configuration and the results of the rounds before it, so they are the same whoever
works them out: every process of a round works out its own.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdmix_core.config.pipeline import Config
from gdmix_core.config.search_space import Candidates, searched, settings_of_search, trials_of_round
from gdmix_core.config.tune import Range
from gdmix_core.extras import require
from gdmix_core.metrics.registry import parse_metric

# Optuna's own default; a shorter search would never get beyond random proposals, so a third of it must do.
_RANDOM_AT_FIRST = 10


@dataclass(frozen=True)
class TrialResult:
    """The result of a finished trial. value: of the primary metric, None where it is undefined."""

    values: Mapping[str, float]
    value: float | None


def propose(config: Config, round_number: int, before: Sequence[TrialResult]) -> dict[int, dict[str, float]]:
    """Values by key path for every trial of the round, by its number.

    before: results of all trials of earlier rounds, in their order; only a Bayesian search looks at them.
    """
    numbers = trials_of_round(config, round_number)
    parameters, tune = searched(config), settings_of_search(config)
    if tune.method == "grid":
        combinations = list(itertools.product(*(_in_order(*item) for item in parameters.items())))
        return {number: dict(zip(parameters, combinations[number - 1], strict=True)) for number in numbers}
    if tune.method == "random":
        # A seed for each trial: what is proposed does not depend on the size of rounds.
        return {number: _randomly(parameters, _seed(tune.seed, number)) for number in numbers}
    return dict(zip(numbers, _by_model(config, len(numbers), _seed(tune.seed, round_number), before), strict=True))


def _in_order(path: str, candidates: Candidates) -> list[float]:
    """Strong penalties first: their models are nearest to the zeros that the first trial starts from."""
    assert isinstance(candidates, list)
    return sorted(candidates, reverse=True) if path.endswith(".l2") else candidates


def _randomly(parameters: Mapping[str, Candidates], seed: int) -> dict[str, float]:
    optuna = _optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return dict(study.ask(_distributions(parameters)).params)


def _by_model(config: Config, count: int, seed: int, before: Sequence[TrialResult]) -> list[dict[str, float]]:
    optuna = _optuna()
    tune, distributions = settings_of_search(config), _distributions(searched(config))
    higher = parse_metric(config.primary_metric).higher_is_better
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            # Trials of one round do not know each other's results: each is taken for a bad one, so they spread out.
            constant_liar=True,
            n_startup_trials=min(_RANDOM_AT_FIRST, -(-(tune.trials or 0) // 3)),
        )
    study = optuna.create_study(sampler=sampler, direction="maximize" if higher else "minimize")
    states = optuna.trial.TrialState
    for result in before:
        study.add_trial(
            optuna.trial.create_trial(
                # Pruned ones rank behind all that have a value.
                state=states.PRUNED if result.value is None else states.COMPLETE,
                value=result.value,
                params={path: result.values[path] for path in distributions},
                distributions=distributions,
            )
        )
    return [dict(study.ask(distributions).params) for _ in range(count)]


def _distributions(parameters: Mapping[str, Candidates]) -> dict[str, Any]:
    kinds = _optuna().distributions

    def distribution(candidates: Candidates) -> Any:
        if not isinstance(candidates, Range):
            return kinds.CategoricalDistribution(candidates)
        if candidates.integer:
            return kinds.IntDistribution(int(candidates.low), int(candidates.high), log=candidates.log)
        return kinds.FloatDistribution(candidates.low, candidates.high, log=candidates.log)

    return {path: distribution(candidates) for path, candidates in parameters.items()}


def _seed(seed: int, number: int) -> int:
    """32 bits of their own for every trial or round: neighbouring seeds must not share streams."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")


def _optuna() -> Any:
    require("optuna", "search", "a search of method random or bayesian")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
