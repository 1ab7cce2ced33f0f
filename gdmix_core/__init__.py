"""Mixed-effect (GLMix) model training: the library and the `gdmix` command.

For notebooks, the names below can be imported from here; each is loaded when it is first asked for, so that importing
the package costs nothing (Airflow parses DAG files every half minute).
"""

from __future__ import annotations

import importlib
from typing import Any

from gdmix_core.compiled_code import choose_place

__version__ = "0.1.0"

_HOMES = {
    "Bag": "gdmix_core.data.ragged",
    "Config": "gdmix_core.config.pipeline",
    "Coordinate": "gdmix_core.config.coordinate",
    "CoefficientTable": "gdmix_core.models.table",
    "EntityRows": "gdmix_core.data.entity_rows",
    "Frame": "gdmix_core.data.frame",
    "GlobalObjective": "gdmix_core.solvers.large.objective",
    "Penalties": "gdmix_core.effects.random.penalties",
    "Prior": "gdmix_core.effects.random.entity_models",
    "Run": "gdmix_core.pipeline.run",
    "fit_entity_models": "gdmix_core.effects.random.entity_models",
    "load_config": "gdmix_core.pipeline.loading",
    "minimize": "gdmix_core.solvers.large.lbfgs",
    "parse_metric": "gdmix_core.metrics.registry",
    "penalties_of": "gdmix_core.effects.random.penalties",
    "read_avro": "gdmix_core.models.avro.files",
    "read_model": "gdmix_core.models.native",
    "read_scores": "gdmix_core.scoring.score_files",
    "run_pipeline": "gdmix_core.execution.local_run",
    "TrainerInput": "gdmix_core.effects.python.trainer_input",
    "ScoreColumns": "gdmix_core.scoring.score_files",
    "score_entity_rows": "gdmix_core.effects.random.entity_models",
    "score_input": "gdmix_core.scoring.score_input",
    "write_avro": "gdmix_core.models.avro.files",
    "write_scores": "gdmix_core.scoring.score_files",
}

__all__ = ["__version__", *_HOMES]


choose_place()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
