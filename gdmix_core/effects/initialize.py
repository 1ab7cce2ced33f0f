"""The step `initialize`: the models that a run starts from, in its own shards and features, and their scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.effects.effect import effect_of
from gdmix_core.effects.text.training import prepare_networks
from gdmix_core.models.initial import newest_run
from gdmix_core.models.initial.layout import write_initial
from gdmix_core.models.initial.locate import InitialFiles, find_initial, fingerprint
from gdmix_core.models.initial.network import InitialNetwork
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.training_context import TrainingContext

log = logging.getLogger(__name__)


def initialize(run: Run, step: Step) -> dict[str, Any]:
    """Write <run>/initial and, last, its manifest.json; return {coordinates: {name: counts}, models: of all of them}.

    Raises DataError when models are absent or do not fit: another task, an id that is not an integer where the entity
    column holds integers, no variances where a prior needs them; ConfigError for networks of another architecture;
    StepError from the process that lays out text networks.
    """
    choice = newest_run.recorded(run)
    models = find_initial(run.config, choice)
    files = fingerprint(models)
    run.set_fingerprints(initial=files)

    def work() -> dict[str, Any]:
        counts = _write_initial(run, step, models, choice)
        return {"coordinates": counts, "initial_fingerprint": files, "initial_model": choice and asdict(choice)}

    return _result(once(run, step, work)["coordinates"])


def _write_initial(
    run: Run, step: Step, models: Mapping[str, InitialFiles | InitialNetwork], choice: newest_run.Choice | None
) -> dict[str, Any]:
    """Write the models and their scores; return each coordinate's counts."""
    run_directory.clear(run.path("initial"))
    frame = Frame(run)
    counts: dict[str, Any] = {}
    if not models:
        log.warning("initial_model: %s", choice or "no models")
    elif choice is not None:
        log.info("initial_model: %s", choice)
    for name, coordinate in run.config.coordinates.items():
        model = models.get(name)
        if isinstance(model, InitialFiles):
            counts[name] = write_initial(run, frame, name, model)
            write_initial_scores(TrainingContext.of_first_pass(run, name))
        elif model is None and models and coordinate.takes_initial_model:
            log.warning("%s: the initial model has none; it starts from nothing", name)
        elif coordinate.effect.is_network and not coordinate.takes_initial_model:
            log.info("%s: starts anew (warm_start: false)", name)
    if any(isinstance(model, InitialNetwork) for model in models.values()):
        counts |= prepare_networks(run, step)
    return counts


def _result(counts: dict[str, Any]) -> dict[str, Any]:
    return {"coordinates": counts, "models": sum(described["models"] for described in counts.values())}


def write_initial_scores(context: TrainingContext) -> None:
    """Write what a coordinate's initial model gives every row: a part of the others' offsets until it is trained."""
    effect = effect_of(context.settings.kind)
    for split in SPLITS:
        if rows := context.frame.rows(split):
            found = effect.initial_scores(context, split)
            scores = np.zeros(rows, np.float32) if found is None else found
            storage.write_array(context.run.scores(0, context.name, split), scores)
