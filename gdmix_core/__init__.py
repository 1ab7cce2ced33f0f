"""Mixed-effect (GLMix) model training: the library and the `gdmix` command.

For notebooks, the names below can be imported from here; each is loaded when it is first asked for, so that importing
the package costs nothing (Airflow parses DAG files every half minute).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gdmix_core.compiled_code import choose_place

if TYPE_CHECKING:
    from gdmix_core.config.coordinate import Coordinate as Coordinate
    from gdmix_core.config.pipeline import Config as Config
    from gdmix_core.data.entity_rows import EntityRows as EntityRows
    from gdmix_core.data.frame import Frame as Frame
    from gdmix_core.data.ragged import Bag as Bag
    from gdmix_core.effects.python.trainer_input import TrainerInput as TrainerInput
    from gdmix_core.effects.random.entity_models import Prior as Prior
    from gdmix_core.effects.random.entity_models import fit_entity_models as fit_entity_models
    from gdmix_core.effects.random.entity_models import score_entity_rows as score_entity_rows
    from gdmix_core.effects.random.penalties import Penalties as Penalties
    from gdmix_core.effects.random.penalties import penalties_of as penalties_of
    from gdmix_core.execution.local_run import run_pipeline as run_pipeline
    from gdmix_core.metrics.registry import parse_metric as parse_metric
    from gdmix_core.models.avro.files import read_avro as read_avro
    from gdmix_core.models.avro.files import write_avro as write_avro
    from gdmix_core.models.native import read_model as read_model
    from gdmix_core.models.table import CoefficientTable as CoefficientTable
    from gdmix_core.pipeline.loading import load_config as load_config
    from gdmix_core.pipeline.run import Run as Run
    from gdmix_core.scoring.score_files import ScoreColumns as ScoreColumns
    from gdmix_core.scoring.score_files import read_scores as read_scores
    from gdmix_core.scoring.score_files import write_scores as write_scores
    from gdmix_core.scoring.score_input import score_input as score_input
    from gdmix_core.solvers.large.lbfgs import minimize as minimize
    from gdmix_core.solvers.large.objective import GlobalObjective as GlobalObjective

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
