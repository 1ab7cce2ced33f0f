"""Airflow operators and the DAG factory for mixed-effect model training.

The names below can be imported from here; each is loaded, and Airflow with it, when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdmix_operators.factory import add_pipeline as add_pipeline
    from gdmix_operators.factory import build_dag as build_dag
    from gdmix_operators.operators.partition import PartitionOperator as PartitionOperator
    from gdmix_operators.operators.steps import AccelerateOperator as AccelerateOperator
    from gdmix_operators.operators.steps import EvaluateOperator as EvaluateOperator
    from gdmix_operators.operators.steps import ExportOperator as ExportOperator
    from gdmix_operators.operators.steps import GroupShardsOperator as GroupShardsOperator
    from gdmix_operators.operators.steps import InitializeOperator as InitializeOperator
    from gdmix_operators.operators.steps import PassGateOperator as PassGateOperator
    from gdmix_operators.operators.steps import SelectOperator as SelectOperator
    from gdmix_operators.operators.steps import SummarizeOperator as SummarizeOperator
    from gdmix_operators.operators.steps import TakeExternalScoresOperator as TakeExternalScoresOperator
    from gdmix_operators.operators.steps import TrainFixedEffectOperator as TrainFixedEffectOperator
    from gdmix_operators.operators.steps import TrainPythonEffectOperator as TrainPythonEffectOperator
    from gdmix_operators.operators.steps import TrainRandomEffectOperator as TrainRandomEffectOperator
    from gdmix_operators.operators.steps import TrainTextEffectOperator as TrainTextEffectOperator
    from gdmix_operators.operators.steps import TrialOperator as TrialOperator
    from gdmix_operators.operators.validate import ValidateOperator as ValidateOperator

_HOMES = {
    "add_pipeline": "factory",
    "build_dag": "factory",
    "PartitionOperator": "operators.partition",
    "ValidateOperator": "operators.validate",
} | dict.fromkeys(
    (
        "AccelerateOperator", "EvaluateOperator", "ExportOperator", "GroupShardsOperator", "InitializeOperator",
        "PassGateOperator", "SelectOperator", "SummarizeOperator", "TakeExternalScoresOperator",
        "TrainFixedEffectOperator", "TrainPythonEffectOperator", "TrainRandomEffectOperator",
        "TrainTextEffectOperator", "TrialOperator",
    ),
    "operators.steps",
)  # fmt: skip

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gdmix_core.extras import require

    require("airflow", "airflow", f"gdmix_operators.{name}")
    return getattr(importlib.import_module(f"gdmix_operators.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
