"""The best pass's models, copied out of the run in the formats asked for; an export needs nothing else to score."""

from __future__ import annotations

import logging
from typing import Any

from gdmix_core.data.frame import Frame
from gdmix_core.effects.effect import effect_of
from gdmix_core.pipeline import run_directory
from gdmix_core.pipeline.once import once
from gdmix_core.pipeline.plan import Step, pass_of_model, train_id
from gdmix_core.pipeline.run import Run
from gdmix_core.search.selection import selected_run
from gdmix_core.training_context import TrainingContext

log = logging.getLogger(__name__)


def export(run: Run, step: Step) -> dict[str, Any]:
    """Write <run>/export and, last, its manifest.json; return {path, pass, formats, models}."""

    def after(content: dict[str, Any]) -> None:
        log.info("exported pass %d to %s", content["pass"], run.path("export"))

    content = once(run, step, lambda: _export(run), after=after)
    models = {name: c["models"] for name, c in content["coordinates"].items()}
    return {"path": run.path("export"), "pass": content["pass"], "formats": content["formats"], "models": models}


def _export(run: Run) -> dict[str, Any]:
    best, chosen = run.result("select"), selected_run(run)
    frame = Frame(run)
    run_directory.clear(run.path("export"))
    coordinates = {
        name: _export_coordinate(chosen, frame, best["pass"], name, run.path("export", name))
        for name in run.config.coordinates
    }
    return {
        "config": chosen.config.model_dump(mode="json", exclude_none=True),
        "pass": best["pass"],
        "metrics": best["metrics"],
        "formats": list(run.config.export.formats),
        "uid_type": frame.manifest["uid_type"],
        "coordinates": coordinates,
    }


def _export_coordinate(run: Run, frame: Frame, best: int, name: str, directory: str) -> dict[str, Any]:
    settings = run.config.coordinates[name]
    training = run.plan.of_coordinate(train_id(pass_of_model(run.config, best, name), name))
    models = effect_of(settings.kind).export(TrainingContext(run, training), directory)
    entity = None if settings.random_effect is None else settings.random_effect.entity
    return {
        "kind": settings.kind,
        "entity": entity,
        "entity_type": frame.manifest["ids"][entity] if entity else None,
        "bag": settings.bag,
        "data": settings.data,
        "intercept": settings.has_coefficients and settings.intercept,
        "models": models,
    }
