"""The description of this package that Airflow's provider manager shows (`airflow providers list`)."""

from __future__ import annotations

import importlib.metadata
from typing import Any


def get_provider_info() -> dict[str, Any]:
    return {
        "package-name": "gdmix-airflow",
        "name": "GDMix",
        "description": "Mixed-effect (GLMix) models: one global model plus one small model per entity.",
        "versions": [importlib.metadata.version("gdmix-airflow")],
    }
