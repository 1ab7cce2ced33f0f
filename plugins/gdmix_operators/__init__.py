"""Airflow operators and the DAG factory for mixed-effect model training.

The names below can be imported from here; each is loaded, and Airflow with it, when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdmix_operators.factory import add_pipeline as add_pipeline
    from gdmix_operators.factory import build_dag as build_dag
    from gdmix_operators.operators.evaluate import EvaluateOperator as EvaluateOperator
    from gdmix_operators.operators.export import ExportOperator as ExportOperator
    from gdmix_operators.operators.gate import PassGateOperator as PassGateOperator
    from gdmix_operators.operators.initialize import InitializeOperator as InitializeOperator
    from gdmix_operators.operators.partition import PartitionOperator as PartitionOperator
    from gdmix_operators.operators.select import SelectOperator as SelectOperator
    from gdmix_operators.operators.summarize import SummarizeOperator as SummarizeOperator
    from gdmix_operators.operators.take_external_scores import TakeExternalScoresOperator as TakeExternalScoresOperator
    from gdmix_operators.operators.train_fixed_effect import TrainFixedEffectOperator as TrainFixedEffectOperator
    from gdmix_operators.operators.train_python_effect import TrainPythonEffectOperator as TrainPythonEffectOperator
    from gdmix_operators.operators.train_random_effect import TrainRandomEffectOperator as TrainRandomEffectOperator
    from gdmix_operators.operators.train_text_effect import TrainTextEffectOperator as TrainTextEffectOperator
    from gdmix_operators.operators.trial import TrialOperator as TrialOperator
    from gdmix_operators.operators.validate import ValidateOperator as ValidateOperator

_HOMES = {
    "add_pipeline": "factory",
    "build_dag": "factory",
    "EvaluateOperator": "operators.evaluate",
    "ExportOperator": "operators.export",
    "InitializeOperator": "operators.initialize",
    "PartitionOperator": "operators.partition",
    "PassGateOperator": "operators.gate",
    "SelectOperator": "operators.select",
    "SummarizeOperator": "operators.summarize",
    "TakeExternalScoresOperator": "operators.take_external_scores",
    "TrainFixedEffectOperator": "operators.train_fixed_effect",
    "TrainPythonEffectOperator": "operators.train_python_effect",
    "TrainRandomEffectOperator": "operators.train_random_effect",
    "TrainTextEffectOperator": "operators.train_text_effect",
    "TrialOperator": "operators.trial",
    "ValidateOperator": "operators.validate",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gdmix_core.extras import require

    require("airflow", "airflow", f"gdmix_operators.{name}")
    return getattr(importlib.import_module(f"gdmix_operators.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
